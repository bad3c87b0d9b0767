"""An answer shown while it is made, in the call shape of the OpenAI and Groq packages.

Run it after `llama-client pull smollm2-135m`; it needs no configuration. Expected output:

    The capital city of Germany is Berlin.
    finished: stop
"""

from llama_client import LlamaClient

with LlamaClient() as client:
    question = {"role": "user", "content": "What is the capital city of Germany?"}
    with client.chat.completions.create(messages=[question], temperature=0, stream=True) as stream:
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
    print("finished:", stream.completion.choices[0].finish_reason)
