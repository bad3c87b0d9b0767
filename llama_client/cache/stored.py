"""An answer as the cache keeps it, and which answers it may keep. No I/O."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from llama_client.types.completion import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Delta,
    Source,
    ToolCall,
    ToolCallDelta,
    unchecked,
)

if TYPE_CHECKING:
    from llama_client.types.request import ChatRequest

# Ends that are the model's own. `length` is one only where the request has the limit: else the answer was cut by
# another, which is not in the key.
_WHOLE = frozenset({"stop", "tool_calls", "function_call"})
# What an answer takes beside its bytes: in memory its objects, in a database its row.
_OVERHEAD_BYTES = 500
_Body = dict[str, Any] | bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """One answer.

    Attributes:
        chunk: The answer as a chunk, in JSON.
        usd: What it cost; None: unknown.
        at: When it was made, in Unix time.
        sources: What it is based on.
        body: The provider's own body.
        bodies: The provider's own bodies of a stream.
        warnings: Those that are about the request.
    """

    chunk: bytes
    usd: Decimal | None
    at: float
    sources: tuple[Source, ...] = ()
    body: bytes | None = None
    bodies: tuple[bytes, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        bodies = sum(map(len, self.bodies)) + sum(map(len, self.warnings))
        return _OVERHEAD_BYTES * (1 + len(self.sources)) + len(self.chunk) + len(self.body or b"") + bodies

    def as_chunk(self, request_id: str, target: str, provider: str) -> ChatCompletionChunk:
        """A new chunk, which the caller may change."""
        chunk: ChatCompletionChunk = ChatCompletionChunk.__pydantic_validator__.validate_json(self.chunk)
        # Past pydantic's own `__setattr__`, which takes longer than to parse the chunk.
        chunk.__dict__.update(request_id=request_id, target=target, provider=provider)
        return chunk


def is_kept(request: ChatRequest, choices: Sequence[Choice]) -> bool:
    """Whether an answer is whole and the model's own: neither cut, nor filtered, nor refused, nor empty."""
    for choice in choices:
        message = choice.message
        if choice.finish_reason not in _WHOLE and (choice.finish_reason != "length" or request.max_tokens is None):
            return False
        if message.refusal or not (message.content or message.tool_calls):
            return False
    return len(choices) == (request.n or 1)


def chunk_of(
    first: ChatCompletionChunk | ChatCompletion, choices: Sequence[Choice], usage: Any, service_tier: str | None
) -> bytes:
    """A whole answer as one chunk, in JSON."""
    values = {
        "id": first.id,
        "object": "chat.completion.chunk",
        "created": first.created,
        "model": first.model,
        "choices": [_chunk_choice(choice) for choice in choices],
        "usage": usage,
        "system_fingerprint": first.system_fingerprint,
        "service_tier": service_tier,
        "target": "",
        "provider": "",
        "request_id": "",
    }
    return ChatCompletionChunk.__pydantic_serializer__.to_json(unchecked(ChatCompletionChunk, values), warnings=False)


def _chunk_choice(choice: Choice) -> ChunkChoice:
    message = choice.message
    calls = [_call_delta(index, call) for index, call in enumerate(message.tool_calls or ())]
    delta = {
        "role": "assistant",
        "content": message.content,
        "tool_calls": calls or None,
        "reasoning": message.reasoning,
        "refusal": message.refusal,
    }
    values = {
        "index": choice.index,
        "delta": unchecked(Delta, delta, extra=dict(message.__pydantic_extra__ or {})),
        "finish_reason": choice.finish_reason,
        "logprobs": choice.logprobs,
    }
    return unchecked(ChunkChoice, values)


def _call_delta(index: int, call: ToolCall) -> ToolCallDelta:
    from llama_client.types.completion import FunctionDelta

    function = call.function
    named = {"name": function.name, "arguments": function.arguments}
    values = {
        "index": index,
        "id": call.id,
        "type": "function",
        "function": unchecked(FunctionDelta, named, extra=dict(function.__pydantic_extra__ or {})),
    }
    return unchecked(ToolCallDelta, values, extra=dict(call.__pydantic_extra__ or {}))


def bytes_of(body: _Body) -> bytes:
    return body if isinstance(body, bytes) else to_json(body)


def packed(stored: Stored) -> bytes:
    """For a database: compressed, with a checksum of zlib's own."""
    whole = {
        "chunk": stored.chunk.decode(),
        "usd": None if stored.usd is None else str(stored.usd),
        "at": stored.at,
        "sources": [source.model_dump(mode="json") for source in stored.sources],
        "body": None if stored.body is None else stored.body.decode("utf-8", "replace"),
        "bodies": [body.decode("utf-8", "replace") for body in stored.bodies],
        "warnings": stored.warnings,
    }
    return zlib.compress(json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogatepass"), 1)


# What reading a damaged value raises.
DAMAGED = (zlib.error, ValueError, TypeError, KeyError, ArithmeticError, AttributeError)


def unpacked(value: bytes, most_bytes: int) -> Stored:
    """Raises one of `DAMAGED` where the value is not one of `packed`, or unpacks to more than that."""
    opened = zlib.decompressobj()
    whole = opened.decompress(value, most_bytes)
    if opened.unconsumed_tail or not opened.eof:
        raise ValueError("the value is cut, or too long")
    fields = from_json(whole)
    chunk = fields["chunk"].encode()
    # Checked here, off the call's path: a hit only parses it again.
    ChatCompletionChunk.__pydantic_validator__.validate_json(chunk)
    body = fields["body"]
    return Stored(
        chunk,
        None if fields["usd"] is None else Decimal(fields["usd"]),
        float(fields["at"]),
        tuple(Source.model_validate(source) for source in fields["sources"]),
        None if body is None else body.encode(),
        tuple(each.encode() for each in fields["bodies"]),
        tuple(str(each) for each in fields.get("warnings", ())),
    )
