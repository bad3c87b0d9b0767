"""What a server silently does not keep: the length of an answer, the number of choices; and speeds that it makes up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, BudgetExceededError, LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, streamed
from tests.routing.asking import MESSAGES, MODES, Session, ask, config

each_mode = pytest.mark.parametrize("mode", MODES)


def writing(tokens: int | None, *, choices: int = 1, **facts: Any) -> Callable[[Received], Answer]:
    """A server that gives so many choices, and says that it wrote so many tokens."""
    usage = None if tokens is None else {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}

    def answer(request: Received) -> Answer:
        chunk = {"id": "c1", "created": 1, "model": "m", **facts}
        if request.json.get("stream"):
            texts = [{"index": each, "delta": {"content": "Hi"}, "finish_reason": "stop"} for each in range(choices)]
            events = [OPENAI.event({**chunk, "choices": [text]}) for text in texts]
            return streamed([*events, OPENAI.event({**chunk, "choices": [], "usage": usage}), b"data: [DONE]\n\n"])
        message = {"role": "assistant", "content": "Hi"}
        wholes = [{"index": each, "message": message, "finish_reason": "stop"} for each in range(choices)]
        return as_json({**chunk, "object": "chat.completion", "choices": wholes, "usage": usage})

    return answer


@each_mode
@pytest.mark.parametrize(
    ("limit", "n", "tokens", "is_told"),
    [(5, None, 500, True), (5, 2, 500, True), (300, 2, 500, False), (5, None, 6, False), (5, None, None, False)],
)
def test_an_answer_longer_than_its_limit_is_told(
    limit: int, n: int | None, tokens: int | None, is_told: bool, mode: str
) -> None:
    with WireServer(writing(tokens, choices=n or 1)) as server:
        reply = ask(config(server), mode, max_tokens=limit, n=n)
    warnings = [f"a/m wrote {tokens} tokens where max_tokens is {limit}: it does not keep that limit"]
    assert reply.warnings == (warnings if is_told else [])


@each_mode
@pytest.mark.parametrize(("n", "given", "is_told"), [(3, 1, True), (3, 2, True), (3, 3, False), (None, 1, False)])
def test_fewer_choices_than_asked_for_are_told(n: int | None, given: int, is_told: bool, mode: str) -> None:
    """Ollama's `/v1` gives one, however many are asked for."""
    with WireServer(writing(2, choices=given)) as server:
        reply = ask(config(server), mode, n=n)
    assert len(reply.choices) == given
    assert reply.warnings == ([f"a/m gave {given} of the {n} choices asked for"] if is_told else [])


PRICE = {"target": "a/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1}


@each_mode
@pytest.mark.parametrize(
    ("rows", "needed"),
    [
        # 5,000 tokens of the catalogue's longest answer, instead of 5.
        ([{"target": "a/m", "name": "mine", "max_output_tokens": 5000}], Decimal("0.005")),
        # 500, as many as it wrote.
        ([], Decimal("0.0005")),
    ],
    ids=["by the catalogue", "by the longest so far"],
)
def test_a_budget_reserves_by_what_bounds_an_answer_once_a_server_has_not_kept_a_limit(
    rows: Any, needed: Decimal, mode: str
) -> None:
    budget = {"usd": 0.0007, "window": "total"}
    with WireServer(writing(500)) as server:
        tables = config(server, prices=[PRICE], budgets=[budget], models=rows)
        with Session(tables, mode) as session:
            first, second = session.many(2, max_tokens=5)
    assert first.text == "Hi"
    assert isinstance(second, BudgetExceededError)
    assert second.needed_usd == needed


SPEEDS = [
    pytest.param(1, {"predicted_n": 1, "predicted_ms": 0.001, "predicted_per_second": 0.0}, None, id="of one token"),
    pytest.param(1, {"predicted_n": 1, "predicted_ms": 20.0, "predicted_per_second": 50.0}, None, id="of one, slow"),
    pytest.param(20, {"predicted_n": 20, "predicted_ms": 1e-3, "predicted_per_second": 2e7}, None, id="impossible"),
    pytest.param(20, {"predicted_n": 20, "predicted_ms": 400.0, "predicted_per_second": 50.0}, 50.0, id="measured"),
]


@pytest.mark.parametrize(("tokens", "timings", "speed"), SPEEDS)
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_speed_is_told_where_something_has_measured_it(
    tokens: int, timings: Any, speed: float | None, colour: str
) -> None:
    async def asking(tables: Any) -> Any:
        async with AsyncLlamaClient(tables) as client:
            return await client.chat.completions.create(messages=MESSAGES), client.health()

    with WireServer(writing(tokens, timings=timings)) as server:
        if colour == "async":
            reply, health = asyncio.run(asking(config(server)))
        else:
            with LlamaClient(config(server)) as client:
                reply, health = client.chat.completions.create(messages=MESSAGES), client.health()
    assert reply.timing.tokens_per_s == speed
    assert health["a/m"].tokens_per_s == speed


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_all_chunks_of_an_answer_have_one_id(colour: str) -> None:
    """LiteLLM's proxy 1.108.7 gives each an id of its own."""
    texts = ["Llamas ", "hum ", "softly."]

    def answer(request: Received) -> Answer:
        chunk = {"object": "chat.completion.chunk", "created": 1, "model": "m"}
        choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
        events = [OPENAI.event({**chunk, "id": f"id-{each}", "choices": [choices[each]]}) for each in range(3)]
        return streamed([*events, *OPENAI.ending()])

    async def asking(tables: Any) -> Any:
        async with AsyncLlamaClient(tables) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
            return [chunk.id async for chunk in stream], stream.completion

    with WireServer(answer) as server:
        if colour == "async":
            ids, whole = asyncio.run(asking(config(server)))
        else:
            with LlamaClient(config(server)) as client:
                stream = client.chat.completions.create(messages=MESSAGES, stream=True)
                ids, whole = [chunk.id for chunk in stream], stream.completion
    assert {*ids, whole.id} == {"id-0"}
    assert whole.text == "".join(texts)
