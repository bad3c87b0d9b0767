"""Whatever bytes a provider sends, however the network cuts them: the same events, bounded memory, our errors alone."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llama_client import InvalidResponseError, ProviderError
from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.groq_together import GroqCodec, TogetherCodec
from llama_client.providers.services import SERVICES
from llama_client.providers.wire.decoders import NdjsonDecoder, ServerSentEvent, SseDecoder
from llama_client.providers.wire.errors import Failure, error_of
from llama_client.providers.wire.ollama_request import OllamaCodec
from llama_client.providers.wire.openai_codec import CompatibleCodec, abilities_unknown
from llama_client.providers.wire.rate_limits import duration_s, rate_limit, retry_after_s
from llama_client.providers.wire.tool_calls_in_text import tool_calls_in
from llama_client.providers.wire.usage import count
from llama_client.types.completion import ChatCompletionChunk
from llama_client.types.request import Tool, check_request

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

MARK = b"\xef\xbb\xbf"
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.one_of(
    st.sampled_from([b"", b"data", b"data:", b"data: x", b"data:y", b"data:  z", b"data:: 1", b"data: [DONE]"]),
    st.sampled_from(
        [b": ping", b":", b"event: error", b"event:ping", b"event", b"event: \xc3", b"id: 7", b"retry: 10"]
    ),
    st.sampled_from([b"", b"dat: a", b" data: a", b"DATA: a", MARK + b"data: b", b"data: \xff\xfe"]),
    st.sampled_from(["data: Zürich 🦙".encode(), b"data: 1\x0b\x0c\x85\xe2\x80\xa82"]),
    st.binary(max_size=12)
    .map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
    # No field of the standard, and an error here; JSON in no event is one too.
    .filter(lambda line: not line.startswith((b"error:", b"{", b"["))),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(LINES, ENDS), max_size=16))
    start = draw(st.sampled_from([b"", b"", MARK]))
    last = draw(st.one_of(st.just(b""), LINES))
    return start + b"".join(line + end for line, end in lines) + last


@st.composite
def cuts(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    whole = draw(contents)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    starts, ends = [0, *places], [*places, len(whole)]
    return whole, [whole[start:end] for start, end in zip(starts, ends, strict=True)]


def whatwg(stream: bytes) -> list[ServerSentEvent]:
    """The WHATWG's rules, word for word, with our deviation: what is pending at the end of the stream counts."""
    events, name, data = [], b"", b""
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(MARK)), b""]:
        if not line:
            if data:
                events.append(ServerSentEvent(name.decode("utf-8", "replace") or "message", data[:-1]))
            name, data = b"", b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
    return events


def events_of(pieces: list[bytes], **limits: int) -> list[ServerSentEvent]:
    decoder = SseDecoder(**limits)
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()


def lines_of(pieces: list[bytes], **limits: int) -> list[bytes]:
    decoder = NdjsonDecoder(**limits)
    return [line for piece in pieces for line in decoder.feed(piece)] + decoder.end()


