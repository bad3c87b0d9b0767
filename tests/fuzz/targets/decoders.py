"""Bodies and streams of every dialect, as bytes: chunks or our error, the same however they are cut."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from llama_client import ChatCompletionChunk, ProviderError
from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.groq_together import GroqCodec, TogetherCodec
from llama_client.providers.services import SERVICES
from llama_client.providers.wire.ollama_request import OllamaCodec
from llama_client.providers.wire.openai_codec import CompatibleCodec, abilities_unknown
from llama_client.routing.accumulator import Accumulator
from llama_client.routing.attempt import require_plain
from llama_client.types.request import check_request
from tests.fuzz.target import Target, lines_of, pieces_of, require
from tests.property.test_decoders import NEARLY_FAILURE, NEARLY_OLLAMA, NEARLY_OPENAI, REQUEST, VALUES, streams

_LARGEST_COUNT = 10**12
_GIVEN_ID = re.compile(r"call_[0-9a-f]{24}")
_STATUSES = (200, 300, 304, 400, 401, 402, 403, 404, 413, 422, 429, 498, 500, 503, 529)
# How many times its lines a stream of twice the length may take; quadratic work takes four times as many.
_GROWTH, _FIXED_LINES = 3, 2000
# Every dialect: a codec class, or quirks that its streams and bodies go through.
_NAMES = ("openai", "groq", "together", "ollama", "mistral", "deepseek", "gemini", "openrouter")


def _codecs() -> dict[str, Any]:
    rows = {name: SERVICES[name] for name in _NAMES if name in SERVICES}
    classes = {"groq": GroqCodec, "together": TogetherCodec}
    codecs: dict[str, Any] = {
        name: classes.get(name, CompatibleCodec)(abilities_unknown, row.quirks) for name, row in rows.items()
    }
    return {**codecs, "ollama": OllamaCodec(abilities_unknown, options={"num_ctx": 64})}


CODECS = list(_codecs().values())
_OLLAMA = list(_codecs()).index("ollama")
_REQUESTS = [check_request({**REQUEST, "logprobs": True, "top_logprobs": 2}, stream=stream) for stream in (False, True)]


def call(*, stream: bool) -> ProviderCall:
    return ProviderCall(_REQUESTS[stream], "x", "m", "req_1", None, AttemptFacts())


def checked(chunk: object) -> str:
    """A chunk as JSON, without the ids that were made for it."""
    require(isinstance(chunk, ChatCompletionChunk), "what comes out is a chunk")
    assert isinstance(chunk, ChatCompletionChunk)
    usage = chunk.usage
    for count in () if usage is None else (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens):
        require(count is None or (type(count) is int and 0 <= count <= 2 * _LARGEST_COUNT), "counts are in bounds")
    for choice in chunk.choices:
        require(choice.finish_reason is None or choice.finish_reason != "", "a finish reason is a word")
        for made in choice.delta.tool_calls or ():
            require(made.function is not None and isinstance(made.function.arguments, str), "arguments are text")
    return _GIVEN_ID.sub("call_", chunk.model_dump_json())


def _whole(codec: Any, status: int, body: bytes) -> None:
    this, answer = call(stream=False), HttpAnswer(status, {"content-type": "application/json"}, body, 1e9)
    if status >= 300:
        found = codec.failure(answer, this)
        require(isinstance(found, ProviderError | ChatCompletionChunk), "a refusal is our error or a rescued answer")
        if isinstance(found, ProviderError):
            require(str(found), "an error says something")
            wait_s = found.retry_after_s
            require(wait_s is None or 0 <= wait_s < float("inf"), "a wait is finite")
            return
        chunk = found
    else:
        try:
            chunk = codec.decode(answer, this)
        except ProviderError:
            return
    checked(chunk)
    require_plain(this.facts)


def _streamed(codec: Any, pieces: list[bytes]) -> list[str]:
    this, error = call(stream=True), ""
    chunks: list[ChatCompletionChunk] = []
    answer = Accumulator()
    decoder = codec.stream(HttpAnswer(200, {"content-type": "text/event-stream"}, b"", 1e9), this)
    try:
        for piece in pieces:
            # One by one, since what comes before an error counts.
            for chunk in decoder.feed(piece):
                chunks.append(chunk)  # noqa: PERF402
        for chunk in decoder.end():
            chunks.append(chunk)  # noqa: PERF402
    except ProviderError as failure:
        error = f"{type(failure).__name__}: {failure}"
    for chunk in chunks:
        answer.add(chunk)
    for choice in answer.choices():
        choice.model_dump_json()
    require_plain(this.facts)
    require(decoder.is_done in (True, False) and decoder.is_complete in (True, False), "a decoder knows its state")
    return [*map(checked, chunks), error]


def check(data: bytes) -> None:
    """The first three bytes choose the dialect, the status or that it is a stream, and how it is cut."""
    if len(data) < 3:
        return
    codec, how, cut, body = CODECS[data[0] % len(CODECS)], data[1], data[2], data[3:]
    if how & 1:
        status = _STATUSES[(how >> 1) % len(_STATUSES)]
        _whole(codec, status, body)
        return
    whole = _streamed(codec, [body])
    require(_streamed(codec, pieces_of(body, cut)) == whole, "the same chunks however a stream is cut")
    if cut == 1:
        counted = [lines_of(lambda times=times: _streamed(codec, [body * times])) for times in (8, 16)]  # type: ignore[misc]
        require(counted[1] <= _GROWTH * counted[0] + _FIXED_LINES, "a stream of twice the length takes twice the work")


def _event(name: str, value: Any) -> bytes:
    text = json.dumps(value).encode()
    return text + b"\n" if name == "ollama" else b"data: " + text + b"\n\n"


_CALL = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}
_LOGPROBS = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1}]}
_CHUNKS: list[Any] = [
    {"id": "c", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi"}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [_CALL]}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"name": "g", "arguments": {"b": 2}}}]}}]},
    {"choices": [{"index": 1, "delta": {"content": [{"type": "text", "text": "x"}]}, "finish_reason": "eos"}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "queue_time": 0.1}},
    {"choices": [], "x_groq": {"id": "req", "usage": {"prompt_tokens": 3}}, "timings": {"predicted_per_second": 9}},
    {"choices": [{"index": 0, "delta": {}, "logprobs": _LOGPROBS}]},
    {"error": {"message": "no", "code": "tool_use_failed", "failed_generation": "<function=f>{}</function>"}},
]  # fmt: skip
_LINES: list[Any] = [
    {"model": "m", "message": {"role": "assistant", "content": "Hi", "thinking": "hm"}, "done": False},
    {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}},
    {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 63, "eval_count": 2,
     "eval_duration": 1000, "total_duration": 5, "logprobs": [{"token": "a", "logprob": -1.0, "bytes": [97]}]},
    {"error": '{"error":{"message":"no","code":500}}'},
]  # fmt: skip
_MESSAGE = {"role": "assistant", "content": "Hi", "tool_calls": [_CALL]}
_BODIES: list[Any] = [
    {"id": "c", "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}], "usage": {"total_tokens": 5}},
    {"model": "m", "message": _MESSAGE, "done": True},
    {"error": {"message": "This model's maximum context length is 8", "code": "context_length_exceeded"}},
    {"error": "model 'x' not found", "status_code": 404},
    [{"error": {"code": 429, "message": "try again in 7.5s", "status": "RESOURCE_EXHAUSTED"}}],
    {"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
    {"detail": [{"loc": ["body"], "msg": "field required"}]},
]


def _seeds() -> tuple[bytes, ...]:
    seeds = []
    for number, name in enumerate(_codecs()):
        events = [_event(name, value) for value in (_LINES if name == "ollama" else _CHUNKS)]
        whole = b": ping\r\n\r\n" + b"".join(events) + b"data: [DONE]\n\n"
        seeds += [bytes((number, 0, 7)) + whole, bytes((number, 0, 1)) + events[0], bytes((number, 0, 0)) + events[1]]
        for value in _BODIES:
            seeds += [bytes((number, how, 0)) + json.dumps(value).encode() for how in (1, 7, 21)]
    return tuple(seeds)


@st.composite
def _cases(draw: st.DrawFn) -> bytes:
    number, cut = draw(st.integers(0, len(CODECS) - 1)), draw(st.integers(0, 255))
    if draw(st.booleans()):
        value = draw(st.one_of(NEARLY_OPENAI, NEARLY_OLLAMA, NEARLY_FAILURE))
        how = 1 + 2 * draw(st.integers(0, len(_STATUSES) - 1))
        return bytes((number, how, cut)) + json.dumps(value).encode()
    if draw(st.integers(0, 3)) == 0:
        return bytes((number, 0, cut)) + draw(streams())
    values = draw(st.lists(VALUES, min_size=1, max_size=4))
    name = "ollama" if number == _OLLAMA else ""
    return bytes((number, 0, cut)) + b"".join(_event(name, value) for value in values)


_TOKENS = tuple(
    b'data: |data:|event: error\n|: |\n\n|\r\n|\r|[DONE]|\xef\xbb\xbf|"choices":[|"delta":{|"message":{|"content":|'
    b'"tool_calls":[|"function":{|"arguments":|"index":|"id":|"error":{|"code":|"usage":{|"prompt_tokens":|'
    b'"finish_reason":"stop"|"logprobs":{|"top_logprobs":[|"x_groq":{|"timings":{|"done":true|"done_reason":|'
    b'"prompt_eval_count":|null|true|1e400|-1|1e999|9999999999999999999|"\\ud800"|{}|[]|,|}|]'.split(b"|")
)


@contextmanager
def opened() -> Iterator[Target]:
    yield Target("decoders", check, _seeds(), _cases(), _TOKENS, lines=(30_000, 400))
