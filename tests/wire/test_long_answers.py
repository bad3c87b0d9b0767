"""Answers of many values, or of values that take much memory: an event loop goes on meanwhile, and nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from llama_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncLlamaClient,
    InvalidResponseError,
    LlamaClient,
    LlamaClientError,
    ServerError,
    StreamInterruptedError,
)
from llama_client.providers.base import AttemptFacts
from llama_client.providers.http import exchange
from llama_client.providers.wire import json_steps, openai_codec
from llama_client.providers.wire.openai_codec import CompatibleCodec
from llama_client.providers.wire.openai_response import MAX_TOOL_CALLS
from llama_client.testing.dialects import OLLAMA, OPENAI, Dialect
from llama_client.testing.loopback import Answer, WireServer, as_json, streamed, whole
from llama_client.types.completion import MAX_CHOICES
from tests.asking import MODES, Asker
from tests.lengths import two_modes, values
from tests.wire.asking import KEY, PLENTY_S

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
MIB = 1 << 20
each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])
dialects = pytest.mark.parametrize("dialect", [OPENAI, OLLAMA], ids=str)


def config(url: str, dialect: Dialect = OPENAI) -> dict[str, Any]:
    return {**dialect.config(url, api_key=KEY), "routing": {"retries": 0}}


def answered(mode: str, answer: Answer, dialect: Dialect = OPENAI, **params: Any) -> Any:
    """The completion, or the error."""
    with WireServer(lambda _: answer) as server:
        try:
            return Asker(mode, config(server.url, dialect), [])(MESSAGES, **params)
        except LlamaClientError as error:
            return error


def tool_calls(count: int) -> list[dict[str, Any]]:
    function = {"name": "look", "arguments": '{"at": "llamas"}'}
    return [{"index": i, "id": f"c{i}", "type": "function", "function": function} for i in range(count)]


def log_probabilities(count: int) -> dict[str, Any]:
    tops = [{"token": f"t{i}", "logprob": -1.5, "bytes": [116]} for i in range(20)]
    return {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": tops}] * count}


def answer_of(count: int, what: str) -> dict[str, Any]:
    """A whole answer with so many of one thing."""
    body: dict[str, Any] = OPENAI.whole()
    choice = body["choices"][0]
    match what:
        case "tool calls":
            choice["message"]["tool_calls"] = tool_calls(count)
        case "choices":
            body["choices"] = [{**choice, "index": index} for index in range(count)]
        case "log probabilities":
            choice["logprobs"] = log_probabilities(count)
        case "citations":
            body["citations"] = [f"https://llamas.test/{i}" for i in range(count * 60)]
        case "parts":
            choice["message"]["content"] = [{"type": "text", "text": "hum "}] * count
    return body


THINGS = ["tool calls", "choices", "log probabilities", "citations", "parts"]


@pytest.mark.parametrize("what", THINGS)
def test_a_long_answer_is_the_same_on_each_way_and_so_is_its_raw_body(what: str) -> None:
    body = answer_of(1100, what)
    assert json_steps.is_long(json.dumps(body).encode())
    one, other = (answered(mode, as_json(body)) for mode in ("call-sync", "call-async"))
    assert one.raw == other.raw == body
    assert one.choices == other.choices
    if what == "log probabilities":
        assert one.choices[0].logprobs.model_dump(exclude_none=True) == body["choices"][0]["logprobs"]
    if what == "tool calls":
        assert [call.id for call in one.choices[0].message.tool_calls] == [call["id"] for call in tool_calls(1100)]


@pytest.mark.parametrize("what", ["tool calls", "log probabilities"])
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_long_event_gives_what_a_long_answer_gives(mode: str, what: str) -> None:
    # 20 objects beside each log probability.
    whole_answer = answer_of(300 if what == "log probabilities" else 1100, what)
    choice = whole_answer["choices"][0]
    delta = {"index": 0, "delta": choice["message"], "logprobs": choice.get("logprobs")}
    event = OPENAI.event({**whole_answer, "choices": [delta]})
    got = answered(mode, streamed([event, *OPENAI.ending()], headers=OPENAI.stream_headers))
    expected = answered("call-sync", as_json(whole_answer))
    assert got.choices[0].message == expected.choices[0].message
    assert got.choices[0].logprobs == expected.choices[0].logprobs


@dialects
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_an_error_in_one_piece_with_a_long_stream_comes_after_its_text(mode: str, dialect: Dialect) -> None:
    texts = [f"{place} " for place in range(4000)]
    failing = dialect.event(dialect.failure("boom"))
    content = b"".join([dialect.preamble(), *map(dialect.text, texts), failing])
    error = answered(mode, whole(content, headers=dialect.stream_headers), dialect)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "".join(texts)
    assert len(error.partial.raw["chunks"]) >= len(texts)
    assert "boom" in str(error)


def error_of(value: object, *, after: object = None) -> bytes:
    error = {"message": "the llama is out", "code": "out", **({} if after is None else {"detail": after})}
    return json.dumps({"error": error, "more": value}).encode()


@calls
@pytest.mark.parametrize(
    "body",
    [error_of([[]] * 200_000), error_of("x" * 3 * MIB), error_of({}, after=[{"input": "y" * 50}] * 15_000)],
    ids=["lists", "text", "objects"],
)
def test_the_reason_of_a_long_error_is_kept(mode: str, body: bytes) -> None:
    error = answered(mode, whole(body, status=500, headers={"content-type": "application/json"}))
    assert isinstance(error, ServerError)
    assert "the llama is out" in str(error)
    assert (error.http_status, error.provider_code) == (500, "out")
    assert len(repr(error.body)) < 2 * exchange.MAX_ERROR_BYTES


@each_mode
@pytest.mark.parametrize(("what", "most"), [("tool calls", MAX_TOOL_CALLS), ("choices", MAX_CHOICES)])
def test_no_model_gives_so_many(mode: str, what: str, most: int) -> None:
    body = answer_of(most + 1, what)
    answer = as_json(body)
    if mode.startswith("stream"):
        choices = [{"index": each["index"], "delta": each["message"]} for each in body["choices"]]
        answer = streamed([OPENAI.event({**body, "choices": choices})], headers=OPENAI.stream_headers)
    error = answered(mode, answer)
    assert isinstance(error, InvalidResponseError)
    assert str(most) in str(error)


def test_ollama_calls_no_more_tools_either() -> None:
    body: dict[str, Any] = OLLAMA.whole()
    body["message"]["tool_calls"] = tool_calls(MAX_TOOL_CALLS + 1)
    for mode in MODES:
        assert isinstance(answered(mode, as_json(body), OLLAMA), InvalidResponseError)


@dialects
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_key_that_a_server_writes_otherwise_is_in_no_raw_body(mode: str, dialect: Dialect) -> None:
    escaped = "".join(f"\\\\u{ord(char):04x}" for char in KEY)
    texts = dialect.text("a").replace(b'"a"', b'"a", "echo": "' + escaped.encode() + b'"')
    content = b"".join([dialect.preamble(), texts * 3, dialect.event(dialect.failure("boom"))])
    error = answered(mode, whole(content, headers=dialect.stream_headers), dialect)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert KEY not in json.dumps(error.partial.raw)
    assert KEY[:12] not in json.dumps(error.partial.raw)


@dialects
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_key_under_a_name_that_comes_twice_is_in_no_raw_body(
    dialect: Dialect, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[bytes | dict[str, Any]] = []
    redact = AttemptFacts.redact

    def redacted(facts: AttemptFacts, without: Any) -> None:
        redact(facts, without)
        kept.extend(facts.bodies)

    monkeypatch.setattr(AttemptFacts, "redact", redacted)
    texts = dialect.text("a").replace(b'"a"', b'"a", "echo": "' + KEY.encode() + b'", "echo": "\\n"')
    content = b"".join([dialect.preamble(), texts * 3, dialect.event(dialect.failure("boom"))])
    error = answered(mode, whole(content, headers=dialect.stream_headers), dialect)
    assert isinstance(error, StreamInterruptedError)
    assert len(kept) >= 3
    assert not [body for body in kept if KEY in str(body)]


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@pytest.mark.parametrize("other", [{"tokens": ["a"], "token_logprobs": [-0.5]}, {"more": [1]}], ids=["older", "more"])
def test_log_probabilities_may_have_other_lists_beside_them(mode: str, other: dict[str, Any]) -> None:
    content = log_probabilities(1)["content"]
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": content, **other}}
    event = OPENAI.event({**OPENAI.whole(), "choices": [choice]})
    got = answered(mode, streamed([event, *OPENAI.ending()], headers=OPENAI.stream_headers))
    assert got.choices[0].logprobs.model_dump(exclude_none=True)["content"] == content


@calls
def test_the_place_of_a_wrong_log_probability_is_told(mode: str) -> None:
    body = answer_of(300, "log probabilities")
    tokens = json.loads(json.dumps(body["choices"][0]["logprobs"]["content"]))
    tokens[57]["top_logprobs"][7]["token"] = 3
    body["choices"][0]["logprobs"]["content"] = tokens
    error = answered(mode, as_json(body))
    assert isinstance(error, InvalidResponseError)
    assert "content[57]" in str(error)
    assert "top_logprobs[7].token" in str(error)


def test_a_slow_reader_of_chunks_that_came_together_breaks_nothing() -> None:
    chunks = [OPENAI.text(f"{place} {'{' * 400}") for place in range(8)]
    content = b"".join([OPENAI.preamble(), *chunks, *OPENAI.ending()])

    async def main(url: str) -> int:
        async with AsyncLlamaClient({**config(url), "routing": {"retries": 0, "stall_s": 0.2}}) as client:
            count = 0
            async with await client.chat.completions.create(messages=MESSAGES, stream=True) as stream:
                async for chunk in stream:
                    count += bool(chunk.text)
                    await asyncio.sleep(0.08)
            return count

    with WireServer(lambda _: whole(content, headers=OPENAI.stream_headers)) as server:
        assert asyncio.run(main(server.url)) == 8


HOSTILE = {
    "lists": b"[]," * 100_000,
    "objects": b'{"a":1},' * 40_000,
    "numbers": b"1.5," * 75_000,
    "short texts": '"ä",'.encode() * 65_000,
    "a wide text": b'"' + b"x" * MIB + '🦙",'.encode(),
}


@two_modes
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bodies_stay_within_the_bound_of_memory(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2 * MIB
    monkeypatch.setattr(json_steps, "MAX_HELD_BYTES", bound)
    monkeypatch.setattr(json_steps, "_SHORT_BYTES", 64 << 10)
    monkeypatch.setattr(openai_codec, "_MAX_PLAIN_BYTES", 64 << 10)
    more = b'"more":[' + HOSTILE[kind] + b"1]}"
    if mode.startswith("stream"):
        chunk = OPENAI.text("Hello").rstrip()[:-1] + b"," + more + b"\n\n"
        answer = streamed([chunk, *OPENAI.ending()], headers=OPENAI.stream_headers)
    else:
        body = json.dumps(OPENAI.whole()).encode()[:-1] + b"," + more
        answer = whole(body, headers={"content-type": "application/json"})
    # The server's own copies are made before.
    with WireServer(lambda _: answer) as server:
        asker = Asker(mode, config(server.url), [])
        gc.collect()
        tracemalloc.start()
        try:
            with pytest.raises(LlamaClientError, match="of memory"):
                asker(MESSAGES)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * bound


class Held:
    """Holds up the decoding of answers until it is let go; says in which thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[str] = []
        self.begun, self.let_go = threading.Event(), threading.Event()
        decode = CompatibleCodec.decode

        def held(codec: CompatibleCodec, *given: Any) -> Any:
            self.threads.append(threading.current_thread().name)
            self.begun.set()
            self.let_go.wait(PLENTY_S)
            return decode(codec, *given)

        monkeypatch.setattr(CompatibleCodec, "decode", held)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    holding = Held(monkeypatch)
    yield holding
    holding.let_go.set()


