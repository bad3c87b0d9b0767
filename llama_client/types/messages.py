"""The messages of a request, in OpenAI's shape."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
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
from pydantic_core import PydanticCustomError

from llama_client.types.completion import Message, OpenAnswerModel, ToolCall
from llama_client.types.deferred import DeferredModel
from llama_client.types.server_fields import CONTENT_PARTS, REASONING_NAMES
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


# Deeper values are refused; the parsers of servers go to a few hundred, and the stack of Python to a thousand.
_MAX_DEPTH = 256
_PLAIN_VALUES = frozenset({int, bool, type(None)})


def json_value(value: Any) -> Any:
    """A deep copy, which the caller cannot change later; of texts, which may be files of megabytes, none."""
    size = [0]
    copy = _copied(value, 0, size)
    if size[0] > _MAX_TEXT_CHARS:
        raise broken_rule("", f"must have at most {_MAX_TEXT_CHARS} characters, got {size[0]}")
    return copy


def _copied(value: Any, depth: int, size: list[int]) -> Any:
    if isinstance(value, str):
        size[0] += len(value)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise broken_rule("", "must be Unicode text, without lone surrogates") from None
        return value
    size[0] += 1
    if type(value) in _PLAIN_VALUES or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth > _MAX_DEPTH:
        raise broken_rule("", f"must not be nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {_copied(name, 0, size): _copied(inner, depth + 1, size) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner, depth + 1, size) for inner in value]
    remedy = "; write them as base64" if isinstance(value, bytes | bytearray) else ""
    raise broken_rule("", f"must contain only JSON values, got {_kind(value)}{remedy}")


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping with names that are no text"
    return "a number that JSON does not have" if isinstance(value, float) else f"a {type(value).__name__}"


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
JsonValue = Annotated[Any, AfterValidator(json_value)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_json_object)]
HeaderName = Annotated[Text, AfterValidator(header_name)]
HeaderValue = Annotated[Text, AfterValidator(header_value)]


class RequestPart(DeferredModel):
    """A request or a part of one, immutable; unknown names are errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class OpenPart(RequestPart):
    """A part of a request that takes any further name: what servers know beyond OpenAI's, and we do not."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    if not TYPE_CHECKING:
        # Type checkers would take it for a parameter.
        __pydantic_extra__: dict[str, JsonValue]


class TextPart(OpenPart):
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


class ImageURL(OpenPart):
    """An image: an address, or a `data:` URI, also made from bytes and files."""

    url: Annotated[SomeText, BeforeValidator(_image_url)]
    detail: Text | None = None


def _with_url(value: object) -> object:
    # Mistral's shorter form.
    return {"url": value} if isinstance(value, str | bytes | bytearray | Path) else value


class ImagePart(OpenPart):
    type: Literal["image_url"]
    image_url: Annotated[ImageURL, BeforeValidator(_with_url)]


class OtherPart(OpenPart):
    """A part of any other type: a file, a video, a sound, or what a server has beyond these."""

    type: SomeText

    @model_validator(mode="after")
    def _holds_something(self) -> OtherPart:
        if not self.__pydantic_extra__:
            raise broken_rule("", "a part needs its content beside the type")
        return self


def kind_of(part: object) -> object:
    return part.get("type") if isinstance(part, Mapping) else getattr(part, "type", None)


def _part_tag(part: object) -> str | None:
    kind = kind_of(part)
    if kind in ("text", "image_url"):
        return f"={kind}"
    return "=other" if isinstance(kind, str) and kind else None


ContentPart = Annotated[
    Annotated[TextPart, Tag("=text")] | Annotated[ImagePart, Tag("=image_url")] | Annotated[OtherPart, Tag("=other")],
    Discriminator(
        _part_tag, custom_error_type="content_part", custom_error_message="type must be text, such as 'image_url'"
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


class PromptMessage(OpenPart):
    role: Literal["system", "developer", "user"]
    content: Content
    name: Text | None = None


def _arguments(value: object) -> object:
    # Some servers send an object, or nothing where there are none, and such a message may be handed back as it came.
    if value is None:
        return "{}"
    return json.dumps(json_value(value), ensure_ascii=False) if isinstance(value, Mapping) else value


class CalledFunction(OpenPart):
    name: SomeText
    arguments: Annotated[Text, BeforeValidator(_arguments)] = "{}"


class AssistantToolCall(OpenPart):
    id: Text
    type: SomeText = "function"
    function: CalledFunction | None = None

    @model_validator(mode="after")
    def _calls_something(self) -> AssistantToolCall:
        if self.type == "function" and self.function is None:
            raise broken_rule("function", "is required")
        return self


# Under this name `plain_messages` tells who made a message. No server's field has it.
_MADE_BY = "\0made_by"
# What may stand for the content of an answer.
_INSTEAD_OF_CONTENT = frozenset({*REASONING_NAMES, "reasoning_details", "thinking_blocks", "function_call", "audio"})


class AssistantMessage(OpenPart):
    role: Literal["assistant"]
    content: Content | None = None
    name: Text | None = None
    tool_calls: Annotated[tuple[AssistantToolCall, ...], BeforeValidator(as_tuple)] | None = None
    # The target that made it; None: unknown. Told only of what has more than a role and a text.
    made_by: str | None = Field(default=None, alias="\0made_by", exclude=True)

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        extra = self.__pydantic_extra__
        if self.content is None and not self.tool_calls and not (extra and extra.keys() & _INSTEAD_OF_CONTENT):
            raise broken_rule("content", "an assistant message needs content or tool_calls")
        return self


class ToolMessage(OpenPart):
    role: Literal["tool"]
    content: Content
    tool_call_id: SomeText
    name: Text | None = None


def _handed_back(message: Message[Any]) -> dict[str, Any]:
    """The message of an earlier answer, with all that the server had put on it."""
    plain = {"role": message.role, "content": message.content, **_extra_of(message)}
    parts = plain.get(CONTENT_PARTS)
    if parts is not None and (not isinstance(parts, list) or text_of(parts) != (message.content or "")):
        # The caller has written another content.
        del plain[CONTENT_PARTS]
        parts = None
    if message.reasoning is not None and not parts and not any(name in plain for name in REASONING_NAMES):
        plain["reasoning"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [_called(call) for call in message.tool_calls]
    if message._made_by is not None and len(plain) > 2:
        plain[_MADE_BY] = message._made_by
    return plain | {"refusal": message.refusal}


def _called(call: ToolCall) -> dict[str, Any]:
    extra = _extra_of(call)
    kind = extra.pop("tool_type", None)
    if kind is not None:
        return {**extra, "id": call.id, "type": kind}
    function = {**_extra_of(call.function), "name": call.function.name, "arguments": call.function.arguments}
    return {**extra, "id": call.id, "type": "function", "function": function}


def _extra_of(part: OpenAnswerModel) -> dict[str, Any]:
    # An empty list, as OpenAI's `annotations`, says nothing, and a message without it is a plain one.
    extra = part.__pydantic_extra__ or {}
    return {name: value for name, value in extra.items() if value not in (None, [], {}) and _is_json(value)}


def _is_json(value: object) -> bool:
    """Whether a value can be sent; a server's NaN cannot, and is no fault of the caller."""
    try:
        json_value(value)
    except PydanticCustomError:
        return False
    return True


