"""The messages of a request, in OpenAI's shape."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictStr,
    Tag,
    model_validator,
)

from llama_client.types.deferred import DeferredModel
from llama_client.validation import broken_rule

# Groq accepts 20 MB by address and 4 MB inline; llama.cpp and Ollama scale every image down.
MAX_IMAGE_BYTES = 20 << 20
_TYPES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def image_type(data: bytes | bytearray) -> str | None:
    """The media type of an image, by its first bytes; None: not a supported image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _TYPES if data.startswith(magic)), None)


# Far above any model's context, and enough for a large image as a data: URI.
_MAX_TEXT_CHARS = 1 << 26
# Models and servers count with 32 bits; larger numbers would wrap around silently.
MAX_COUNT = 2**31 - 1
MAX_TIMEOUT_S = 1_000_000


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    """A deep copy, which the caller cannot change later."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise broken_rule("", f"must contain only JSON values ({type(error).__name__}: {error})") from None
    return copy


# RFC 9110's tokens, and values without line ends, which could inject other headers.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise broken_rule("", "contains an invalid header name; a valid one is X-Team")
    if name.lower() in ("content-length", "transfer-encoding"):
        raise broken_rule("", f"must not contain {name}, which belongs to the body")
    return name


def header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise broken_rule("", "must be one line of ASCII text")
    return value


# The bounds also make pydantic refuse lone surrogates, which JSON cannot express.
Text = Annotated[StrictStr, Field(max_length=_MAX_TEXT_CHARS)]
SomeText = Annotated[StrictStr, Field(min_length=1, max_length=_MAX_TEXT_CHARS)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
HeaderName = Annotated[Text, AfterValidator(header_name)]
HeaderValue = Annotated[Text, AfterValidator(header_value)]


# Keys of an answer's message that most providers refuse in a request.
_ANSWER_ONLY_KEYS = frozenset(
    {
        "reasoning", "reasoning_content", "thinking", "refusal", "parsed", "annotations", "audio", "function_call",
        "executed_tools", "reasoning_details",
    }
)  # fmt: skip


class RequestPart(DeferredModel):
    """A request or a part of one, immutable; unknown names are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class TextPart(RequestPart):
    type: Literal["text"]
    text: Text


def _image_url(value: object) -> object:
    """Bytes and files as `data:` URIs. A str is never a file's path: it may come from an untrusted source."""
    if isinstance(value, Path):
        try:
            with value.expanduser().open("rb") as file:
                value = file.read(MAX_IMAGE_BYTES + 1)
        except (OSError, RuntimeError) as error:
            raise broken_rule("", f"cannot be read ({error})") from None
    if isinstance(value, bytes | bytearray):
        kind = image_type(value)
        if kind is None or len(value) > MAX_IMAGE_BYTES:
            limit = f"{MAX_IMAGE_BYTES >> 20} MiB"
            raise broken_rule("", f"must be a PNG, JPEG, GIF, BMP or WebP image of at most {limit}")
        return f"data:{kind};base64,{base64.b64encode(value).decode()}"
    if isinstance(value, str) and not (value.startswith("data:") or _is_web_address(value)):
        raise broken_rule("", "must be an http(s):// address, a data: URI, a pathlib.Path, or an image's bytes")
    return value


def _is_web_address(text: str) -> bool:
    try:
        # Not more, as most providers fetch the image themselves.
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


class ImageURL(RequestPart):
    """An image: an address, or a `data:` URI, also made from bytes and files."""

    url: Annotated[SomeText, BeforeValidator(_image_url)]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(RequestPart):
    type: Literal["image_url"]
    image_url: ImageURL


def _part_tag(part: object) -> str | None:
    kind = part.get("type") if isinstance(part, Mapping) else getattr(part, "type", None)
    return f"={kind}" if kind in ("text", "image_url") else None


ContentPart = Annotated[
    Annotated[TextPart, Tag("=text")] | Annotated[ImagePart, Tag("=image_url")],
    Discriminator(
        _part_tag, custom_error_type="content_part", custom_error_message="type must be 'text' or 'image_url'"
    ),
]


def as_tuple(value: object) -> object:
    """A sequence (but not text) as a tuple; any other value unchanged, for the validation that follows."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _content_tag(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return "=text"
    return "=parts" if isinstance(content, Sequence) and not isinstance(content, bytes) else None


Parts = Annotated[tuple[ContentPart, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Content = Annotated[
    Annotated[Text, Tag("=text")] | Annotated[Parts, Tag("=parts")],
    Discriminator(
        _content_tag, custom_error_type="content_form", custom_error_message="must be text or a list of content parts"
    ),
]


class PromptMessage(RequestPart):
    role: Literal["system", "developer", "user"]
    content: Content
    name: Text | None = None


class CalledFunction(RequestPart):
    name: SomeText
    arguments: Text


class AssistantToolCall(RequestPart):
    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(RequestPart):
    role: Literal["assistant"]
    content: Content | None = None
    name: Text | None = None
    tool_calls: Annotated[tuple[AssistantToolCall, ...], BeforeValidator(as_tuple)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls:
            raise broken_rule("content", "an assistant message needs content or tool_calls")
        return self


class ToolMessage(RequestPart):
    role: Literal["tool"]
    content: Content
    tool_call_id: SomeText
    name: Text | None = None


def _plain_message(message: object) -> object:
    """A message, also the message object of an earlier reply, as a dict without None and answer-only keys."""
    if isinstance(message, BaseModel):
        message = message.model_dump(exclude_none=True)
    if not isinstance(message, Mapping):
        return message
    plain = {key: value for key, value in message.items() if value is not None and key not in _ANSWER_ONLY_KEYS}
    if message.get("role") != "assistant":
        return plain
    if isinstance(plain.get("tool_calls"), list | tuple):
        # Without the index, which only the parts of a stream have.
        plain["tool_calls"] = [
            {key: value for key, value in call.items() if key != "index"} if isinstance(call, Mapping) else call
            for call in plain["tool_calls"]
        ]
    refusal = message.get("refusal")
    if "content" not in plain and not plain.get("tool_calls") and isinstance(refusal, str):
        # A message must have content.
        plain["content"] = refusal
    return plain


def plain_messages(messages: object) -> object:
    """Dicts and the message objects of earlier replies, all as dicts, ready for validation."""
    if not isinstance(messages, list) and (isinstance(messages, str) or not isinstance(messages, Sequence)):
        raise broken_rule("", "must be a list of messages, such as [{'role': 'user', 'content': 'hi'}]")
    try:
        plain = []
        for message in messages:
            # Nearly all have a role and a text, and nothing else.
            is_plain = type(message) is dict and len(message) == 2 and type(message.get("content")) is str
            plain.append(message if is_plain and type(message.get("role")) is str else _plain_message(message))
        return tuple(plain)
    except Exception as error:
        # A mapping of the user's own may raise anything.
        raise broken_rule("", f"cannot be read ({type(error).__name__})") from error


RequestMessage = Annotated[PromptMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
