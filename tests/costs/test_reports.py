"""Reports add up what the ledger holds, by day or by what attempts share; what nobody knows stands apart."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import InvalidRequestError, LlamaClient
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer
from tests.costs.buying import file_in, kept
from tests.routing.asking import config, failing, good, timed

PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def test_a_price_that_changed_mid_month_splits_correctly(tmp_path: Path) -> None:
    fake = FakeClock()
    sync, _ = timed(fake)
    fake.now += datetime(2027, 3, 14, 23, 59, tzinfo=UTC).timestamp() - fake.clock.wall()
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
    with WireServer(lambda _: OPENAI.good(streams=False, usage=usage)) as server:
        configuration = kept(server, file_in(tmp_path))
        change, price = datetime(2027, 3, 15, tzinfo=UTC).date(), PRICE | {"output_usd_per_mtok": 0}
        configuration["prices"] = [
            {**price, "input_usd_per_mtok": 0.1, "effective_until": change},
            {**price, "input_usd_per_mtok": 0.3, "effective_from": change},
        ]
        with sync(configuration) as client:
            costs = [client.ask("hi").cost.usd for _ in range(2)]
            fake.now += 120
            costs += [client.ask("hi").cost.usd for _ in range(3)]
            report = client.costs.report(by="day")
    assert [str(usd) for usd in costs] == ["0.1", "0.1", "0.3", "0.3", "0.3"]
    assert [(group.key, str(group.usd), group.calls) for group in report.groups] == [
        ("2027-03-14", "0.2", 2),
        ("2027-03-15", "0.9", 3),
    ]
    assert str(report.total_usd) == "1.1"


def test_unpriced_calls_stand_apart_in_every_report(ledger_url: str) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, ledger_url)) as client:
        client.ask("hi", tags={"user": "ann"})
        for _ in range(2):
            client.ask("hi", model="a/unknown", tags={"user": "bob"})
        for by, priced, unpriced in (
            ("target", "a/m", "a/unknown"),
            ("route", "chat", ""),
            ("tag:user", "ann", "bob"),
        ):
            report = client.costs.report(by=by)
            assert (report.calls, report.unpriced_calls, str(report.total_usd)) == (3, 2, "0.000007")
            groups = {group.key: (group.calls, group.unpriced_calls, str(group.usd)) for group in report.groups}
            assert groups == {priced: (1, 0, "0.000007"), unpriced: (2, 2, "0")}
        for by in ("provider", "day"):
            [group] = client.costs.report(by=by).groups
            assert (group.calls, group.unpriced_calls, str(group.usd)) == (3, 2, "0.000007")


def test_a_call_that_asked_two_providers_is_one_call_in_all_and_one_with_each(ledger_url: str) -> None:
    with WireServer(lambda _: failing(503)) as down, WireServer(good()) as server:
        two = config(down, server, ledger={"url": ledger_url}, routing={"retries": 1, "deadline_s": 5})
        with LlamaClient(two) as client:
            client.ask("hi")
            report = client.costs.report(by="provider")
    assert report.calls == 1
    assert {group.key: (group.calls, group.errors) for group in report.groups} == {"a": (1, 1), "b": (1, 0)}


def test_days_are_those_of_the_users_time_zone(tmp_path: Path) -> None:
    fake = FakeClock()
    sync, _ = timed(fake)
    # The day on which the clocks of New York go back has 25 hours.
    fake.now += datetime(2027, 11, 7, 4, 30, tzinfo=UTC).timestamp() - fake.clock.wall()
    with WireServer(good()) as server:
        with sync(kept(server, file_in(tmp_path), timezone="America/New_York")) as client:
            for _ in range(25):
                client.ask("hi")
                fake.now += 3600
            client.ask("hi")
            report = client.costs.report(by="day")
            half = client.costs.report(since="2027-11-07T12:00", by="day")
            day = client.costs.report(since="2027-11-08", by="day")
            always = client.costs.report(since="999999999w")
    assert {group.key: group.calls for group in report.groups} == {"2027-11-07": 25, "2027-11-08": 1}
    assert [half.calls, day.calls, always.calls] == [13, 1, 26]


def test_a_report_of_nothing_creates_nothing(tmp_path: Path) -> None:
    with LlamaClient({"ledger": {"url": file_in(tmp_path)}}) as client:
        report = client.costs.report(since="7d")
    assert (report.calls, report.total_usd) == (0, Decimal(0))
    assert not report.groups
    assert report.since is not None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"by": "model"}, r"by: must be one of 'provider', 'target', 'route', 'day' or 'tag:<key>', got 'model'"),
        ({"by": "tag:"}, "by: must be one of"),
        ({"since": "yesterday"}, "since: must be an age such as '7d'"),
        ({"since": 7}, "since: must be an age"),
        ({"since": "9" * 400}, "since: must be an age"),
    ],
)
def test_what_cannot_be_reported_is_refused(params: dict[str, Any], message: str) -> None:
    with LlamaClient({}) as client, pytest.raises(Exception, match=message):
        client.costs.report(**params)


_FIRST, _LAST = (datetime.combine(day, time()) for day in (date.min, date.max))


@pytest.mark.parametrize(
    "since",
    [_LAST, date.max, timedelta(days=-99999999), "9999-12-31T23:59:59-12:00", "9999-12-31", _FIRST],
)
@pytest.mark.parametrize("by", ["day", "target"])
def test_any_moment_is_one_to_report_from(since: Any, by: str, tmp_path: Path) -> None:
    with WireServer(good()) as server, LlamaClient(kept(server, file_in(tmp_path))) as client:
        client.ask("hi")
        try:
            assert client.costs.report(since=since, by=by).calls == (1 if since == _FIRST else 0)
        except InvalidRequestError as error:
            assert error.param == "since"


def test_a_report_does_not_wait_for_another_process_that_writes(tmp_path: Path) -> None:
    with WireServer(good()) as server:
        with LlamaClient(kept(server, file_in(tmp_path))) as client:
            client.ask("hi")
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            with LlamaClient(kept(server, file_in(tmp_path))) as client:
                assert client.costs.report().calls == 1
        finally:
            holder.rollback()
            holder.close()
