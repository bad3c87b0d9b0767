"""Recorded and documented traffic of the providers, replayed byte for byte: cases.json and what it expects.

The cases of the in-process engine are played in tests/providers/gguf/test_scripted.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import (
    AsyncLlamaClient,
    ChatCompletion,
    ChatCompletionChunk,
    LlamaClient,
    LlamaClientError,
    ProviderError,
    StreamInterruptedError,
    Usage,
)
from llama_client.errors import ContextLengthError, GenerationFailedError
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.loopback import Answer, WireServer, closed_port, cut, streamed, whole

_KINDS = {"openai_compatible": "openai", "llamacpp": "openai"}
_DIALECTS = {dialect.kind: dialect for dialect in DIALECTS}
# What of a recorded request is a parameter of ours under the same name; the rest is another library's or a mistake.
_PARAMETERS = (
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "max_tokens",
    "reasoning_effort",
    "service_tier",
)
_COUNTS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
    "cached_tokens": "cached_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


@dataclass(frozen=True)
class Case:
    """One exchange: what is asked, what the server answers, and what is to become of it."""

    id: str
    provider: str
    request: dict[str, Any]
    response: dict[str, Any]
    expect: dict[str, Any]

    @property
    def dialect(self) -> Dialect:
        return _DIALECTS[_KINDS.get(self.provider, self.provider)]

    @property
    def asks_for_a_stream(self) -> bool:
        return bool(self.request["body"]["stream"])

    @property
    def model(self) -> str:
        return str(self.request["body"]["model"])

    @property
    def params(self) -> dict[str, Any]:
        body = self.request["body"]
        params = {name: body[name] for name in _PARAMETERS if name in body}
        if isinstance(params.get("temperature"), str):  # a mistake that never leaves this package
            del params["temperature"]
        if "num_predict" in body.get("options", {}):
            params["max_tokens"] = body["options"]["num_predict"]
        if "stream_options" in body:
            params["stream_options"] = {"include_usage": body["stream_options"]["include_usage"]}
        return {"model": f"x/{self.model}", **params}

    def config(self, url: str) -> dict[str, Any]:
        key = {} if self.dialect.is_ndjson else {"api_key": "test-key"}
        return self.dialect.config(url, **key)

    def answer(self, size: int | None = None) -> Answer:
        """What the server answers; a stream in pieces of that size, or as it was recorded."""
        response = self.response
        status, headers = response["status"], response["headers"]
        if "stream" not in response:
            body = response["raw_body"] if "raw_body" in response else json.dumps(response["body"], ensure_ascii=False)
            return whole(body.encode(), status=status, headers=headers)
        pieces = [piece.encode() for piece in response["stream"]]
        size = size or response.get("rechunk_bytes")
        if size is not None:
            pieces = cut(b"".join(pieces), size)
        return streamed(pieces, response["end"], status=status, headers=headers)


@dataclass
class Outcome:
    """What the caller got."""

    reply: ChatCompletion | None = None
    chunks: list[ChatCompletionChunk] = field(default_factory=list)
    error: LlamaClientError | None = None
    opened: bool = False


def _read_cases() -> list[Case]:
    rows = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))["cases"]
    fields = ("id", "provider", "request", "response", "expect")
    return [Case(*(row[name] for name in fields)) for row in rows if row["provider"] != "xllamacpp"]


CASES = _read_cases()
STREAMS = [case for case in CASES if case.response.get("stream")]
REPLIES = [case for case in CASES if "body" in case.response and case.response["status"] == 200 and case.expect["ok"]]
COLOURS = ["sync", "async"]


def by_id(case: Case) -> str:
    return case.id


def play(case: Case, colour: str, sizes: Sequence[int | None] = (None,)) -> tuple[list[Outcome], WireServer]:
    """Asks one client once for each size, of one server."""
    with _serving(case, sizes) as (url, server):
        config = case.config(url)
        if colour == "sync":
            with LlamaClient(config) as client:
                return [_ask(client, case) for _ in sizes], server
        return asyncio.run(_play_async(config, case, len(sizes))), server


@contextmanager
def _serving(case: Case, sizes: Sequence[int | None]) -> Iterator[tuple[str, WireServer]]:
    refuses = case.response.get("network_error") == "connection_refused"
    answers = [] if refuses else [case.answer(size) for size in sizes]
    with WireServer(case.dialect.answers(*answers)) as server:
        if not refuses:
            yield server.url, server
        else:
            with closed_port() as url:
                yield url, server


def _ask(client: LlamaClient, case: Case) -> Outcome:
    outcome = Outcome()
    try:
        if not case.asks_for_a_stream:
            outcome.reply = client.chat.completions.create(**case.params)
            return outcome
        with client.chat.completions.create(stream=True, **case.params) as stream:
            outcome.opened = True
            for chunk in stream:
                outcome.chunks.append(chunk)
        outcome.reply = stream.completion
    except LlamaClientError as error:
        outcome.error = error
    return outcome


async def _play_async(config: dict[str, Any], case: Case, times: int) -> list[Outcome]:
    async with AsyncLlamaClient(config) as client:
        return [await _ask_async(client, case) for _ in range(times)]


async def _ask_async(client: AsyncLlamaClient, case: Case) -> Outcome:
    outcome = Outcome()
    try:
        if not case.asks_for_a_stream:
            outcome.reply = await client.chat.completions.create(**case.params)
            return outcome
        async with await client.chat.completions.create(stream=True, **case.params) as stream:
            outcome.opened = True
            async for chunk in stream:
                outcome.chunks.append(chunk)
        outcome.reply = stream.completion
    except LlamaClientError as error:
        outcome.error = error
    return outcome


def check(case: Case, outcome: Outcome) -> None:
    """Holds what the caller got against all that the case expects."""
    if case.expect["ok"]:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.reply is not None
        _check_reply(case, outcome.reply)
        _check_chunks(case, outcome)
    else:
        assert outcome.reply is None
        assert isinstance(outcome.error, ProviderError)
        _check_error(case, outcome, outcome.error)


def _check_reply(case: Case, reply: ChatCompletion) -> None:
    expect = case.expect
    (choice,) = reply.choices
    message = choice.message
    assert (message.content, reply.text) == (expect["text"], expect["text"] or "")
    assert message.reasoning == expect["reasoning"]
    assert message.refusal == expect.get("refusal")
    assert choice.finish_reason == expect["finish_reason"]
    assert _tool_calls(reply) == expect["tool_calls"]
    assert _counts(reply.usage) == (expect["usage"] or dict.fromkeys(_COUNTS))
    assert (reply.target, reply.provider) == (f"x/{case.model}", "x")
    (attempt,) = reply.attempts
    assert (attempt.target, attempt.outcome, attempt.sent, attempt.error) == (reply.target, "ok", True, None)
    assert attempt.http_status == case.response["status"]
    assert attempt.usage is None or attempt.usage == reply.usage
    if "request_id" in expect:
        assert attempt.provider_request_id == expect["request_id"]
    for name, limits in expect.get("rate_limit", {}).items():
        assert attempt.rate_limit is not None
        assert {key: attempt.rate_limit[name][key] for key in limits} == pytest.approx(limits)
    for name, seconds in expect.get("timing", {}).items():
        assert getattr(reply.timing, name) == pytest.approx(seconds)
    if case.response["status"] != 200:  # a call that was rescued from an error
        assert reply.warnings
    OpenAICompletion.model_validate(reply.to_openai())


def _tool_calls(reply: ChatCompletion) -> list[dict[str, Any]]:
    """The calls in the shape in which the cases write them."""
    calls = []
    for call in reply.choices[0].message.tool_calls or []:
        assert call.id
        form: dict[str, Any] = {"id": call.id, "name": call.function.name}
        try:
            form["arguments"] = json.loads(call.function.arguments)
        except ValueError:
            form |= {"arguments": None, "arguments_raw": call.function.arguments}
        calls.append(form)
    return _generated(calls, reply)


def _generated(calls: list[dict[str, Any]], reply: ChatCompletion) -> list[dict[str, Any]]:
    """An id that stands nowhere in what the provider sent was made by us."""
    sent = json.dumps(reply.raw)
    assert len({call["id"] for call in calls}) == len(calls)
    return [call if json.dumps(call["id"]) in sent else {**call, "id": "<generated>"} for call in calls]


def _counts(usage: Usage) -> dict[str, int | None]:
    return {theirs: getattr(usage, ours) for theirs, ours in _COUNTS.items()}


def _check_chunks(case: Case, outcome: Outcome) -> None:
    """The chunks add up to the reply, and only who asked for it gets the one that has only usage."""
    if not case.asks_for_a_stream:
        return
    assert outcome.opened
    chunks = outcome.chunks
    assert "".join(chunk.text for chunk in chunks) == (case.expect["text"] or "")
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.reasoning or "" for delta in deltas) == (case.expect["reasoning"] or "")
    if "stream_options" not in case.params:
        assert all(chunk.choices for chunk in chunks)
    elif case.expect["usage"] is not None:
        assert chunks[-1].usage is not None
        assert _counts(chunks[-1].usage) == case.expect["usage"]
    for chunk in chunks:
        OpenAIChunk.model_validate(chunk.to_openai())


def _check_error(case: Case, outcome: Outcome, error: ProviderError) -> None:
    expect = case.expect["error"]
    assert type(error).__name__ == expect["class"]
    assert (error.retryable, error.failover) == (expect["retryable"], expect["failover"])
    assert (error.http_status, error.provider_code) == (expect["http_status"], expect["provider_code"])
    assert error.retry_after_s == pytest.approx(expect["retry_after_s"])
    assert (error.provider, error.target) == ("x", f"x/{case.model}")
    assert str(error)
    if "request_id" in case.expect:
        assert error.request_id == case.expect["request_id"]
    if "failed_generation" in case.expect:
        assert isinstance(error, GenerationFailedError)
        assert error.failed_generation == case.expect["failed_generation"]
    (attempt,) = error.attempts
    assert (attempt.target, attempt.error) == (error.target, expect["class"])
    assert attempt.http_status == expect["http_status"]
    assert attempt.sent == ("network_error" not in case.response)
    if isinstance(error, StreamInterruptedError):
        assert attempt.outcome == "interrupted"
        assert outcome.opened
        assert error.partial is not None
        assert error.partial.text == expect["partial_text"]
        assert "".join(chunk.text for chunk in outcome.chunks) == expect["partial_text"]
    else:
        assert attempt.outcome == "error"
        assert not outcome.opened
        assert not expect.get("partial_text")


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_an_exchange_as_recorded_becomes_what_is_expected(case: Case, colour: str) -> None:
    (outcome,), _ = play(case, colour)
    check(case, outcome)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("case", STREAMS, ids=by_id)
def test_a_stream_cut_anywhere_becomes_the_same(case: Case, size: int, colour: str) -> None:
    (outcome,), _ = play(case, colour, [size])
    check(case, outcome)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("case", STREAMS, ids=by_id)
def test_one_client_reads_a_stream_in_pieces_of_every_size(case: Case, colour: str) -> None:
    outcomes, _ = play(case, colour, range(1, 65))
    for outcome in outcomes:
        check(case, outcome)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("case", [case for case in CASES if "network_error" not in case.response], ids=by_id)
def test_one_request_is_sent_and_it_is_the_recorded_one(case: Case, colour: str) -> None:
    _, server = play(case, colour)
    (request,) = server.requests
    recorded = case.request["body"]
    assert request.headers["content-type"].startswith("application/json")
    assert request.headers.get("authorization") == (None if case.dialect.is_ndjson else "Bearer test-key")
    assert (request.json["model"], request.json["messages"]) == (case.model, recorded["messages"])
    # What a server takes a missing `stream` for differs: Ollama streams.
    assert request.json.get("stream", case.dialect.is_ndjson) is recorded["stream"]
    for name in ("tools", "tool_choice", "response_format", "reasoning_effort", "service_tier"):
        assert request.json.get(name) == recorded.get(name)


@pytest.mark.parametrize("case", [case for case in REPLIES if not case.asks_for_a_stream], ids=by_id)
def test_a_providers_own_body_is_kept_lossless(case: Case) -> None:
    (outcome,), _ = play(case, "sync")
    assert outcome.reply is not None
    assert outcome.reply.raw == case.response["body"]


@pytest.mark.parametrize(
    "case", [case for case in STREAMS if case.expect["ok"] and not case.dialect.is_ndjson], ids=by_id
)
def test_usage_is_asked_for_in_every_stream(case: Case) -> None:
    _, server = play(case, "sync")
    assert server.requests[0].json["stream_options"]["include_usage"] is True


@pytest.mark.parametrize("colour", COLOURS)
def test_a_generated_id_is_another_one_each_time(colour: str) -> None:
    case = next(case for case in CASES if case.id == "ollama-stream-tool-before-done")
    outcomes, _ = play(case, colour, [None] * 3)
    calls = [
        call for outcome in outcomes if outcome.reply for call in outcome.reply.choices[0].message.tool_calls or []
    ]
    assert len({call.id for call in calls}) == 3


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("llamacpp-400-context", (9031, 8192)),
        ("vllm-400-context", (1015, 1024)),
        ("together-400-context", (80125, 4097)),
    ],
)
def test_a_context_error_tells_the_numbers_that_the_provider_told(name: str, numbers: tuple[int, int]) -> None:
    (outcome,), _ = play(next(case for case in CASES if case.id == name), "sync")
    assert isinstance(outcome.error, ContextLengthError)
    assert (outcome.error.prompt_tokens, outcome.error.context_tokens) == numbers


def test_the_message_of_an_unreachable_ollama_says_how_to_start_it() -> None:
    (outcome,), _ = play(next(case for case in CASES if case.id == "ollama-connection-refused"), "sync")
    assert "ollama serve" in str(outcome.error)


def test_every_case_over_http_is_played() -> None:
    assert len(CASES) == 71
    assert len(STREAMS) == 18
