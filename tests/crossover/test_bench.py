"""A measurement holds requests open at once, believes what the server counts, and ends whatever the server does."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import (
    APITimeoutError,
    AsyncLlamaClient,
    InvalidRequestError,
    LocalOnlyError,
    RateLimitError,
    load_config,
)
from llama_client.crossover.bench.measure import (
    BenchPlan,
    BenchRun,
    Step,
    first_content_timeout_s,
    measure,
    without_retries,
)
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, silence, streamed
from tests.routing.asking import config, failing

PLAN = BenchPlan("a/m", (1,), input_tokens=100, output_tokens=8, requests=4, seconds=20.0)


def told(
    tokens: int,
    *,
    prompt_tokens: int | None = 100,
    delay_s: float = 0.0,
    finish: str = "stop",
    pieces: int | None = None,
) -> Answer:
    """A stream of so many tokens, each a piece, whose counts the server tells unless there is no `prompt_tokens`."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
    ending = [OPENAI.event(OPENAI._chunk({}, finish))]
    if prompt_tokens is not None:
        ending.append(OPENAI.counted(usage))
    texts = [OPENAI.text("hum ") for _ in range(tokens if pieces is None else pieces)]
    return streamed([*texts, *ending, b"data: [DONE]\n\n"], delay_s=delay_s)


def measured(
    server: WireServer, plan: BenchPlan = PLAN, *, progress: Callable[[Step], None] = lambda _: None, **tables: Any
) -> BenchRun:
    async def run() -> BenchRun:
        loaded = without_retries(load_config(config(server, **tables)), plan)
        async with AsyncLlamaClient(loaded) as client:
            return await measure(client, plan, progress=progress)

    return asyncio.run(run())


# What is asked of a server.


def test_no_prompt_is_like_another_and_each_is_asked_once() -> None:
    with WireServer(lambda _: told(8)) as server:
        run = measured(server)
    bodies = [received.json for received in server.requests]
    prompts = [body["messages"][0]["content"] for body in bodies]
    assert len(prompts) == len({prompt.split()[0] for prompt in prompts}) == 5
    assert [body["max_tokens"] for body in bodies] == [8] * 5
    assert all(body["stream"] and "ignore_eos" not in body for body in bodies)
    assert [level.answered for level in run.levels] == [4]


def test_a_model_is_asked_not_to_stop_where_that_is_wanted() -> None:
    with WireServer(lambda _: told(8)) as server:
        measured(server, replace(PLAN, ignore_eos=True))
    assert all(received.json["ignore_eos"] is True for received in server.requests)


def test_so_many_are_open_at_once_as_was_asked_for() -> None:
    barrier, calls = threading.Barrier(3), itertools.count()

    def answer(_: Received) -> Answer:
        # The first warms up; after it, nobody is answered before three wait.
        if next(calls):
            barrier.wait(10)
        return told(8)

    with WireServer(answer) as server:
        [level] = measured(server, replace(PLAN, concurrencies=(3,), requests=9)).levels
    assert (level.answered, level.failed) == (9, 0)


def test_the_servers_own_counts_rule_and_not_what_was_asked_for() -> None:
    with WireServer(lambda _: told(5, prompt_tokens=77)) as server:
        [level] = measured(server).levels
    assert (level.mean_input_tokens, level.mean_output_tokens, level.estimated) == (77, 5, 0)


def test_counts_that_the_server_does_not_tell_are_said_to_be_estimated() -> None:
    with WireServer(lambda _: told(8, prompt_tokens=None)) as server:
        [level] = measured(server).levels
    assert level.estimated == 4
    # Four bytes a token.
    assert level.mean_output_tokens == 8


@pytest.mark.parametrize(("claimed", "overcounted"), [(4000, 4), (9, 0)])
def test_more_tokens_than_were_asked_for_are_not_believed(claimed: int, overcounted: int) -> None:
    with WireServer(lambda _: told(claimed, pieces=8)) as server:
        [level] = measured(server).levels
    assert (level.overcounted, level.estimated) == (overcounted, overcounted)
    # By the bytes of what came; a sign of the end that is counted, too, is no lie.
    assert level.mean_output_tokens == (8 if overcounted else 9)


