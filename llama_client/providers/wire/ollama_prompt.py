"""What Ollama makes of a prompt: whether it has probably cut it, and whether it leaves an answer open. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_client.providers.wire.decoders import json_value
from llama_client.providers.wire.go_template import TemplateError, actions_in, names_in, rendered
from llama_client.providers.wire.usage import below, count

if TYPE_CHECKING:
    from llama_client.providers.base import AttemptFacts
    from llama_client.types.request import ChatRequest

# Ollama's default contexts, chosen by the memory of the machine, where nothing sets another one.
_DEFAULT_CONTEXTS = (4096, 32768, 262144)
# Ordinary text has 3 to 5 bytes a token; "hello world" again and again has 6, with the vocabularies of Llama 3 and
# Qwen. Where a prompt seems to have more, a part of it was not read: Ollama 0.34.2 cuts a lone message to about half of
# the context, and a conversation by whole messages.
_MOST_BYTES_PER_TOKEN = 6.5
# A prompt whose text would take less of the context than this, at an ordinary 4 bytes a token, fits.
_FITTING_BYTES_PER_TOKEN = 4.0
# Older versions cut a prompt to all of the context; then this much text for what was read suffices.
_LONG_BYTES_PER_TOKEN = 5.0
_NEARLY_FULL = 0.95
# No context is shorter than 256 tokens.
_LEAST_BYTES = 1024
# A line of a Modelfile: the model's prompts are made by code of Ollama's own, whatever the template says.
_RENDERER = re.compile(r"^[ \t]*RENDERER\s", re.IGNORECASE | re.MULTILINE)
_BEGINNING = "The beginning of an answer"


def text_bytes(request: ChatRequest) -> int:
    """The bytes of the text that a prompt is made of, without what tools and templates add."""
    contents = [message.content for message in request.messages]
    parts = [part for content in contents for part in (content if isinstance(content, tuple) else (content,))]
    return sum(len(text.encode()) for part in parts if isinstance(text := getattr(part, "text", part), str))


def prompt_tokens(facts: AttemptFacts) -> int | None:
    """The tokens of the prompt that were read, by the last object of an answer; None: unknown."""
    last = facts.body if facts.body is not None else facts.bodies[-1] if facts.bodies else None
    body = json_value(last) if isinstance(last, bytes) else last
    return count(below(body, "prompt_eval_count"))


def is_suspect(tokens: int | None, size_bytes: int) -> bool:
    """Whether the prompt may have been cut, so that its context should be looked up."""
    return bool(tokens) and size_bytes >= _LEAST_BYTES and size_bytes >= (tokens or 0) * _LONG_BYTES_PER_TOKEN


def was_probably_cut(tokens: int, size_bytes: int, context: int | None) -> bool:
    """Whether so few tokens of so much text mean that the rest was left out; `context` is None where unknown."""
    bytes_per_token = size_bytes / tokens
    for each in _DEFAULT_CONTEXTS if context is None else (context,):
        is_long = size_bytes >= each * _FITTING_BYTES_PER_TOKEN
        most = _LONG_BYTES_PER_TOKEN if tokens >= each * _NEARLY_FULL else _MOST_BYTES_PER_TOKEN
        if tokens <= each and is_long and bytes_per_token >= most:
            return True
    return False


def context_in(request: ChatRequest, options: Mapping[str, Any]) -> int | None:
    """The context that a request asks for; None: it leaves that to the model."""
    given = (request.extra_body or {}).get("options")
    own = given if isinstance(given, dict) else {}
    return count(own.get("num_ctx", options.get("num_ctx"))) or None


def leaves_answer_open(shown: object) -> bool:
    """Whether a model is known, by the answer of `/api/show`, to go on with an assistant message at the end.

    Of the 20 templates that Ollama 0.34 has for GGUF files none does: they close each message and begin a new one.
    """
    template, modelfile = below(shown, "template"), below(shown, "modelfile")
    if not isinstance(template, str) or not template.strip() or below(shown, "renderer"):
        return False
    if isinstance(modelfile, str) and _RENDERER.search(modelfile):
        return False
    if "{%" in template:
        # Jinja, of the GGUF file itself: llama.cpp's server renders it, and leaves the last message open.
        return True
    try:
        if "messages" in {name.lower() for name in names_in(template)}:
            return all(_ends_open(template, thinks=thinks) for thinks in (False, True))
        # Ollama renders each turn by itself, and cuts off the last one behind its answer.
        first = next((action for action in actions_in(template) if ".Response" in action), None)
    except TemplateError:
        return False
    return first in (None, ".Response")


def _ends_open(template: str, *, thinks: bool) -> bool:
    messages = [{"Role": "user", "Content": "A question"}, {"Role": "assistant", "Content": _BEGINNING}]
    values = {"System": "", "Messages": messages, "Tools": None, "Response": "", "ThinkLevel": ""}
    return rendered(template, {**values, "Think": thinks, "IsThinkSet": thinks}).rstrip().endswith(_BEGINNING)
