"""Spans and metrics as a program sees them that has set up OpenTelemetry for itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from llama_client import (
    AsyncLlamaClient,
    LlamaClient,
    ProviderNotInstalledError,
    RateLimitError,
    StreamInterruptedError,
)
from llama_client.telemetry.conventions import of_server
from tests.routing.asking import MESSAGES, MODES, ask, ask_all, broken_after, config, failing, good, in_turn
from tests.routing.test_continuing import continuing, going_on
from tests.wire.dialects import OPENAI
from tests.wire.server import Answer, Received, ReplayServer, as_json, silence, streamed

each_mode = pytest.mark.parametrize("mode", MODES)
each_stream = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
TELEMETRY = {"enabled": True}
WITH_CONTENT = {"enabled": True, "content": True}
USAGE = {
    "prompt_tokens": 300,
    "completion_tokens": 20,
    "total_tokens": 320,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
# What holds on every attempt at `a/m`, but for the port.
LABELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "a",
    "gen_ai.request.model": "m",
    "server.address": "127.0.0.1",
}
# They differ from run to run.
UNSTEADY = {"llama_client.request_id", "gen_ai.response.time_to_first_chunk", "server.port"}


class Program(SpanProcessor):
    """A program that has set up OpenTelemetry.

    Attributes:
        does: What it does where a span starts and ends.
    """

    def __init__(self) -> None:
        self.does: Callable[[str], None] = lambda event: None
        self._exporter = InMemorySpanExporter()
        deltas = dict.fromkeys((Histogram, Counter), AggregationTemporality.DELTA)
        self._reader = InMemoryMetricReader(preferred_temporality=deltas)
        spans = TracerProvider()
        spans.add_span_processor(SimpleSpanProcessor(self._exporter))
        spans.add_span_processor(self)
        trace.set_tracer_provider(spans)
        metrics.set_meter_provider(MeterProvider([self._reader]))

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.does("start")

    def on_end(self, span: ReadableSpan) -> None:
        self.does("end")

    def forget(self) -> None:
        self.does = lambda event: None
        self._exporter.clear()
        self._reader.get_metrics_data()

    def span(self) -> ReadableSpan:
        """The only one."""
        [span] = self.spans()
        return span

    def spans(self) -> list[ReadableSpan]:
        """Ours, in the order of their attempts."""
        ours = [span for span in self._exporter.get_finished_spans() if span.name.startswith("chat ")]
        return sorted(ours, key=lambda span: str(known(span)["llama_client.attempt.number"]))

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric since this was asked last."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if scope.scope.name == "llama_client"
        ]
        return {f"{metric.name} {metric.unit}": list(metric.data.data_points) for metric in found}


@pytest.fixture(scope="session")
def only_program() -> Program:
    # OpenTelemetry's providers are set once in a process.
    return Program()


@pytest.fixture
def program(only_program: Program) -> Iterator[Program]:
    only_program.forget()
    yield only_program
    only_program.forget()


def known(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def steady(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in known(span).items() if name not in UNSTEADY}


def told(span: ReadableSpan, name: str) -> Any:
    """What a span holds as JSON."""
    return json.loads(known(span)[name])


def counting(request: Received) -> Answer:
    return OPENAI.good(streams=request.json.get("stream", False), usage=USAGE)


@each_mode
def test_an_attempt_is_a_span_below_the_callers_own(program: Program, mode: str) -> None:
    with ReplayServer(counting) as server:
        with trace.get_tracer("program").start_as_current_span("caller") as caller:
            reply = ask(config(server, telemetry=TELEMETRY, prices=[PRICE]), mode)
    span = program.span()
    assert (span.name, span.kind, span.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert steady(span) == LABELS | {
        "gen_ai.response.id": "c1",
        "gen_ai.response.model": "some/model",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "llama_client.attempt.number": 1,
        "llama_client.attempt.outcome": "ok",
        "llama_client.route": "chat",
        "llama_client.cost.usd": 0.00034,
        "llama_client.cost.status": "exact",
    } | ({"gen_ai.request.stream": True} if mode.startswith("stream") else {})
    assert known(span)["llama_client.request_id"] == reply.request_id
    assert known(span)["server.port"] == server.port
    first_s = known(span).get("gen_ai.response.time_to_first_chunk")
    assert first_s == (reply.attempts[0].ttft_s if mode.startswith("stream") else None)


def test_a_span_holds_the_parameters_that_were_set(program: Program) -> None:
    with ReplayServer(good()) as server:
        ask(
            config(server, telemetry=TELEMETRY),
            "call-sync",
            model="a/m",
            max_tokens=9,
            temperature=0,
            top_p=0.5,
            stop=["x", "y"],
            seed=-1,
            n=1,
            frequency_penalty=0.25,
            presence_penalty=-0.5,
            response_format={"type": "json_object"},
        )
    asked = {name: value for name, value in known(program.span()).items() if name.startswith("gen_ai.request.")}
    assert asked == {
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.stop_sequences": ("x", "y"),
        "gen_ai.request.seed": -1,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.frequency_penalty": 0.25,
        "gen_ai.request.presence_penalty": -0.5,
    }
    assert known(program.span())["gen_ai.output.type"] == "json"
    # No route was named, and nobody knows the price.
    assert "llama_client.route" not in known(program.span())
    assert "llama_client.cost.usd" not in known(program.span())
    assert known(program.span())["llama_client.cost.status"] == "unknown"


@each_mode
def test_failover_is_a_span_for_each_target(program: Program, mode: str) -> None:
    with ReplayServer(lambda request: failing(500)) as first, ReplayServer(good()) as second:
        ask(config(first, second, telemetry=TELEMETRY, routing={"retries": 0}), mode)
    lost, won = program.spans()
    assert steady(lost) == LABELS | {
        "error.type": "ServerError",
        "llama_client.attempt.number": 1,
        "llama_client.attempt.outcome": "error",
        "llama_client.route": "chat",
        "llama_client.cost.usd": 0.0,
        "llama_client.cost.status": "exact",
    } | ({"gen_ai.request.stream": True} if mode.startswith("stream") else {})
    assert (lost.status.status_code, lost.status.description, lost.events) == (StatusCode.ERROR, None, ())
    assert (known(won)["gen_ai.provider.name"], known(won)["llama_client.attempt.number"]) == ("b", 2)
    assert known(won)["llama_client.request_id"] == known(lost)["llama_client.request_id"]
    assert (lost.end_time or 0) <= (won.start_time or 0)


@each_mode
def test_a_retry_is_a_span_of_its_own(program: Program, mode: str) -> None:
    with ReplayServer(in_turn(failing(429, retry_after="0.01"), None)) as server:
        ask(config(server, telemetry=TELEMETRY), mode)
    assert [known(span).get("error.type") for span in program.spans()] == ["RateLimitError", None]


@each_mode
def test_a_refusal_shows_its_class_and_never_its_words(program: Program, mode: str) -> None:
    refusal = as_json({"error": {"message": "you said: hum"}}, status=429)
    with ReplayServer(lambda request: refusal) as server:
        [error] = ask_all(config(server, telemetry=WITH_CONTENT, routing={"retries": 0}), mode, 1)
    assert isinstance(error, RateLimitError)
    assert "you said" in str(error)
    span = program.span()
    assert known(span)["error.type"] == "RateLimitError"
    assert not [name for name in known(span) if name.startswith(("gen_ai.usage.", "gen_ai.response."))]
    assert "you said" not in span.to_json()


@each_stream
@pytest.mark.parametrize("way", ["closed", "dropped"])
def test_a_stream_that_is_left_ends_its_span(program: Program, mode: str, way: str) -> None:
    def begun(request: Received) -> Answer:
        return streamed([OPENAI.preamble(), OPENAI.text("Hel"), OPENAI.text("lo")], "stall")

    def leave(client: LlamaClient) -> None:
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        next(stream)
        assert program.spans() == []
        if way == "closed":
            stream.close()

    async def aleave(tables: dict[str, Any]) -> None:
        async with AsyncLlamaClient(tables) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
            await anext(stream)
            assert program.spans() == []
            if way == "closed":
                await stream.aclose()
            del stream

    with ReplayServer(begun) as server:
        tables = config(server, telemetry=WITH_CONTENT)
        if mode == "stream-async":
            asyncio.run(aleave(tables))
        else:
            with LlamaClient(tables) as client:
                leave(client)
    span = program.span()
    assert known(span)["llama_client.attempt.outcome"] == "cancelled"
    assert "error.type" not in known(span)
    assert span.status.status_code is StatusCode.UNSET
    # What it has generated nobody has counted.
    assert not [name for name in known(span) if name.startswith("gen_ai.usage.")]
    assert known(span)["gen_ai.response.finish_reasons"] == ("error",)
    [answer] = told(span, "gen_ai.output.messages")
    assert answer["parts"][0]["content"].startswith("Hel")


@each_stream
def test_a_stream_that_breaks_off_is_an_error(program: Program, mode: str) -> None:
    with ReplayServer(lambda request: broken_after("To tell ")) as server:
        [error] = ask_all(config(server, telemetry=TELEMETRY), mode, 1)
    assert isinstance(error, StreamInterruptedError)
    span = program.span()
    assert known(span)["error.type"] == "StreamInterruptedError"
    assert known(span)["llama_client.attempt.outcome"] == "interrupted"
    assert span.status.status_code is StatusCode.ERROR
    assert known(span)["gen_ai.response.id"] == "c1"


@each_stream
def test_going_on_elsewhere_is_one_more_span_that_holds_only_what_it_added(program: Program, mode: str) -> None:
    with ReplayServer(lambda request: broken_after("To tell ", "each ")) as first:
        with ReplayServer(going_on("other how ", "they are.")) as second:
            ask(continuing(first, second, telemetry=WITH_CONTENT), mode)
    broken, rest = program.spans()
    assert [known(span)["llama_client.attempt.outcome"] for span in (broken, rest)] == ["interrupted", "ok"]
    assert known(broken)["error.type"] == "APIConnectionError"
    said = [told(span, "gen_ai.output.messages")[0] for span in (broken, rest)]
    assert [message["parts"][0]["content"] for message in said] == ["To tell each ", "other how they are."]
    assert [message["finish_reason"] for message in said] == ["error", "stop"]
    assert told(rest, "gen_ai.input.messages")[-1] == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "To tell each "}],
    }


@each_mode
def test_who_loses_a_race_has_a_span_below_the_callers_own_too(program: Program, mode: str) -> None:
    with ReplayServer(lambda request: silence()) as first, ReplayServer(good()) as second:
        with trace.get_tracer("program").start_as_current_span("caller") as caller:
            reply = ask(config(first, second, telemetry=TELEMETRY, routing={"hedge_after_s": 0.1}), mode)
    spans = program.spans()
    assert {span.parent.span_id if span.parent else None for span in spans} == {caller.get_span_context().span_id}
    told_of = [(known(span)["gen_ai.provider.name"], known(span)["llama_client.attempt.outcome"]) for span in spans]
    # Numbered as the answer's attempts are.
    assert told_of == [(each.target[0], each.outcome) for each in reply.attempts]
    assert sorted(told_of) == [("a", "cancelled"), ("b", "ok")]


@each_mode
def test_what_was_said_is_in_no_span_unless_that_was_asked_for(program: Program, mode: str) -> None:
    with ReplayServer(good("Because they can.")) as server:
        ask(config(server, telemetry=TELEMETRY), mode)
    text = program.span().to_json()
    assert "llamas hum" not in text
    assert "Because" not in text


@each_mode
def test_what_was_said_has_the_conventions_shapes_where_it_was_asked_for(program: Program, mode: str) -> None:
    with ReplayServer(good("Because they can.")) as server:
        tables = config(server, telemetry=WITH_CONTENT)
        tables["providers"]["a"]["api_key"] = "sk-secret-of-mine"
        ask(tables, mode)
    span = program.span()
    assert told(span, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "text", "content": "Why do llamas hum?"}]}
    ]
    assert told(span, "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Because they can."}], "finish_reason": "stop"}
    ]
    assert not {"gen_ai.system_instructions", "gen_ai.tool.definitions"} & set(known(span))
    assert "secret" not in span.to_json()


def test_instructions_tools_and_images_have_shapes_of_their_own(program: Program) -> None:
    def calls_a_tool(request: Received) -> Answer:
        call = {"id": "call2", "type": "function", "function": {"name": "look", "arguments": '{"at": ["x"]}'}}
        message = {"role": "assistant", "content": None, "reasoning": "Hm.", "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return as_json(OPENAI.whole() | {"choices": [choice]})

    parameters = {"type": "object", "properties": {"at": {"type": "array"}}}
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": parameters}}
    earlier = {"id": "call1", "type": "function", "function": {"name": "look", "arguments": "not JSON"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image], "name": "ann"},
        {"role": "assistant", "tool_calls": [earlier]},
        {"role": "tool", "tool_call_id": "call1", "content": "a llama"},
        {"role": "system", "content": "Even briefer."},
    ]
    with ReplayServer(calls_a_tool) as server:
        tables = config(server, telemetry=WITH_CONTENT)
        row = {"target": "a/m", "name": "m", "abilities": ["tools", "vision"]}
        with LlamaClient({**tables, "models": [row]}) as client:
            client.chat.completions.create(messages=messages, tools=[tool])
    span = program.span()
    assert told(span, "gen_ai.system_instructions") == [{"type": "text", "content": "Be brief."}]
    assert told(span, "gen_ai.input.messages") == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is it?"},
                {"type": "blob", "modality": "image", "mime_type": "image/png"},
            ],
            "name": "ann",
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call1", "name": "look", "arguments": "not JSON"}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call1", "response": "a llama"}]},
        {"role": "system", "parts": [{"type": "text", "content": "Even briefer."}]},
    ]
    assert told(span, "gen_ai.output.messages") == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "tool_call", "id": "call2", "name": "look", "arguments": {"at": ["x"]}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert told(span, "gen_ai.tool.definitions") == [
        {"type": "function", "name": "look", "description": "Looks.", "parameters": parameters}
    ]


@each_mode
def test_attempts_are_measured(program: Program, mode: str) -> None:
    def three_pieces(request: Received) -> Answer:
        if not request.json.get("stream"):
            return counting(request)
        usage = OPENAI.event(OPENAI._chunk() | {"choices": [], "usage": USAGE})
        first, done = OPENAI.ending()
        pieces = [OPENAI.text(piece) for piece in ("a", "b", "c")]
        return streamed([OPENAI.preamble(), *pieces, first, usage, done], delay_s=0.02)

    with ReplayServer(three_pieces) as server:
        reply = ask(config(server, telemetry=TELEMETRY, prices=[PRICE]), mode)
    points = program.points()
    labels = LABELS | {"server.port": server.port, "gen_ai.response.model": "some/model"}
    sums = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage {token}"]}
    assert sums == {"input": 300, "output": 20}
    [took] = points["gen_ai.client.operation.duration s"]
    assert (took.attributes, took.count, took.sum) == (labels, 1, reply.attempts[0].latency_s)
    [cost] = points["llama_client.cost {USD}"]
    assert (cost.attributes, cost.value) == (labels | {"llama_client.cost.status": "exact"}, 0.00034)
    of_streams = {f"gen_ai.client.operation.{name} s" for name in ("time_to_first_chunk", "time_per_output_chunk")}
    if not mode.startswith("stream"):
        assert not of_streams & set(points)
        return
    [first_chunk] = points["gen_ai.client.operation.time_to_first_chunk s"]
    assert (first_chunk.attributes, first_chunk.count, first_chunk.sum) == (labels, 1, reply.attempts[0].ttft_s)
    [gaps] = points["gen_ai.client.operation.time_per_output_chunk s"]
    # Two pieces of text and the finish reason came after the first.
    assert (gaps.attributes, gaps.count) == (labels, 3)
    assert 0.02 <= gaps.sum < took.sum


def test_the_buckets_are_the_conventions(program: Program) -> None:
    with ReplayServer(counting) as server:
        ask(config(server, telemetry=TELEMETRY), "stream-sync")
    points = program.points()
    assert list(points["gen_ai.client.token.usage {token}"][0].explicit_bounds) == [
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    ]
    for name in ("duration", "time_to_first_chunk", "time_per_output_chunk"):
        assert list(points[f"gen_ai.client.operation.{name} s"][0].explicit_bounds) == [
            *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
        ]


@each_mode
def test_failures_are_measured_with_their_class_and_what_nobody_counted_is_not(program: Program, mode: str) -> None:
    with ReplayServer(lambda request: failing(500)) as first, ReplayServer(good()) as second:
        ask(config(first, second, telemetry=TELEMETRY, routing={"retries": 0}), mode)
    points = program.points()
    classes = [point.attributes.get("error.type") for point in points["gen_ai.client.operation.duration s"]]
    assert sorted(classes, key=str) == [None, "ServerError"]
    # The stream tells of no tokens; what they are thought to be is no measurement.
    assert ("gen_ai.client.token.usage {token}" in points) == mode.startswith("call")
    # What was refused costs nothing, and of the other nobody knows.
    [cost] = points["llama_client.cost {USD}"]
    assert (cost.attributes["gen_ai.provider.name"], cost.value) == ("a", 0.0)


@each_mode
def test_what_the_program_set_up_may_fail_and_no_call_does(
    program: Program, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "llama_client")
    for event in ("start", "end"):

        def fail(now: str, when: str = event) -> None:
            if now == when:
                raise RuntimeError("the prompt was: hum")

        program.does = fail
        caplog.clear()
        with ReplayServer(good()) as server:
            replies = ask_all(config(server, telemetry=TELEMETRY), mode, 2)
        assert [reply.text for reply in replies] == ["Hello", "Hello"]
        # Once a client, and without the words of who failed.
        [said] = caplog.messages
        assert said == "telemetry is incomplete: what the program has set up raised RuntimeError"
    # Where spans fail, there are metrics.
    [took] = program.points()["gen_ai.client.operation.duration s"]
    assert took.count == 2


def test_a_stream_that_is_dropped_while_a_span_ends_does_not_wait_for_itself(program: Program) -> None:
    lock, held = threading.Lock(), []

    def locked(event: str) -> None:
        # As exporters do, with a lock that is not re-entrant; the garbage collector may come at any time.
        assert lock.acquire(timeout=5)
        try:
            if event == "end":
                held.clear()
        finally:
            lock.release()

    begun = streamed([OPENAI.preamble(), OPENAI.text("Hel")], "stall")
    with ReplayServer(lambda request: begun if request.json.get("stream") else good()(request)) as server:
        with LlamaClient(config(server, telemetry=TELEMETRY)) as client:
            held.append(client.chat.completions.create(messages=MESSAGES, stream=True))
            program.does = locked
            client.ask("hi")
    assert sorted(known(span)["llama_client.attempt.outcome"] for span in program.spans()) == ["cancelled", "ok"]


def test_clients_share_their_instruments(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    with ReplayServer(good()) as server:
        for _ in range(2):
            ask(config(server, telemetry=TELEMETRY), "call-sync")
    assert program.points()["gen_ai.client.operation.duration s"][0].count == 2
    assert caplog.messages == []


def test_a_target_that_is_not_asked_has_no_span(program: Program) -> None:
    with ReplayServer(good()) as first, ReplayServer(good()) as second:
        tables = config(first, second, telemetry=TELEMETRY)
        tables["models"] = [{"target": "a/m", "name": "m", "abilities": []}]
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        with LlamaClient(tables) as client:
            reply = client.chat.completions.create(messages=[{"role": "user", "content": [image]}])
    assert [each.outcome for each in reply.attempts] == ["skipped", "ok"]
    assert known(program.span())["llama_client.attempt.number"] == 2


def test_a_model_in_this_process_is_internal(program: Program, config: Any) -> None:
    with LlamaClient({**config, "telemetry": TELEMETRY}) as client:
        client.ask("Say hello.", max_tokens=3)
    span = program.span()
    assert span.kind is SpanKind.INTERNAL
    assert known(span)["gen_ai.provider.name"] == "gguf"
    assert not {"server.address", "server.port"} & set(known(span))
    assert known(span)["llama_client.cost.status"] == "free"


@pytest.mark.parametrize(
    ("name", "kind", "url", "who", "address", "port"),
    [
        ("fast", "groq", "https://api.groq.com", "groq", "api.groq.com", 443),
        ("t", "together", "https://api.together.ai/v1", "together", "api.together.ai", 443),
        ("home", "ollama", "http://[::1]:11434", "ollama", "::1", 11434),
        ("big", "openai", "https://api.openai.com/v1", "openai", "api.openai.com", 443),
        ("vllm", "openai", "http://gpu/v1", "vllm", "gpu", 80),
        ("laptop", "gguf", None, "gguf", None, None),
    ],
)
def test_each_provider_has_the_conventions_name_or_its_own(
    name: str, kind: str, url: str | None, who: str, address: str | None, port: int | None
) -> None:
    found = of_server(name, kind, url)
    assert (found["gen_ai.provider.name"], found.get("server.address"), found.get("server.port")) == (
        who,
        address,
        port,
    )


def test_without_the_package_the_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ProviderNotInstalledError, match=r"llama-client\[otel\]") as caught:
        LlamaClient({"telemetry": TELEMETRY})
    assert caught.value.extra == "otel"
    LlamaClient({"telemetry": {"enabled": False, "content": True}}).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_has_spans_too(program: Program) -> None:
    with ReplayServer(good()) as server, LlamaClient(config(server, telemetry=TELEMETRY)) as client:
        client.ask("hi")
        child = os.fork()
        if child == 0:
            client.ask("hi")
            os._exit(0 if len(program.spans()) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(program.spans()) == 1


_OFF = """
import sys
from llama_client import LlamaClient
with LlamaClient({tables!r}) as client:
    assert client.ask("hi").text == "Hello"
print([name for name in sys.modules if name.startswith(("opentelemetry", "llama_client.telemetry"))])
"""

_SET_UP_LATER = """
from llama_client import LlamaClient
with LlamaClient({tables!r}) as client:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    client.ask("hi")
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    client.ask("hi")
print([span.name for span in kept.get_finished_spans()])
"""


@pytest.mark.parametrize(
    ("program", "telemetry", "printed"),
    [(_OFF, {"content": True}, "[]"), (_SET_UP_LATER, TELEMETRY, "['chat m']")],
    ids=["off", "set up after the client was made"],
)
def test_in_a_fresh_process(program: str, telemetry: dict[str, Any], printed: str, tmp_path: Path) -> None:
    with ReplayServer(good()) as server:
        tables = config(server, telemetry=telemetry, ledger={"enabled": False})
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.format(tables=tables)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
    assert (run.stdout.strip(), run.stderr) == (printed, "")
