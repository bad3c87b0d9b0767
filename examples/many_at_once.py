"""Eight questions at once on two slots of one loaded model: the event loop stays free, slots go in order of arrival.

Run it after `llama-client pull smollm2-135m`. Expected output:

    The capital of Japan is Tokyo.
    The capital city of Germany is Berlin.
    ... three more times
"""

import asyncio

from llama_client import AsyncLlamaClient

QUESTIONS = ["What is the capital of Japan?", "What is the capital city of Germany?"] * 4


async def main() -> None:
    """Asks them all, and prints the answers in the order of the questions."""
    async with AsyncLlamaClient({"providers": {"gguf": {"n_parallel": 2}}}) as client:
        replies = await asyncio.gather(*(client.ask(question, temperature=0) for question in QUESTIONS))
    for reply in replies:
        print(reply.text)


asyncio.run(main())