def text_of(parts: Iterable[Any]) -> str:
    """The text in the parts of an answer's content."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _plain_part(part: object) -> object:
    """A tool call or a part of a content as a dict, also where it, or what is in it, is an object of an answer."""
    if isinstance(part, ToolCall):
        return _called(part)
    if isinstance(part, BaseModel):
        return part.model_dump(by_alias=True, exclude_none=True)
    if isinstance(part, Mapping) and any(isinstance(inner, BaseModel) for inner in part.values()):
        return {name: _plain_part(inner) if isinstance(inner, BaseModel) else inner for name, inner in part.items()}
    return part


def _plain_message(message: object) -> object:
    """A message, also the message object of an earlier reply, as a dict without None and what is only ours."""
    if isinstance(message, Message):
        message = _handed_back(message)
    else:
        if isinstance(message, BaseModel):
            message = message.model_dump(exclude_none=True)
        if isinstance(message, Mapping) and _MADE_BY in message:
            message = {key: value for key, value in message.items() if key != _MADE_BY}
    if not isinstance(message, Mapping):
        return message
    plain = {key: value for key, value in message.items() if value is not None}
    if isinstance(plain.get("content"), list | tuple):
        plain["content"] = [_plain_part(part) for part in plain["content"]]
    role = message.get("role")
    if role == "tool" and "content" in message:
        plain.setdefault("content", "")  # of a tool that gives nothing
    if role != "assistant":
        return plain
    plain.pop("parsed", None)
    refusal = plain.pop("refusal", None)
    if isinstance(plain.get("tool_calls"), list | tuple):
        # Without the index, which only the parts of a stream have.
        plain["tool_calls"] = [
            {key: value for key, value in call.items() if key != "index" and value is not None}
            if isinstance(call, Mapping)
            else call
            for call in map(_plain_part, plain["tool_calls"])
        ]
        if not plain["tool_calls"]:
            del plain["tool_calls"]  # an empty list, which OpenAI and vLLM refuse
    if isinstance(plain.get("content"), list | tuple) and not plain["content"]:
        plain["content"] = ""
    if "content" not in plain and not plain.get("tool_calls") and isinstance(refusal, str):
        # A message must have content.
        plain["content"] = refusal
    if any(plain.get(name) == plain.get("reasoning") for name in REASONING_NAMES[1:] if name in plain):
        # Our name for the same text, beside the server's own, in an answer that was saved as JSON.
        plain.pop("reasoning", None)
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