@thorough
@given(cuts(streams()))
@example((b"data: 1\r\n\r\n", [b"data: 1\r", b"\n\r", b"\n"]))
@example((MARK + b"data: 1\n\n", [MARK[:1], MARK[1:2], MARK[2:] + b"data: 1\n\n"]))
@example((b"event: error\n\ndata: 1\n\n", [b"event: error\n\ndata: 1\n\n"]))
@example((b"data: 1\nevent: late\n\ndata: 2\n\n", [b"data: 1\nevent: late\n\ndata: 2\n\n"]))
def test_events_are_those_of_the_standard_however_they_are_cut(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    assert events_of(pieces) == events_of([whole]) == whatwg(whole)


@quick
@given(cuts(streams()))
def test_lines_are_the_same_however_they_are_cut(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    expected = [line for line in re.split(rb"\r\n|\n|\r", whole.removeprefix(MARK)) if line.strip()]
    assert lines_of(pieces) == lines_of([whole]) == expected


@quick
@given(st.text(min_size=1, max_size=30), st.integers(1, 3))
def test_a_character_cut_in_two_arrives_whole(text: str, size: int) -> None:
    stream = b"data: " + json.dumps({"a": text}, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n"
    (event,) = events_of([stream[start : start + size] for start in range(0, len(stream), size)])
    assert json.loads(event.data.decode("utf-8", "surrogatepass")) == {"a": text}


def refuses(read: Callable[..., Any], pieces: list[bytes], limit: int) -> bool:
    try:
        read(pieces, max_event_bytes=limit)
    except InvalidResponseError:
        return True
    return False


@thorough
@given(cuts(streams()), st.integers(1, 24), st.sampled_from([events_of, lines_of]))
@example((b"1\n2222222222222222\n", [b"1", b"\n2222222222222222\n"]), 10, lines_of)
def test_what_is_too_long_is_so_however_it_is_cut(
    case: tuple[bytes, list[bytes]], limit: int, read: Callable[..., Any]
) -> None:
    whole, pieces = case
    assert refuses(read, pieces, limit) == refuses(read, [whole], limit)


@quick
@given(st.integers(1, 40), st.sampled_from([b"data: ", b"data:"]), st.integers(1, 40), st.sampled_from([b"data:", b""]))
@example(13, b"data: ", 4, b"data:")
def test_an_event_is_as_long_as_its_own_data_alone(first: int, field: bytes, second: int, other: bytes) -> None:
    """Not as its own and that of the event before it."""
    other = other or field
    stream = field + b"1" * first + b"\n\n" + other + b"2" * second + b"\n\n"
    limit = max(len(field) + first, len(other) + second)
    assert [len(event.data) for event in events_of([stream], max_event_bytes=limit)] == [first, second]


def feed_forever(decoder: Any, piece: bytes) -> None:
    while True:
        decoder.feed(piece)


@pytest.mark.parametrize("decoder", [SseDecoder, NdjsonDecoder])
@pytest.mark.parametrize(
    "piece",
    [b"x" * 4096, b"data: " + b"x" * 500 + b"\n", b"data: 12345678\n", b"xyz"],
    ids=["line", "lines", "short", "3"],
)
def test_an_endless_event_is_given_up_before_it_fills_the_memory(decoder: Any, piece: bytes) -> None:
    limit = 1 << 18
    decoding = decoder(max_event_bytes=limit, max_stream_bytes=limit * 8)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidResponseError):
            feed_forever(decoding, piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A bytes object and its place in a list weigh 45 bytes, so very short pieces weigh some times their own.
    assert peak < limit * (2 if len(piece) > 100 else 20)


@pytest.mark.parametrize("decoder", [SseDecoder, NdjsonDecoder])
@pytest.mark.parametrize("piece", [b": ping\n", b"\n", b"\r", b"data: 1\n\n", b"event: x\n\n"])
def test_an_endless_stream_of_small_things_is_given_up_and_holds_nothing(decoder: Any, piece: bytes) -> None:
    decoding = decoder(max_event_bytes=100, max_stream_bytes=1 << 18)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidResponseError, match=r"without an event; aborted|exceeds \d+ bytes; aborted"):
            feed_forever(decoding, piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 15


# Values that a provider might put anywhere, with names that mean something to us.
_NAMES = """
choices delta message content role tool_calls function name arguments index id type error code status status_code
usage prompt_tokens completion_tokens total_tokens cached_tokens prompt_tokens_details queue_time logprobs tokens
token_logprobs top_logprobs token logprob bytes finish_reason done done_reason x_groq timings predicted_per_second
failed_generation reasoning reasoning_content thinking refusal object model created total_duration load_duration
prompt_eval_count eval_count eval_duration detail error_type param n_ctx n_prompt_tokens text service_tier
"""
NAMES = st.sampled_from(_NAMES.split())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**30, 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["stop", "eos", "error", "tool_use_failed", "<function=f>{}</function>", '{"error":{"message":1}}']
    ),
    st.sampled_from(["chat.completion.chunk", "assistant", "context length is " + "9" * 5000]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def nearly(valid: Any) -> st.SearchStrategy[Any]:
    """A valid value in which any part may be something else."""
    if isinstance(valid, dict):
        whole: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional={k: nearly(v) for k, v in valid.items()})
    elif isinstance(valid, list):
        whole = st.lists(nearly(valid[0]), max_size=2)
    else:
        whole = st.just(valid)
    return st.one_of(*[whole] * 9, JSON)


TOKEN = {"token": "a", "logprob": -1.0, "bytes": [1], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {
    "role": "assistant",
    "content": "a",
    "reasoning": "b",
    "refusal": None,
    "tool_calls": [CALL],
    "thinking": "c",
}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 1, "queue_time": 0.1, "total_tokens": 3}
LOGPROBS = {"content": [TOKEN], "tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0, "b": -2.0}]}
CHOICE = {"index": 0, "delta": MESSAGE, "message": MESSAGE, "finish_reason": "stop", "logprobs": LOGPROBS}
FAILURE = {"message": "no", "type": "t", "code": "tool_use_failed", "failed_generation": "<function=f>{}</function>"}
NEARLY_OPENAI = nearly(
    {"id": "c", "created": 1, "model": "m", "choices": [CHOICE], "usage": USAGE}
    | {"timings": {"predicted_per_second": 1.0}, "x_groq": {"id": "r", "usage": USAGE}, "service_tier": "auto"}
)
NEARLY_OLLAMA = nearly(
    {"model": "m", "message": MESSAGE, "done": True, "done_reason": "stop", "logprobs": [TOKEN], "total_duration": 5}
    | {"load_duration": 1, "prompt_eval_count": 3, "eval_count": 2, "eval_duration": 4}
)
NEARLY_FAILURE = nearly({"error": FAILURE, "error_type": "x", "id": "r"})
VALUES = st.one_of(NEARLY_OPENAI, NEARLY_OLLAMA, NEARLY_FAILURE, JSON)

CODECS: dict[str, Any] = {
    "groq": GroqCodec(abilities_unknown, SERVICES["groq"].quirks),
    "together": TogetherCodec(abilities_unknown, SERVICES["together"].quirks),
    "mistral": CompatibleCodec(abilities_unknown, SERVICES["mistral"].quirks),
    "openai": CompatibleCodec(abilities_unknown, SERVICES["openai"].quirks),
    "ollama": OllamaCodec(abilities_unknown, options={}),
}
REQUEST: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def call(*, stream: bool) -> ProviderCall:
    logprobs = {"logprobs": True, "top_logprobs": 2}
    request = check_request({**REQUEST, **logprobs}, stream=stream)
    return ProviderCall(request, "x", "m", "req_1", None, AttemptFacts())


def answer(status: int, body: bytes = b"") -> HttpAnswer:
    return HttpAnswer(status, {"content-type": "application/json"}, body, 1e9)


def read_stream(codec: Any, pieces: list[bytes]) -> list[ChatCompletionChunk]:
    decoder = codec.stream(answer(200), call(stream=True))
    chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    chunks += decoder.end()
    assert decoder.is_complete in (True, False)
    return chunks


def as_event(codec: Any, value: bytes, name: str = "") -> bytes:
    if isinstance(codec, OllamaCodec):
        return value + b"\n"
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + value + b"\n\n"


@each_codec
@quick
@given(cuts(st.one_of(streams(), st.binary(max_size=200))))
def test_any_bytes_in_a_stream_are_chunks_or_our_error(codec: Any, case: tuple[bytes, list[bytes]]) -> None:
    with suppress(ProviderError):
        read_stream(codec, case[1])


@each_codec
@thorough
@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from(["", "", "error", "message"]))
def test_any_json_in_a_stream_is_chunks_or_our_error(codec: Any, values: list[Any], name: str) -> None:
    try:
        chunks = read_stream(codec, [as_event(codec, json.dumps(value).encode(), name) for value in values])
    except ProviderError:
        return
    for chunk in chunks:
        for delta in (choice.delta for choice in chunk.choices):
            for tool_call in delta.tool_calls or ():
                assert tool_call.function is not None
                assert isinstance(tool_call.function.arguments, str)


@each_codec
@quick
@given(st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200)))
def test_any_body_is_an_answer_or_our_error(codec: Any, body: bytes) -> None:
    with suppress(ProviderError):
        assert isinstance(codec.decode(answer(200, body), call(stream=False)), ChatCompletionChunk)


