"""Rows that wait for idle hours of this machine: when they are asked, what else is done with them, and what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import (
    APIConnectionError,
    BudgetExceededError,
    BulkProgress,
    InvalidRequestError,
    LlamaClient,
    OverloadedError,
)
from llama_client.bulk.planning.quotes import BulkPlan, VenueQuote
from llama_client.bulk.receipt import BulkReceipt
from llama_client.testing import FakeClock, FakeProvider, Reply
from tests.bulk.jobs import MODES, lines, run

both = pytest.mark.parametrize("mode", MODES)
LOCAL, REMOTE = "gguf/small", "groq/llama-3.1-8b-instant"
NIGHT = "22:00-06:00"
HOUR_S, DAY_S = 3600.0, 86_400.0


@dataclass
class Night:
    """Jobs with a model of this machine that takes its time, and one at Groq; by a clock that begins at 11:08 UTC.

    Attributes:
        row_s: How long the local model takes for an answer.
        remote_s: How long the other one takes.
        begun: When it was asked.
        at_once: When the other one was.
    """

    fake: FakeProvider
    clock: FakeClock
    folder: Path
    row_s: float = 60.0
    remote_s: float = 1.0
    begun: list[datetime] = field(default_factory=list)
    at_once: list[datetime] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    local_is_down: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        self.fake.on(LOCAL).always(self._local)
        self.fake.on(REMOTE).always(self._remote)

    def _local(self, request: Any) -> Reply | type[APIConnectionError]:
        if self.local_is_down():
            return APIConnectionError
        self.begun.append(self.clock.moment)
        return Reply("here", after_s=self.row_s, usage=(10, 8))

    def _remote(self, request: Any) -> Reply:
        self.at_once.append(self.clock.moment)
        return Reply("elsewhere", after_s=self.remote_s, usage=(10, 8))

    @property
    def config(self) -> dict[str, Any]:
        ledger = {"url": f"sqlite:///{self.folder / 'ledger.db'}", "enabled": True}
        return {**self.fake.config(), "timezone": "UTC", "ledger": ledger, **self.more}

    def measure(self, calls: int = 4) -> None:
        """As `llama-client bench` does: some calls, which the ledger remembers."""
        with LlamaClient(self.config) as client:
            for _ in range(calls):
                client.ask("ticket", model=LOCAL, max_tokens=8)
        self.begun.clear()

    def options(self, **options: Any) -> dict[str, Any]:
        return {
            "model": [LOCAL, REMOTE], "params": {"max_tokens": 8}, "idle": NIGHT, "venues": ["now", "idle"], **options,
        }  # fmt: skip

    def plan(self, rows: int, **options: Any) -> BulkPlan:
        with LlamaClient(self.config) as client:
            return client.bulk(texts(rows), **self.options(**options)).plan()

    def run(self, rows: int, mode: str = "sync", *, output: str = "out.jsonl", **options: Any) -> BulkReceipt:
        return run(mode, self.config, texts(rows), self.folder / output, **self.options(**options))

    @property
    def answers(self) -> list[str]:
        return [line["answer"] for line in lines(self.folder / "out.jsonl")]


def texts(rows: int) -> list[str]:
    return [f"ticket {number}" for number in range(rows)]


def quote_of(plan: BulkPlan, venue: str) -> VenueQuote:
    return next(each for each in plan.quotes if each.venue == venue)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake:
        yield Night(fake, clock, tmp_path)


@both
def test_rows_wait_for_the_hours_in_which_this_machine_is_idle(night: Night, mode: str) -> None:
    night.measure()
    plan = night.plan(20, deadline_s=DAY_S)
    assert (plan.venue, plan.idle_rows, plan.usd) == ("idle", 20, Decimal(0))
    assert "20 of 20 rows wait for the idle hours 22:00-06:00 of gguf/small" in plan.explanation
    receipt = night.run(20, mode, deadline_s=DAY_S)
    assert night.begun[0] == datetime(2026, 11, 18, 22, tzinfo=UTC)
    assert (len(night.begun), night.at_once, night.answers) == (20, [], ["here"] * 20)
    told = receipt.venues["idle"]
    assert (told.rows, told.usd) == (20, Decimal(0))
    # What Groq charges for as many tokens.
    assert told.saved_usd == 20 * (10 * Decimal("0.05") + 8 * Decimal("0.08")) / 1_000_000


def test_the_default_model_may_be_the_one_that_waits(night: Night) -> None:
    night.more = {"default_model": LOCAL}
    night.measure()
    assert {*night.run(3, model=None, deadline_s=DAY_S).venues} == {"idle"}
    assert (len(night.begun), night.at_once) == (3, [])


@both
def test_what_idle_hours_cannot_hold_is_asked_at_once(night: Night, mode: str) -> None:
    night.measure()
    plan = night.plan(60, deadline_s=DAY_S, idle="22:00-22:40")
    # Four fifths of 40 minutes are relied on, for rows of about a minute.
    assert plan.venue == "idle"
    assert 30 <= plan.idle_rows <= 34
    rest = 60 - plan.idle_rows
    assert f"{rest} rows are asked at once" in plan.explanation
    receipt = night.run(60, mode, deadline_s=DAY_S, idle="22:00-22:40")
    assert {venue: each.rows for venue, each in receipt.venues.items()} == {"now": rest, "idle": 60 - rest}
    assert night.answers == ["elsewhere"] * rest + ["here"] * (60 - rest)
    assert all(moment.hour == 11 for moment in night.at_once)
    assert receipt.usd is not None
    assert 0 < receipt.usd <= (plan.most_usd or 0)


@both
def test_no_row_begins_when_the_hours_are_over_and_the_next_ones_go_on(night: Night, mode: str) -> None:
    receipt = night.run(25, mode, idle="22:00-22:10")
    assert (receipt.venues["idle"].rows, night.at_once) == (25, [])
    assert {(moment.day, moment.hour) for moment in night.begun} == {(18, 22), (19, 22), (20, 22)}
    assert all(moment.minute < 10 for moment in night.begun)


@both
def test_a_job_that_has_stopped_goes_on_in_the_next_hours(night: Night, mode: str) -> None:
    night.more = {"providers": {"gguf": {"kind": "gguf", "usd_per_hour": 1}, "groq": {}}}
    # A minute costs a sixtieth of a dollar, and a call is given up after two.
    with pytest.raises(BudgetExceededError, match="the same call with a larger max_usd goes on"):
        night.run(8, mode, venues=["idle"], max_usd=Decimal("4.5") / 60)
    assert [(moment.day, moment.hour) for moment in night.begun] == [(18, 22)] * 3
    night.begun.clear()
    night.clock.turn_to(datetime(2026, 11, 19, 12, tzinfo=UTC))
    receipt = night.run(8, mode, venues=["idle"], max_usd=10)
    assert (receipt.earlier, receipt.answered, night.answers) == (3, 5, ["here"] * 8)
    assert [(moment.day, moment.hour) for moment in night.begun] == [(19, 22)] * 5


@both
def test_rows_leave_a_machine_that_has_become_slow_in_time(night: Night, mode: str) -> None:
    night.more = {"routing": {"deadline_s": 1_000.0}}
    night.measure()
    night.row_s = 550
    plan = night.plan(100, deadline_s=DAY_S)
    assert plan.idle_rows == 100
    began = night.clock.now
    receipt = night.run(100, mode, deadline_s=DAY_S)
    assert night.clock.now - began <= DAY_S
    assert (receipt.answered, len(night.answers)) == (100, 100)
    # What it does by morning, with the last one that had begun.
    assert 40 <= receipt.venues["idle"].rows <= 53
    assert receipt.usd is not None
    assert plan.most_usd is not None
    assert receipt.usd <= plan.most_usd


def test_rows_leave_earlier_where_the_other_target_is_slow(night: Night) -> None:
    night.more = {"routing": {"deadline_s": 1_000.0}}
    night.measure()
    night.remote_s = 50
    with LlamaClient(night.config) as client:
        for _ in range(4):
            client.ask("ticket", model=REMOTE, max_tokens=8)
    night.at_once.clear()
    began, night.row_s = night.clock.moment, 550
    # Tasks begin their waits together; threads may not.
    receipt = night.run(150, "async", deadline_s=DAY_S)
    assert receipt.venues["now"].rows > 90
    # Sixteen at once: a hundred rows take five minutes, or twice that, and five are left over.
    first_s = (night.at_once[0] - began).total_seconds()
    assert DAY_S - 1_500 < first_s < DAY_S - 600
    assert (night.clock.moment - began).total_seconds() <= DAY_S


def test_the_local_model_answers_late_rows_where_there_is_no_other(night: Night) -> None:
    plan = night.plan(3, model=LOCAL, deadline_s=2 * HOUR_S)
    assert quote_of(plan, "now").target == LOCAL
    assert "unknown" in plan.explanation
    receipt = night.run(3, model=LOCAL, deadline_s=2 * HOUR_S)
    assert {*receipt.venues} == {"now"}
    assert night.begun[-1] < datetime(2026, 11, 18, 13, 8, tzinfo=UTC)
    # But not where idle hours alone are permitted.
    night.begun.clear()
    late = night.run(3, model=LOCAL, deadline_s=2 * HOUR_S, venues=["idle"], output="late.jsonl")
    assert {*late.venues} == {"idle"}
    assert night.begun[0].hour == 22


def test_rows_that_fail_at_this_machine_are_asked_elsewhere(night: Night) -> None:
    night.fake.on(LOCAL).fails(OverloadedError, times=1_000)
    receipt = night.run(10)
    assert (receipt.answered, {*receipt.venues}) == (10, {"now"})
    assert all(moment.hour == 22 for moment in night.at_once)


@both
def test_a_short_outage_of_this_machine_sends_no_row_elsewhere(night: Night, mode: str) -> None:
    night.measure()
    clock = night.clock
    night.local_is_down = lambda: clock.moment.hour == 22 and clock.moment.minute < 5
    receipt = night.run(30, mode, deadline_s=DAY_S)
    assert {venue: each.rows for venue, each in receipt.venues.items()} == {"idle": 30}
    assert night.at_once == []


def test_an_outage_that_lasts_sends_the_rows_elsewhere(night: Night) -> None:
    night.measure()
    night.local_is_down = lambda: True
    told: list[BulkProgress] = []
    receipt = night.run(30, deadline_s=DAY_S, on_progress=told.append)
    assert {venue: each.rows for venue, each in receipt.venues.items()} == {"now": 30}
    assert [moment.hour for moment in night.at_once] == [22] * 30
    assert {each.waits_for for each in told} <= {None, LOCAL}
    assert LOCAL in {each.waits_for for each in told}
    # While others could answer, this machine is looked at for a quarter of an hour.
    assert min(night.at_once) >= datetime(2026, 11, 18, 22, 15, tzinfo=UTC)


@both
def test_failures_of_two_nights_are_no_long_outage(night: Night, mode: str) -> None:
    night.measure()
    clock = night.clock
    night.local_is_down = lambda: (clock.moment.hour, clock.moment.minute) >= (23, 55) or clock.moment.hour < 2
    # Five minutes of each; two hours lie between.
    receipt = night.run(30, mode, deadline_s=3 * DAY_S, idle="23:40-00:00, 01:55-06:00", venues=["idle"])
    assert {venue: each.rows for venue, each in receipt.venues.items()} == {"idle": 30}
    assert any(moment.hour == 23 for moment in night.begun)
    assert night.begun[-1].hour == 2


def test_the_sentence_of_an_outage_names_the_target_as_users_do(night: Night) -> None:
    night.local_is_down = lambda: True
    with pytest.raises(APIConnectionError, match=f"the job ended, as {LOCAL} could not be reached"):
        night.run(10, model=LOCAL, venues=["idle"])


def test_an_unknown_rate_is_not_counted_on(night: Night) -> None:
    plan = night.plan(20, deadline_s=DAY_S)
    # It may answer all of them for nothing: the quote is what they cost elsewhere.
    assert (plan.idle_rows, plan.usd) == (20, quote_of(plan, "now").usd)
    assert "How fast it answers is unknown, so it is not counted on" in plan.explanation
    assert quote_of(plan, "idle").ends_in_s is None
    night.measure(2)
    assert quote_of(night.plan(20, deadline_s=DAY_S), "idle").ends_in_s is None
    night.measure(2)
    # Until ten, and 20 rows of a minute.
    assert quote_of(night.plan(20, deadline_s=DAY_S), "idle").ends_in_s == pytest.approx(
        (datetime(2026, 11, 18, 22, tzinfo=UTC) - night.clock.moment).total_seconds() + 20 * 60, rel=0.01
    )


@pytest.mark.parametrize(
    ("machine", "idle_rows"),
    [
        pytest.param({"usd_per_hour": 1}, 0, id="dear"),
        pytest.param({"watts": 10, "usd_per_kwh": 0.0001}, 20, id="energy"),
    ],
)
def test_the_own_cost_of_the_machine_counts(night: Night, machine: dict[str, Any], idle_rows: int) -> None:
    night.more = {"providers": {"gguf": {"kind": "gguf", **machine}}}
    night.measure()
    plan = night.plan(20, deadline_s=DAY_S)
    idle, now = quote_of(plan, "idle"), quote_of(plan, "now")
    assert idle.usd is not None
    assert now.usd is not None
    assert (idle.usd <= now.usd, plan.idle_rows) == (idle_rows > 0, idle_rows)
    assert idle.usd > 0
    receipt = night.run(20, deadline_s=DAY_S)
    assert {*receipt.venues} == {"idle" if idle_rows else "now"}
    assert receipt.usd is not None
    assert receipt.usd > 0
    if idle_rows:
        assert receipt.usd == pytest.approx(plan.usd, rel=Decimal("0.1"))


def test_hours_are_those_of_the_time_zone_and_of_summer_time(night: Night) -> None:
    night.measure()
    night.more = {"timezone": "Europe/Berlin"}
    lengths_h, begins = {}, []
    for day in (datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 10, 30, 12, tzinfo=UTC)):
        night.clock.turn_to(day)
        # So that the ledger's measurement is not an old one.
        night.measure()
        night.clock.turn_to(day.replace(hour=13))
        lengths_h[day.month] = quote_of(night.plan(700, deadline_s=DAY_S), "idle").rows * 60 / 0.8 / HOUR_S
        night.run(1, deadline_s=DAY_S, output=f"{day.month}.jsonl")
        begins.append(night.begun[0].hour)
    assert begins == [21, 20]
    assert lengths_h == {3: pytest.approx(7, rel=0.07), 10: pytest.approx(9, rel=0.07)}


def test_local_only_keeps_all_rows_here(night: Night) -> None:
    night.more = {"local_only": True}
    night.measure()
    plan = night.plan(200, deadline_s=DAY_S, idle="22:00-23:00")
    assert quote_of(plan, "now").target == LOCAL
    receipt = night.run(200, deadline_s=DAY_S, idle="22:00-23:00")
    assert (receipt.answered, night.at_once, night.answers) == (200, [], ["here"] * 200)
    assert receipt.venues["idle"].rows == plan.idle_rows <= 50


def test_rows_for_idle_hours_do_not_wait_for_the_money_of_others(night: Night) -> None:
    night.measure()
    with pytest.raises(BudgetExceededError, match="max_usd"):
        night.run(60, deadline_s=DAY_S, idle="22:00-22:40", max_usd="0.0000001")
    assert len(night.begun) >= 30
    assert night.at_once == []


@pytest.mark.parametrize(
    ("limit", "takes_s"),
    [
        # A limit that is filled continuously: 14,400 a day are one in six seconds.
        pytest.param(("-requests", "14400", "14370", "2m59.56s"), 360, id="a-day"),
        pytest.param(("-requests", "60", "59", "1s"), 60, id="a-minute"),
        # Windows that begin anew.
        pytest.param(("", "10", "4", "1"), 6, id="a-window-of-a-second"),
        pytest.param(("-requests", "30", "30", "40"), 120, id="a-window-of-a-minute"),
    ],
)
def test_how_long_asking_at_once_takes_is_told_by_the_limits_of_the_target(
    night: Night, limit: tuple[str, str, str, str], takes_s: float
) -> None:
    kind, *values = limit
    names = [f"x-ratelimit-{name}{kind}" for name in ("limit", "remaining", "reset")]
    headers = dict(zip(names, values, strict=True))
    night.fake.on(REMOTE).always(Reply("fast", headers=headers))
    with LlamaClient(night.config) as client:
        options = night.options(model=REMOTE, idle=None, venues=None)
        before = client.bulk(texts(60), **options).plan()
        assert quote_of(before, "now").ends_in_s is None
        assert f"How fast {REMOTE} answers is unknown" in before.explanation
        client.ask("ticket", model=REMOTE)
        after = client.bulk(texts(60), **options).plan()
    assert quote_of(after, "now").ends_in_s == pytest.approx(takes_s)
    assert "by its limit of requests" in after.explanation


def test_how_long_asking_at_once_takes_is_told_by_what_was_measured(night: Night) -> None:
    with LlamaClient(night.config) as client:
        for _ in range(4):
            client.ask("ticket", model=REMOTE, max_tokens=8)
        plan = client.bulk(texts(160), **night.options(model=REMOTE, idle=None, venues=None)).plan()
    # Sixteen at once, a second each.
    assert quote_of(plan, "now").ends_in_s == pytest.approx(10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"idle": "22-06"}, "idle: '22-06' is no window: write '22:00-06:00'", id="no-minutes"),
        pytest.param({"idle": "25:00-06:00"}, "idle: 25:00 is no time of a day", id="hour-25"),
        pytest.param({"idle": "08:00-08:00"}, "is empty; '00:00-24:00' is the whole day", id="empty"),
        pytest.param({"idle": "24:00-06:00"}, "begins at 24:00; write 00:00", id="from-24"),
        pytest.param({"idle": "moon 08:00-09:00"}, "'moon' are no days of mon, tue", id="no-day"),
        pytest.param({"idle": ["22:00-06:00"]}, "idle: must be a text", id="a-list"),
        pytest.param({"venues": ["idle"]}, "venues: 'idle' needs the hours .* give idle='22:00-06:00'", id="no-hours"),
        pytest.param({"idle": NIGHT, "venues": ["now"]}, "idle: venues leaves 'idle' out", id="left-out"),
    ],
)
def test_wrong_hours_are_refused(options: dict[str, Any], told: str) -> None:
    with FakeProvider() as fake, LlamaClient(fake.config()) as client, pytest.raises(InvalidRequestError, match=told):
        client.bulk(texts(2), **options)


def test_rows_that_no_model_of_this_machine_can_take_need_another_venue(night: Night) -> None:
    with pytest.raises(InvalidRequestError, match="no model of this machine can take all rows for groq/llama"):
        night.run(2, model=REMOTE, venues=["idle"])
    with (
        LlamaClient(night.config) as client,
        pytest.raises(InvalidRequestError, match="an iterator gives its rows once"),
    ):
        [*client.bulk(iter(texts(2)), **night.options())]
    assert (night.begun, night.at_once) == ([], [])


@pytest.mark.parametrize(
    ("hours", "begins"),
    [
        # The eighteenth of November 2026 is a Wednesday, and it is eight past eleven.
        pytest.param("11:00-12:00", (18, 11), id="open"),
        pytest.param("09:00-10:00", (19, 9), id="tomorrow"),
        pytest.param("weekends", (21, 0), id="weekends"),
        pytest.param("fri 22:00-06:00, weekends", (20, 22), id="two-windows"),
        pytest.param("thu-tue 12:00-13:00", (19, 12), id="days-over-sunday"),
        pytest.param("daily", (18, 11), id="always"),
    ],
)
def test_hours_of_days(night: Night, hours: str, begins: tuple[int, int]) -> None:
    night.run(1, idle=hours)
    [moment] = night.begun
    assert (moment.day, moment.hour) == begins
