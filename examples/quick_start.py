"""One question, and what is known of its answer.

Run it after `llama-client pull smollm2-135m`; it needs no configuration. Expected output:

    The capital of Japan is Tokyo.
    answered by gguf/smollm2-135m for $0 (free), 8 tokens
"""

from llama_client import LlamaClient

with LlamaClient() as client:
    reply = client.ask("What is the capital of Japan?", temperature=0)
    print(reply.text)
    cost, usage = reply.cost, reply.usage
    print(f"answered by {reply.target} for ${cost.usd} ({cost.status}), {usage.completion_tokens} tokens")
