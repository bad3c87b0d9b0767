"""The key of a request in the cache: a digest of all that may change its answer. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from llama_client.types.media import has_address
from llama_client.types.messages import AssistantMessage, ImagePart
from llama_client.types.request import ChatRequest

# Part of each key, so that a version that reads keys or answers otherwise never finds those of this one.
_VERSION = 1
_DIGEST_BYTES = 32
# Programs may make up values of tags.
_MAX_PLACES = 1024
# What changes no answer: how it travels (`stream`, `timeout`), what it is called (`tags`), for which end user it is,
# and the second name of `max_tokens`, which has the limit too. The others are written below, in one form.
_LEFT_OUT = {
    "stream", "stream_options", "timeout", "tags", "user", "max_completion_tokens", "answer_class", "stop",
    "logit_bias", "extra_body", "extra_headers", "n", "logprobs",
}  # fmt: skip


@lru_cache(_MAX_PLACES)
def place_of(identity: str, namespace: str, values: tuple[str | None, ...]) -> bytes:
    """What a key begins with: the model's identity, the namespace, and the values of the tags that divide it."""
    return json.dumps([_VERSION, identity, namespace, *values]).encode()


def key_of(request: ChatRequest, place: bytes) -> bytes:
    """The key of a request at a place. Equal requests have equal keys, however they were written."""
    # pydantic has brought the fields in one order, numbers in one type, tuples and lists in one form, and None and what
    # was left out to the same. JSON has no raw line end, so that the parts cannot run into each other.
    fields = ChatRequest.__pydantic_serializer__.to_json(request, exclude=_LEFT_OUT, warnings=False)
    return blake2b(b"\n".join((place, fields, _rest(request))), digest_size=_DIGEST_BYTES).digest()


def _rest(request: ChatRequest) -> bytes:
    """The fields that may be written in several forms, and what pydantic does not serialise."""
    rest: dict[str, Any] = {}
    if request.n is not None and request.n > 1:
        rest["n"] = request.n
    if request.logprobs:
        rest["logprobs"] = True
    if request.stop is not None:
        rest["stop"] = request.stops
    if request.logit_bias:
        rest["logit_bias"] = _in_order(request.logit_bias)
    if request.extra_body:
        # Within a field the order counts: that of a schema's properties is that of the answer.
        rest["extra_body"] = _in_order(request.extra_body)
    if request.extra_headers:
        rest["extra_headers"] = _in_order({name.lower(): text for name, text in request.extra_headers.items()})
    if request.answer_class is not None:
        made = request.answer_class
        rest["answer_class"] = f"{made.__module__}.{made.__qualname__}"
    # Reasoning goes back to the target that made it, and to no other.
    makers = [each.made_by for each in request.messages if type(each) is AssistantMessage]
    if any(maker is not None for maker in makers):
        rest["made_by"] = makers
    return json.dumps(rest).encode() if rest else b""


def _in_order(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: item[0])


def is_whole(request: ChatRequest) -> bool:
    """Whether a request has all that its answer depends on: what stands behind an address may change."""
    for message in request.messages:
        if not isinstance(message.content, str | None) or message.__pydantic_extra__:
            break
    else:
        if request.tools is None and request.extra_body is None:
            return True
    is_remote = any(
        isinstance(part, ImagePart) and not part.image_url.url.startswith("data:") for part in request.parts
    )
    return not is_remote and not has_address(request)