@pytest.mark.parametrize(
    ("own", "deadline_s", "first_content_s", "waits_s"),
    [
        ({}, 600, 600, 600),
        ({"deadline_s": 20}, 20, 600, 20),
        ({"first_content_s": 7}, 600, 7, 7),
        ({"deadline_s": 30, "first_content_s": 120}, 30, 120, 30),
    ],
)
def test_a_patience_that_the_user_has_set_stays(
    own: dict[str, float], deadline_s: float, first_content_s: float, waits_s: float
) -> None:
    loaded = without_retries(load_config({"routing": own}), PLAN)
    assert (loaded.routing.deadline_s, loaded.routing.first_content_s) == (deadline_s, first_content_s)
    assert loaded.routing.retries == 0
    assert first_content_timeout_s(loaded, "vllm/m") == waits_s
    # Which says that it is loading its model, and is waited for.
    assert first_content_timeout_s(loaded, "ollama/m") == deadline_s


def test_a_server_that_never_answers_is_left_when_the_users_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_TIMEOUT_S", 0.3)
    with WireServer(lambda _: silence()) as server, pytest.raises(APITimeoutError):
        measured(server, routing={"first_content_s": 0.3})


def test_prompts_are_corrected_by_what_the_first_one_had() -> None:
    with WireServer(
        lambda received: told(8, prompt_tokens=2 * len(received.json["messages"][0]["content"].split()))
    ) as server:
        [level] = measured(server, replace(PLAN, input_tokens=1000)).levels
    assert level.mean_input_tokens == pytest.approx(1000, rel=0.05)


def test_the_times_are_those_of_the_server() -> None:
    with WireServer(lambda _: told(8, delay_s=0.02)) as server:
        [level] = measured(server).levels
    assert level.tpot_ms is not None
    assert level.ttft_ms is not None
    assert level.output_tokens_per_s is not None
    # Never faster than the server; how much slower, a busy machine decides.
    assert level.tpot_ms.p50 >= 19.9
    assert level.output_tokens_per_s <= 8 / (7 * 0.0199)


def test_progress_is_told_level_by_level() -> None:
    steps: list[Step] = []
    with WireServer(lambda _: told(8)) as server:
        measured(server, replace(PLAN, concurrencies=(1, 2)), progress=steps.append)
    assert steps[:2] == [Step(0, 0, 1), Step(1, 0, 4)]
    assert [step.done for step in steps if step.concurrency == 2] == [0, 1, 2, 3, 4]


def test_what_it_cost_is_added_up() -> None:
    price = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 10}
    with WireServer(lambda _: told(8)) as server:
        paid, unpriced = measured(server, prices=[price]), measured(server)
    assert paid.usd == Decimal("0.0009")
    assert (paid.unpriced_requests, paid.is_free) == (0, False)
    assert (unpriced.usd, unpriced.unpriced_requests) == (Decimal(0), 5)


# What goes wrong.


def test_a_failed_request_is_one_attempt_and_is_counted() -> None:
    answers = itertools.chain([told(8)], itertools.cycle([failing(503), told(8)]))
    with WireServer(lambda _: next(answers)) as server:
        run = measured(server)
    [level] = run.levels
    assert (level.answered, level.errors, run.stopped) == (2, {"OverloadedError": 2}, None)
    assert len(server.requests) == 5


def test_a_level_in_which_all_fail_is_the_last() -> None:
    answers = itertools.chain([told(8)], itertools.repeat(failing(500)))
    with WireServer(lambda _: next(answers)) as server:
        run = measured(server, replace(PLAN, concurrencies=(4, 8), requests=100))
    [level] = run.levels
    assert level.answered == 0
    assert level.errors["ServerError"] < 12
    assert run.stopped is not None
    assert run.stopped.startswith(f"at 4 at once all {level.failed} requests failed, the last with ServerError: ")


