"""The traffic of the ledger: what a machine would have to serve that took it over, hour by hour."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, InvalidRequestError, LlamaClient
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer
from llama_client.types.report import BENCH_TAG, TrafficReport
from tests.costs.buying import file_in, rows
from tests.costs.filling import Spent, ago, fill
from tests.routing.asking import config, failing, good, timed

HOUR_S, DAY_S = 3600.0, 86_400.0
# A Monday, half past ten.
START = datetime(2027, 3, 15, 10, 30, tzinfo=UTC)


def at(moment: datetime) -> FakeClock:
    fake = FakeClock()
    fake.now += moment.timestamp() - fake.clock.wall()
    return fake


def using(read: int, written: int, cached: int | None = None) -> Answer:
    usage: dict[str, Any] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return OPENAI.good(streams=False, usage=usage)


def traffic_of(url: str, calls: list[tuple[float, Answer]], **wanted: Any) -> TrafficReport:
    """Makes calls, each after a wait of so many seconds, and reports."""
    fake = at(START)
    sync, _ = timed(fake)
    with WireServer() as server, sync(config(server, ledger={"url": url})) as client:
        for wait_s, answer in calls:
            fake.now += wait_s
            server.answer(answer)
            client.ask("hi", model="a/m")
        report: TrafficReport = client.costs.traffic(**wanted)
        return report


def test_each_hour_of_the_period_is_there_also_those_without_a_call(ledger_url: str) -> None:
    calls = [(0, using(100, 10)), (60, using(50, 5)), (3 * HOUR_S, using(10, 30)), (2 * DAY_S, using(1, 2))]
    report = traffic_of(ledger_url, calls)
    # From 10:00 on Monday to 14:00 on Wednesday.
    assert report.days == 52 / 24
    assert len(report.hourly_tokens) == 52
    busy = {hour: tokens for hour, tokens in enumerate(report.hourly_tokens) if tokens}
    assert busy == {0: 165, 3: 40, 51: 3}
    assert {hour: tokens for hour, tokens in enumerate(report.hourly_output_tokens) if tokens} == {0: 15, 3: 30, 51: 2}
    assert (report.calls, report.input_tokens, report.output_tokens) == (4, 161, 47)
    assert report.tokens_per_day == pytest.approx(208 / (52 / 24))
    assert report.peak_to_mean == pytest.approx(165 / (208 / 52))
    assert (report.mean_input_tokens, report.mean_output_tokens) == (161 / 4, 47 / 4)
    assert (report.input_share, report.output_share) == (161 / 208, 47 / 208)
    assert report.first_call_at == START
    assert report.last_call_at is not None
    assert (report.last_call_at - START).total_seconds() == pytest.approx(60 + 3 * HOUR_S + 2 * DAY_S)
    assert [(each.target, each.calls, each.input_tokens, each.output_tokens) for each in report.targets] == [
        ("a/m", 4, 161, 47)
    ]


def test_a_burst_of_an_hour_is_not_taken_for_a_day_of_such_hours(ledger_url: str) -> None:
    report = traffic_of(ledger_url, [(0, using(100, 20))] * 3)
    assert (report.days, report.tokens_per_day, report.peak_to_mean) == (1, 360, 24)
    assert report.hourly_tokens == (360, *[0] * 23)


def test_the_cached_share_is_that_of_the_calls_whose_provider_tells(ledger_url: str) -> None:
    report = traffic_of(
        ledger_url, [(0, using(100, 10, cached=40)), (0, using(300, 10)), (0, using(100, 10, cached=0))]
    )
    assert (report.cached_tokens, report.cached_share) == (40, 0.2)


def test_what_no_provider_tells_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    report = traffic_of(file_in(tmp_path), [(0, using(100, 10))])
    assert (report.cached_tokens, report.cached_share) == (None, None)


def test_only_answered_calls_count_and_each_once(ledger_url: str) -> None:
    def broken(request: Received) -> Answer:
        return failing(503)

    with WireServer(broken) as down, WireServer(good()) as server:
        two = config(down, server, ledger={"url": ledger_url}, routing={"retries": 1})
        with LlamaClient(two) as client:
            client.ask("hi")
            with client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True) as stream:
                next(stream)
            report = client.costs.traffic()
    assert report.calls == 1
    assert [(each.target, each.calls) for each in report.targets] == [("b/m", 1)]
    assert len(rows(ledger_url, "SELECT outcome FROM llama_client_attempts WHERE outcome <> 'ok'")) >= 3


def test_calls_that_only_measure_a_server_are_nobodys_traffic(ledger_url: str) -> None:
    key, value = BENCH_TAG
    with WireServer(good()) as server, LlamaClient(config(server, ledger={"url": ledger_url})) as client:
        client.ask("hi", tags={key: value, "user": "ann"})
        assert client.costs.traffic().calls == 0
        client.ask("hi", tags={"user": f'{{"{key}": "{value}"}}'})
        client.ask("hi", tags={key: "other"})
        assert client.costs.traffic().calls == 2
        assert client.costs.report().calls == 3


def test_tokens_that_nobody_counted_are_told_apart(ledger_url: str) -> None:
    uncounted = OPENAI.good(streams=False, usage={})
    report = traffic_of(ledger_url, [(0, using(100, 10)), (0, uncounted)])
    assert (report.calls, report.estimated_calls) == (2, 1)


def test_since_model_and_target_say_which_calls(ledger_url: str) -> None:
    fake = at(START)
    sync, _ = timed(fake)
    with WireServer(good()) as one, WireServer(good()) as other:
        with sync(config(one, other, ledger={"url": ledger_url})) as client:
            for model in ("a/llama3.1:8b", "b/llama-3.1-8b-instant", "b/own", "b/own"):
                client.ask("hi", model=model)
                fake.now += DAY_S
            # A name of the catalogue is every provider's id for it.
            assert client.costs.traffic(model="llama-3.1-8b").calls == 2
            assert client.costs.traffic(model="llama-3.1-8b-instant").calls == 2
            assert client.costs.traffic(model="own").calls == 2
            assert client.costs.traffic(target="b/own").calls == 2
            assert client.costs.traffic(target="b/own", model="llama-3.1-8b").calls == 0
            assert client.costs.traffic(model="nobody's").calls == 0
            recent = client.costs.traffic(since="36h")
            assert (recent.calls, recent.days) == (1, 1)
            assert recent.since is not None
            whole = client.costs.traffic()
    assert (whole.calls, whole.days) == (4, 73 / 24)
    assert [each.target for each in whole.targets] == ["b/own", "a/llama3.1:8b", "b/llama-3.1-8b-instant"]


def test_of_a_ledger_without_calls_nothing_is_known_and_nothing_is_created(tmp_path: Path) -> None:
    with LlamaClient({"ledger": {"url": file_in(tmp_path)}}) as client:
        report = client.costs.traffic(since="7d")
    assert report == TrafficReport(since=report.since)
    assert (report.calls, report.days, report.tokens_per_day, report.peak_to_mean) == (0, None, None, None)
    assert not list(tmp_path.iterdir())


def test_what_is_too_long_ago_is_counted_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    fill(file, [Spent("a/m", "1", ago(500)), Spent("a/m", "1", ago(399)), Spent("a/m", "1", ago(1))], lost_calls=2)
    with LlamaClient({"ledger": {"url": f"sqlite:///{file}", "retention_days": 1000}}) as client:
        report = client.costs.traffic()
    assert (report.calls, report.older_calls, report.unrecorded_calls) == (2, 1, 2)
    assert report.days == pytest.approx(398 + 1 / 24)
    assert sum(report.hourly_tokens) == 240
    assert [each.calls for each in report.targets] == [2]


def test_an_asynchronous_client_reports_the_same(tmp_path: Path) -> None:
    async def ask(server: WireServer) -> TrafficReport:
        async with AsyncLlamaClient(config(server, ledger={"url": file_in(tmp_path)})) as client:
            await client.ask("hi")
            return await client.costs.traffic(model="m", target="a/m", since="1h")

    with WireServer(good()) as server:
        assert asyncio.run(ask(server)).calls == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"since": "yesterday"}, "since: must be an age such as '7d'"),
        ({"model": ""}, "model: must be a name, got ''"),
        ({"target": 7}, "target: must be a name, got 7"),
    ],
)
def test_what_cannot_be_reported_is_refused(params: dict[str, Any], message: str) -> None:
    with LlamaClient({}) as client, pytest.raises(InvalidRequestError, match=message) as refused:
        client.costs.traffic(**params)
    assert refused.value.param == next(iter(params))
