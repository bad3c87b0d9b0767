"""The bytes of a scripted reply, as the API that was asked writes them."""

from __future__ import annotations

from llama_client.testing.loopback import Answer
from llama_client.testing.script.asked import AskedRequest
from llama_client.testing.script.ollama_speech import OllamaSpeech
from llama_client.testing.script.openai_speech import OpenAISpeech
from llama_client.testing.script.replies import Reply


def spoken(reply: Reply, asked: AskedRequest, *, now: float) -> Answer:
    """The bytes of a reply to a request.

    Args:
        reply: What is said.
        asked: The request.
        now: Unix time in seconds.
    """
    speech = OllamaSpeech(reply, asked, now) if asked.is_ollama else OpenAISpeech(reply, asked, now)
    return speech.stream() if asked.stream else speech.whole()
