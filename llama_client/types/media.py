"""What is in the parts of a request that may hold anything: texts, media, and addresses that a server would fetch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llama_client.types.messages import AssistantMessage, ContentPart, ImagePart, OpenPart, TextPart
from llama_client.types.server_fields import ANSWER_NAMES, ANSWER_PARTS, CONTENT_PARTS

if TYPE_CHECKING:
    from llama_client.types.messages import RequestMessage
    from llama_client.types.request import ChatRequest

# Types of parts that are texts by another name.
_TEXTS = ANSWER_PARTS | {"input_text", "output_text", "refusal"}
# Types of what has its text under one of the names below, at any depth.
_TYPES_OF_TEXT = _TEXTS | {"text", "summary_text", "reasoning_text"}
_NAMES_OF_TEXT = frozenset({"text", "thinking", "reasoning", "content", "summary", "refusal"})
# What an answer tells of its making and its sources; the rest may be media.
_TOLD = ANSWER_NAMES - {"audio", "images", CONTENT_PARTS, "function_call"}
# Texts and schemas of a tool, and what a tool is called with.
_OF_TOOL = frozenset({"description", "server_description", "parameters", "input_schema", "output_schema"})
_OF_CALL = frozenset({"arguments", "input"})
# The names under which servers take schemas, grammars and templates, which name addresses that nobody fetches.
_OF_BODY = frozenset(
    {"json_schema", "response_format", "format", "structured_outputs", "guided_json", "guided_regex", "guided_choice"}
    | {"guided_grammar", "grammar", "regex", "chat_template", "stop"}
)
# As lenient parsers read them: with control characters, backslashes, and no slashes where the scheme tells enough.
# `data:` has no slashes behind it.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\t\r\n-]*:[\t\r\n]*"
_ADDRESS = re.compile(
    rf"[\0-\x20]*(?:{_SCHEME}[/\\]|(?:https?|ftps?|wss?|file):\S|[/\\]{{2}}[^/\\?#]*[.:%@\[])", re.IGNORECASE
)
# A host without dots. Base64 may look like one (an MP3 file begins with two slashes), but is longer as a whole.
_SHORT_HOST = re.compile(r"[\0-\x20]*[/\\]{2}[\w-]{1,63}(?:[/\\?#]|\s*$)")
_MAX_ADDRESS_CHARS = 2048


def is_medium(part: ContentPart) -> bool:
    """Whether it is an image, a file, a video, a sound, or what else is no text."""
    return not isinstance(part, TextPart) and part.type not in _TEXTS


def texts_in(part: ContentPart) -> Iterator[str]:
    """The texts that the model reads of a part, as far as they are known to be texts."""
    if isinstance(part, TextPart):
        yield part.text
    if not is_medium(part):
        yield from texts_in_extra(part)


def texts_in_extra(part: OpenPart) -> Iterator[str]:
    yield from _strings(part.__pydantic_extra__ or {})


def has_address(request: ChatRequest) -> bool:
    """Whether a server could be made to fetch something by what a request holds beyond texts and OpenAI's images."""
    return (
        any(_is_fetched(part) for part in request.parts)
        or any(_message_has_address(message) for message in request.messages)
        or any(_open_has_address(tool, _OF_TOOL) for tool in request.tools or ())
        or (isinstance(request.tool_choice, OpenPart) and _open_has_address(request.tool_choice))
        or _holds_address(request.extra_body or {}, _OF_TOOL | _OF_BODY)
    )


def _is_fetched(part: ContentPart) -> bool:
    if isinstance(part, ImagePart):
        return _open_has_address(part) or _open_has_address(part.image_url)
    return _holds_address({"type": part.type, **(part.__pydantic_extra__ or {})})


def _message_has_address(message: RequestMessage) -> bool:
    if not isinstance(message, AssistantMessage):
        return _open_has_address(message)
    return _open_has_address(message, _TOLD) or any(
        _open_has_address(call, _OF_CALL) for call in message.tool_calls or ()
    )


def _open_has_address(part: OpenPart, left_out: frozenset[str] = frozenset()) -> bool:
    """Whether there is one under the names that we do not know, also those of its function."""
    function = getattr(part, "function", None)
    return (part.__pydantic_extra__ is not None and _holds_address(part.__pydantic_extra__, left_out)) or (
        isinstance(function, OpenPart) and _open_has_address(function, left_out)
    )


def _holds_address(extra: Mapping[str, Any], left_out: frozenset[str] = frozenset()) -> bool:
    left: list[object] = [extra]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if _is_address(value):
                return True
        elif isinstance(value, Mapping):
            kind = value.get("type")
            is_text = isinstance(kind, str) and kind in _TYPES_OF_TEXT
            left += [
                inner
                for name, inner in value.items()
                if name not in left_out and not (is_text and name in _NAMES_OF_TEXT and isinstance(inner, str))
            ]
        elif isinstance(value, list):
            left += value
    return False


def _is_address(text: str) -> bool:
    return _ADDRESS.match(text) is not None or (len(text) <= _MAX_ADDRESS_CHARS and _SHORT_HOST.match(text) is not None)


def _strings(value: object) -> Iterator[str]:
    """The strings in a JSON value."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list):
            left += value