@each_codec
@quick
@given(st.integers(300, 599), st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200)))
def test_any_refusal_is_our_error_or_a_rescued_answer(codec: Any, status: int, body: bytes) -> None:
    found = codec.failure(answer(status, body), call(stream=False))
    assert isinstance(found, ProviderError | ChatCompletionChunk)
    if isinstance(found, ProviderError):
        assert str(found)
        assert found.retry_after_s is None or found.retry_after_s >= 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("together", {"choices": [{"index": 0, "delta": {}, "logprobs": {**LOGPROBS, "top_logprobs": [{"a": None}]}}]}),
        ("together", {"choices": [{"index": 0, "delta": {}, "logprobs": {**LOGPROBS, "top_logprobs": [{"a": "b"}]}}]}),
        ("ollama", {"message": {"content": "a"}, "logprobs": [{"token": "a", "logprob": -1.0, "top_logprobs": 5}]}),
        (
            "ollama",
            {"message": {"content": "a"}, "logprobs": [{"token": "a", "logprob": -1.0, "top_logprobs": {"a": 1}}]},
        ),
        ("groq", {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": {"queue_time": 10**400}}),
        ("openai", {"choices": [{"index": 0, "delta": {}}], "timings": {"predicted_per_second": 10**400}}),
        ("ollama", {"message": {"content": "a"}, "done": True, "total_duration": 10**400}),
    ],
)
def test_values_beyond_all_measure_are_left_out_or_our_error(kind: str, value: Any) -> None:
    with suppress(ProviderError):
        read_stream(CODECS[kind], [as_event(CODECS[kind], json.dumps(value).encode())])


def test_a_refusal_that_tells_a_number_of_5000_digits_is_our_error() -> None:
    message = "maximum context length is " + "9" * 5000
    assert isinstance(error_of(Failure(400, {}, {"error": {"message": message}}, 0.0)), ProviderError)


