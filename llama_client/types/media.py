"""What is in the parts of a request that may hold anything: texts, media, and addresses that a server would fetch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llama_client.types.messages import AssistantMessage, ContentPart, ImagePart, OpenPart, TextPart
from llama_client.types.server_fields import ANSWER_NAMES, ANSWER_PARTS

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Types of parts that are texts by another name.
_TEXTS = ANSWER_PARTS | {"input_text", "output_text", "refusal"}
# Names of what is read as it is, and never fetched.
_READ = frozenset({"text", "thinking", "content", "summary", "title", "name", "description", "refusal"})
# A scheme; `data:` has no slashes behind it.
_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:/")


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
    """Whether a server could be made to fetch something by what a message holds beyond texts and OpenAI's images."""
    return any(_is_fetched(part) for part in request.parts) or any(
        _holds_address(message.__pydantic_extra__, ANSWER_NAMES if isinstance(message, AssistantMessage) else _READ)
        for message in request.messages
        if message.__pydantic_extra__
    )


def _is_fetched(part: ContentPart) -> bool:
    if isinstance(part, ImagePart):
        return _holds_address(part.__pydantic_extra__) or _holds_address(part.image_url.__pydantic_extra__)
    return part.type not in ANSWER_PARTS and _holds_address(part.__pydantic_extra__)


def _holds_address(extra: Mapping[str, Any] | None, read: frozenset[str] = _READ) -> bool:
    return any(_ADDRESS.match(text) is not None for text in _strings(extra or {}, read))


def _strings(value: object, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
    """The texts in a JSON value, but for those under some names."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += [inner for name, inner in value.items() if name not in left_out]
        elif isinstance(value, list):
            left += value