def test_a_target_that_refuses_the_first_request_is_not_measured() -> None:
    with WireServer(lambda _: failing(429)) as server, pytest.raises(RateLimitError):
        measured(server)
    assert len(server.requests) == 1


def test_a_budget_that_runs_out_ends_the_run_with_what_was_measured(tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "prices": [{"target": "a/m", "input_usd_per_mtok": 0, "output_usd_per_mtok": 1}],
        "budgets": [{"usd": 0.00004, "window": "total"}],
        "ledger": {"url": f"sqlite:///{tmp_path / 'ledger.db'}", "enabled": False},
    }
    with WireServer(lambda _: told(8)) as server:
        run = measured(server, replace(PLAN, requests=50), **tables)
    [level] = run.levels
    assert (level.answered, level.errors) == (4, {"BudgetExceededError": 1})
    assert run.stopped is not None
    assert "1 request failed, the last with BudgetExceededError" in run.stopped
    assert len(server.requests) == 5


def test_a_server_that_hangs_is_left_when_the_time_is_over() -> None:
    answers = itertools.chain([told(8), told(8)], itertools.repeat(silence()))
    with WireServer(lambda _: next(answers)) as server:
        run = measured(server, replace(PLAN, concurrencies=(2, 4), seconds=0.3))
        assert server.wait_until_idle()
    first, second = run.levels
    assert (first.answered, first.cut) == (1, 2)
    assert (second.answered, second.cut) == (0, 4)
    assert (
        run.stopped == "at 4 at once no request was answered within 0.6 s: give it more seconds, or ask for less output"
    )


def test_whoever_cancels_it_leaves_nothing_open() -> None:
    started = threading.Event()

    def answer(_: Received) -> Answer:
        if len(server.requests) == 4:
            started.set()
        return told(2000, delay_s=0.01) if len(server.requests) > 1 else told(8)

    async def cancelled() -> None:
        async with AsyncLlamaClient(config(server)) as client:
            running = asyncio.ensure_future(measure(client, replace(PLAN, concurrencies=(3,))))
            await asyncio.to_thread(started.wait, 10)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    with WireServer(answer) as server:
        asyncio.run(cancelled())
        assert server.wait_until_idle()
        assert server.closed_early.is_set()


def test_local_only_reaches_nobody_else() -> None:
    with pytest.raises(LocalOnlyError):
        measured("http://192.0.2.1", local_only=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"concurrencies": ()}, "concurrency: must be 1 to 16 different numbers, got none"),
        ({"concurrencies": (1, 1)}, "concurrency: must be 1 to 16 different numbers, got 1,1"),
        ({"concurrencies": (0,)}, "concurrency: must be from 1 to 512, got 0"),
        ({"input_tokens": 0}, "input_tokens: must be from 1 to 1,000,000, got 0"),
        ({"output_tokens": -5}, "output_tokens: must be from 1 to 100,000, got -5"),
        ({"requests": 10_001}, "requests: must be from 1 to 10,000, got 10001"),
        ({"seconds": 0.0}, "seconds: must be above 0 and at most 3,600, got 0.0"),
        ({"seconds": float("nan")}, "seconds: must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as refused:
        replace(PLAN, **wrong)
    assert refused.value.param == says.partition(":")[0]


def test_a_model_in_this_process_is_measured(config: dict[str, Any], warm_engine: None) -> None:
    plan = BenchPlan("laptop/default", (1, 2), 64, 3, requests=2, ignore_eos=True)

    async def run() -> BenchRun:
        async with AsyncLlamaClient(without_retries(load_config(config), plan)) as client:
            return await measure(client, plan)

    found = asyncio.run(run())
    assert [(level.answered, level.failed, level.estimated) for level in found.levels] == [(2, 0, 0)] * 2
    for level in found.levels:
        assert level.mean_output_tokens == 3
        assert level.mean_input_tokens == pytest.approx(64, rel=0.2)
        assert level.output_tokens_per_s
        assert level.tpot_ms
    assert (str(found.usd), found.is_free, found.stopped) == ("0", True, None)