TOOLS = tuple(Tool.model_validate(tool) for tool in REQUEST["tools"])


@pytest.mark.parametrize(
    "text",
    [
        "<function=f>{}" + " " * 2_000,
        "<function=f" + "\n" * 60_000,
        "<function=f{" * 16_000,
        "<tool_call>{" * 16_000,
        "<tool_call>{}" + " " * 190_000,
    ],
    ids=["spaces-behind", "spaces-within", "functions", "tool-calls", "spaces-behind-a-tool-call"],
)
def test_a_model_that_repeats_itself_does_not_hold_up_the_search_for_tool_calls(text: str) -> None:
    """A model in a loop, or a prompt that sets one off, must not stop the whole process."""
    started = time.process_time()
    assert tool_calls_in(text, TOOLS) is None
    assert time.process_time() - started < 2


@st.composite
def durations(draw: st.DrawFn) -> tuple[str, float]:
    """As Go writes them: the largest unit first, a fraction only in the last."""
    hours, minutes = draw(st.integers(0, 99)), draw(st.integers(0, 59))
    seconds, thousandths = draw(st.integers(0, 59)), draw(st.integers(0, 999))
    if not (hours or minutes or seconds) and thousandths:
        return f"{thousandths}ms", thousandths / 1000
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    fraction = f".{thousandths:03}".rstrip("0") if thousandths else ""
    return f"{text}{seconds}{fraction}s", hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def test_a_duration_may_be_a_number_or_go_s_form() -> None:
    texts = ("2m59.5s", "172ms", "12.5", "soon")
    assert [duration_s(text) for text in texts] == [179.5, 0.172, 12.5, None]


def test_a_count_is_a_whole_number_from_nought_up() -> None:
    assert [count(value) for value in (3, 3.0, True, -1, "3")] == [3, 3, None, None, None]


@quick
@given(durations())
def test_a_duration_that_is_written_is_read(case: tuple[str, float]) -> None:
    text, seconds = case
    assert duration_s(text) == pytest.approx(seconds)
    if seconds:
        said = f"Rate limit reached. Please try again in {text}. Need more?"
        assert retry_after_s({}, message=said, limit=None, now=0.0) == pytest.approx(seconds)
    assert retry_after_s({"x-ratelimit-reset-tokens": text}, message="", limit="tokens", now=0.0) == pytest.approx(
        seconds
    )


NOW = 1_800_000_000
WAITS = [
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "0.5"}, 0.5),
    ({"retry-after": " 3 "}, 3.0),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
    ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
    # The sender's clock is an hour ahead of ours.
    ({"retry-after": formatdate(NOW + 3630, usegmt=True), "date": formatdate(NOW + 3600, usegmt=True)}, 30.0),
    ({"retry-after": "7", "x-ratelimit-reset-tokens": "1m"}, 7.0),
    ({"x-ratelimit-reset-tokens": "1m", "x-ratelimit-reset-requests": "2m"}, 60.0),
    ({"x-ratelimit-reset": "12"}, 12.0),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "-4"}, None),
    ({"retry-after": "soon"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_every_form_of_a_wait_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, message="", limit="tokens", now=NOW) == seconds


HEADERS = st.sampled_from(["retry-after-ms", "retry-after", "date", "x-ratelimit-reset"]) | st.sampled_from(
    ["x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens", "x-tokenlimit-limit", "x-ratelimit-reset-requests"]
)
FORMS = st.one_of(
    st.text(max_size=20),
    st.floats().map(str),
    durations().map(lambda case: case[0]),
    st.integers(-(10**12), 10**12).map(str),
    st.integers(0, 2**37).map(lambda at: formatdate(at, usegmt=True)),
    st.sampled_from(["9" * 400 + "s", "9" * 306 + "h" + "9" * 307 + "m", "1e308h", "Mon, 99 Foo 2020 99:99:99 GMT"]),
    st.sampled_from(["9" * 5000, "1" * 400, "17" + "0" * 304 + "h17" + "0" * 306 + "m"]),
)


@thorough
@given(st.dictionaries(HEADERS, FORMS, max_size=4), FORMS, st.sampled_from(["tokens", "requests", None]))
@example({"x-ratelimit-reset-tokens": "9" * 400 + "s"}, "", "tokens")
@example({"retry-after": "Mon, 99 Foo 2020 99:99:99 GMT"}, "", None)
def test_a_wait_is_a_finite_number_or_none(headers: dict[str, str], form: str, limit: str | None) -> None:
    wait = retry_after_s(headers, message=f"try again in {form}", limit=limit, now=NOW)
    assert wait is None or 0 <= wait < float("inf")
    for said in (rate_limit(headers) or {}).values():
        assert all(value is None or 0 <= value < float("inf") for value in said.values())