Run = Callable[[AsyncLlamaClient, "asyncio.Task[Any]", Held], Any]


def while_decoding(held: Held, run: Run, caplog: pytest.LogCaptureFixture, **params: Any) -> None:
    """Runs it while a long answer is being decoded; nothing is left of the call then."""

    async def main(url: str) -> None:
        async with AsyncLlamaClient(config(url)) as client:
            call = asyncio.create_task(client.chat.completions.create(messages=MESSAGES, **params))
            # The loop goes on, or this would wait in vain.
            assert await asyncio.to_thread(held.begun.wait, PLENTY_S)
            await run(client, call, held)
            held.let_go.set()
            for _ in range(400):
                if not any(thread.name == "llama-client-decode" for thread in threading.enumerate()):
                    break
                await asyncio.sleep(0.01)
            assert [(each.in_flight, each.queued) for each in client.health().values()] == [(0, 0)]
        del call
        gc.collect()

    with WireServer(lambda _: as_json(answer_of(1100, "tool calls"))) as server:
        asyncio.run(main(server.url), debug=True)
        assert server.wait_until_idle()
    assert held.threads == ["llama-client-decode"]
    assert [record.getMessage() for record in caplog.records if "never" in record.getMessage()] == []
    assert KEY not in caplog.text


def test_an_event_loop_goes_on_while_a_long_answer_is_decoded(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    async def run(client: AsyncLlamaClient, call: asyncio.Task[Any], held: Held) -> None:
        await asyncio.sleep(0)
        assert not call.done()
        held.let_go.set()
        assert len((await call).choices[0].message.tool_calls) == 1100

    while_decoding(held, run, caplog)


def test_a_deadline_holds_while_a_long_answer_is_decoded(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    async def run(client: AsyncLlamaClient, call: asyncio.Task[Any], held: Held) -> None:
        with pytest.raises(LlamaClientError) as caught:
            await call
        assert isinstance(caught.value, APITimeoutError)
        assert [(attempt.sent, attempt.http_status) for attempt in caught.value.attempts] == [(True, 200)]

    while_decoding(held, run, caplog, timeout=1.0)


def test_a_call_can_be_cancelled_while_its_long_answer_is_decoded(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    async def run(client: AsyncLlamaClient, call: asyncio.Task[Any], held: Held) -> None:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    while_decoding(held, run, caplog)


def test_a_client_can_be_closed_while_a_long_answer_is_decoded(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    async def run(client: AsyncLlamaClient, call: asyncio.Task[Any], held: Held) -> None:
        closing = asyncio.create_task(client.aclose())
        with pytest.raises(APIConnectionError, match="closed"):
            await call
        held.let_go.set()
        await closing

    while_decoding(held, run, caplog)


def test_a_long_answer_is_decoded_where_no_thread_is_left(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "llama-client-decode":
            raise RuntimeError("can't start new thread")
        start(thread)

    held.let_go.set()
    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert len(answered("call-async", as_json(answer_of(1100, "tool calls"))).choices[0].message.tool_calls) == 1100
    assert held.threads == ["MainThread"]


@pytest.mark.parametrize("what", values(THINGS, long=("citations", "log probabilities")))
def test_twice_as_much_takes_twice_as_many_steps(what: str) -> None:
    assert steps(what, 2000) < 2.2 * steps(what, 1000)


def steps(what: str, size: int) -> int:
    """How many functions run for a call, in Python and in C."""
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    answer = as_json(answer_of(size, what))
    with WireServer(lambda _: answer) as server, LlamaClient(config(server.url)) as client:
        client.chat.completions.create(messages=MESSAGES)
        sys.setprofile(note)
        try:
            client.chat.completions.create(messages=MESSAGES)
        finally:
            sys.setprofile(None)
    return count
