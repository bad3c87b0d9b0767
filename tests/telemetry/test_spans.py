"""The spans of attempts, as the program sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from llama_client import AsyncLlamaClient, LlamaClient, StreamInterruptedError
from llama_client.telemetry import server_attributes
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, silence, streamed
from tests.routing.asking import MESSAGES, ask, ask_all, broken_after, config, failing, good, in_turn
from tests.telemetry.program import (
    LABELS,
    PRICE,
    TELEMETRY,
    WITH_CONTENT,
    Program,
    counting,
    each_mode,
    each_stream,
    known,
    steady,
    told,
)


@each_mode
def test_an_attempt_is_a_span_below_the_callers_own(program: Program, mode: str) -> None:
    with WireServer(counting) as server:
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
    with WireServer(good()) as server:
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
    with WireServer(lambda request: failing(500)) as first, WireServer(good()) as second:
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
    with WireServer(in_turn(failing(429, retry_after="0.01"), None)) as server:
        ask(config(server, telemetry=TELEMETRY), mode)
    assert [known(span).get("error.type") for span in program.spans()] == ["RateLimitError", None]


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

    with WireServer(begun) as server:
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
    with WireServer(lambda request: broken_after("To tell ")) as server:
        [error] = ask_all(config(server, telemetry=TELEMETRY), mode, 1)
    assert isinstance(error, StreamInterruptedError)
    span = program.span()
    assert known(span)["error.type"] == "StreamInterruptedError"
    assert known(span)["llama_client.attempt.outcome"] == "interrupted"
    assert span.status.status_code is StatusCode.ERROR
    assert known(span)["gen_ai.response.id"] == "c1"


@each_mode
def test_who_loses_a_race_has_a_span_below_the_callers_own_too(program: Program, mode: str) -> None:
    with WireServer(lambda request: silence()) as first, WireServer(good()) as second:
        with trace.get_tracer("program").start_as_current_span("caller") as caller:
            reply = ask(config(first, second, telemetry=TELEMETRY, routing={"hedge_after_s": 0.1}), mode)
    spans = program.spans()
    assert {span.parent.span_id if span.parent else None for span in spans} == {caller.get_span_context().span_id}
    told_of = [(known(span)["gen_ai.provider.name"], known(span)["llama_client.attempt.outcome"]) for span in spans]
    # Numbered as the answer's attempts are.
    assert told_of == [(each.target[0], each.outcome) for each in reply.attempts]
    assert sorted(told_of) == [("a", "cancelled"), ("b", "ok")]


def test_a_target_that_is_not_asked_has_no_span(program: Program) -> None:
    with WireServer(good()) as first, WireServer(good()) as second:
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
    found = server_attributes(name, kind, url)
    assert (found["gen_ai.provider.name"], found.get("server.address"), found.get("server.port")) == (
        who,
        address,
        port,
    )
