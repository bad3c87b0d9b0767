"""The body of a request for a chat, read: whatever it holds, nothing raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_client.testing.loopback import Received

# The ends of the addresses that take chats.
OPENAI_CHAT = "/chat/completions"
OLLAMA_CHAT = "/api/chat"


def body_of(received: Received) -> Any:
    """The body, parsed; None: it is no JSON."""
    try:
        return received.json
    except ValueError:
        return None


def messages_of(body: object) -> list[dict[str, Any]]:
    """The messages of a body."""
    messages = body.get("messages") if isinstance(body, dict) else None
    return [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, which may be a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [each.get("text") for each in content if isinstance(each, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def is_chat(method: str, path: str) -> bool:
    """Whether an address takes chats."""
    return method == "POST" and path.partition("?")[0].endswith((OPENAI_CHAT, OLLAMA_CHAT))


def asks_for_stream(body: object, *, is_ollama: bool) -> bool:
    """Whether the answer is to be a stream, which is Ollama's default."""
    return bool(body.get("stream", is_ollama)) if isinstance(body, dict) else is_ollama
