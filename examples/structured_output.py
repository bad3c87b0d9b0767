"""An answer as an object: the model's schema is sent with the request, and the answer is checked against it.

Run it after `llama-client pull smollm2-135m`; it needs no configuration. Expected output:

    answer='Tokyo'
"""

from pydantic import BaseModel

from llama_client import LlamaClient


class Answer(BaseModel):
    answer: str


with LlamaClient() as client:
    reply = client.chat.completions.parse(
        messages=[{"role": "user", "content": "What is the capital of Japan?"}], response_format=Answer, temperature=0
    )
    print(reply.choices[0].message.parsed)
