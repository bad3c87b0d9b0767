"""The bill of a call to the last part: whole, in its parts, with its certainty, source and day."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import ChatCompletion, LlamaClient
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OLLAMA, OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from llama_client.types.completion import Cost
from tests.costs.test_pricing import PRICE, configuration, told
from tests.routing.asking import ask, failing, timed

ZERO = Decimal(0)


class Form(BaseModel):
    word: str


def parts(cost: Cost) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    return cost.input_usd, cost.cached_usd, cost.output_usd


def usage(prompt: int, answer: int, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer, **more}


def tried_until_valid(*answers: dict[str, Any], model: Any, prices: list[dict[str, Any]], retries: int = 0) -> Any:
    """A call whose answers do not validate, except the last; each with its own usage."""
    left = list(answers)

    def answer(_: Received) -> Answer:
        said = left.pop(0)
        return as_json({**OPENAI.whole("no JSON" if left else '{"word": "llama"}'), "usage": said})

    with WireServer(answer) as server:
        config = configuration(server, *prices, routing={"retries": retries})
        config["providers"]["y"] = config["providers"]["x"]
        with LlamaClient(config) as client:
            return client.chat.completions.parse(
                model=model, messages=[{"role": "user", "content": "hi"}], response_format=Form
            )


def test_a_call_costs_all_of_its_attempts_part_by_part_and_is_named_after_the_last() -> None:
    cached = {"prompt_tokens_details": {"cached_tokens": 400}}
    other = {**PRICE, "target": "y/m", "output_usd_per_mtok": 3, "effective_from": date(2020, 1, 2)}
    reply = tried_until_valid(
        usage(1000, 1, **cached),
        usage(1000, 2, **cached),
        usage(1000, 10),
        model=["x/m", "y/m"],
        prices=[PRICE, other],
        retries=1,
    )
    assert [attempt.target for attempt in reply.attempts] == ["x/m", "x/m", "y/m"]
    assert parts(reply.cost) == (Decimal("0.0022"), Decimal("0.0002"), Decimal("0.000036"))
    assert (reply.cost.usd, reply.cost.status) == (Decimal("0.002436"), "exact")
    assert (reply.cost.source, reply.cost.effective_from) == ("the configuration", date(2020, 1, 2))


def test_a_call_is_as_certain_as_its_least_certain_attempt() -> None:
    estimated = tried_until_valid({"prompt_tokens": 1000}, usage(1000, 10), model="x/m", prices=[PRICE], retries=1).cost
    assert estimated.status == "estimated"
    assert estimated.usd == sum(part for part in parts(estimated) if part is not None)
    unknown = tried_until_valid(usage(1, 1), usage(1, 1), model=["x/m", "y/m"], prices=[PRICE]).cost
    assert (unknown.usd, unknown.status) == (None, "unknown")
    assert parts(unknown) == (None, None, None)


def test_what_was_refused_costs_nothing_in_every_part() -> None:
    with WireServer(lambda _: failing(503)) as server, pytest.raises(Exception, match="not now") as error:
        ask(configuration(server, PRICE), "call-sync")
    [attempt] = error.value.attempts  # type: ignore[attr-defined]
    assert (attempt.cost.usd, *parts(attempt.cost)) == (ZERO, ZERO, ZERO, ZERO)


@pytest.mark.parametrize("mode", ["call-sync", "stream-sync"])
def test_what_runs_here_is_free_and_says_so(mode: str) -> None:
    with WireServer(lambda request: OLLAMA.good(streams=bool(request.json.get("stream")))) as server:
        config = {"providers": {"ollama": {"base_url": server.url}}, "ledger": {"enabled": False}}
        cost = ask(config, mode, model="ollama/m").cost
    assert (cost.usd, cost.status, cost.source) == (ZERO, "free", "local")
    assert parts(cost) == (ZERO, ZERO, ZERO)


def test_the_day_from_which_a_price_holds_is_told() -> None:
    with WireServer(told(usage(1, 1))) as server:
        cost = ask(configuration(server, {**PRICE, "effective_from": date(2020, 1, 2)}), "call-sync").cost
    assert cost.effective_from == date(2020, 1, 2)


def test_a_prompt_that_was_cached_as_a_whole_has_an_exact_cost() -> None:
    with WireServer(told(usage(400, 1, prompt_tokens_details={"cached_tokens": 400}))) as server:
        cost = ask(configuration(server, PRICE), "call-sync").cost
    assert (cost.status, *parts(cost)) == ("exact", ZERO, Decimal("0.0001"), Decimal("0.000002"))


def asked_of(said: dict[str, Any]) -> ChatCompletion:
    """The reply of a server that says this of its tokens and nothing else, to a text of 100 tokens."""
    with WireServer(lambda _: as_json({**OPENAI.whole("x" * 400), "usage": said})) as server:
        return ask(configuration(server, PRICE), "call-sync")


def test_an_estimate_keeps_what_was_reported_and_adds_up() -> None:
    reply = asked_of({"prompt_tokens": 50, "prompt_tokens_details": {"cached_tokens": 20}})
    guess = reply.attempts[0].estimated_usage
    assert guess is not None
    assert (guess.prompt_tokens, guess.completion_tokens, guess.total_tokens) == (50, 100, 150)
    assert (guess.cached_tokens, guess.reasoning_tokens) == (20, None)
    assert guess.completion_tokens_details is None
    assert reply.cost.cached_usd == Decimal("0.000005")


def test_an_estimate_keeps_the_reasoning_that_was_reported() -> None:
    reply = asked_of({"prompt_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 7}})
    guess = reply.attempts[0].estimated_usage
    assert guess is not None
    assert (guess.completion_tokens, guess.cached_tokens, guess.reasoning_tokens) == (100, None, 7)
    assert guess.prompt_tokens_details is None


def test_a_prompt_that_was_not_counted_is_estimated_beside_an_answer_that_was() -> None:
    reply = asked_of({"completion_tokens": 33})
    guess = reply.attempts[0].estimated_usage
    assert guess is not None
    assert guess.completion_tokens == 33
    assert guess.prompt_tokens
    assert reply.cost.output_usd == Decimal("0.000066")


def test_a_machine_is_charged_while_it_has_work_and_shared_only_then() -> None:
    """Two calls at once share a machine; one alone, before and after, pays for all of it; idle time is not charged."""
    time = FakeClock()
    both = threading.Barrier(2, timeout=10)

    def answer(request: Received) -> Answer:
        text = request.json["messages"][-1]["content"]
        if text == "alone":
            time.now += 4
        else:
            # The clock moves once both calls are in flight, and before the first of them ends.
            if both.wait() == 0:
                time.now += 10
            both.wait()
        return OLLAMA.good(streams=False)

    with WireServer(answer) as server, ThreadPoolExecutor(2) as pool:
        machine = {"base_url": server.url, "usd_per_hour": 3600}
        sync, _ = timed(time)
        with sync(
            {"default_model": "ollama/m", "providers": {"ollama": machine}, "ledger": {"enabled": False}}
        ) as client:
            alone = client.ask("alone").cost
            time.now += 100
            shared = [reply.cost for reply in pool.map(client.ask, ["both", "both"])]
            time.now += 100
            after = client.ask("alone").cost
    assert (alone.usd, after.usd) == (Decimal(4), Decimal(4))
    assert [cost.usd for cost in shared] == [Decimal(5), Decimal(5)]
