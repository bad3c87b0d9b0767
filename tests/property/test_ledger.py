"""Whatever targets and callers do, the ledger holds what an independent recount of what was handed out comes to.

The recount starts from the servers' own account and a list of prices, with whole numbers and fractions, and calls none
of the package's prices, tokens or sums. `LEDGER_EXAMPLES=500 pytest tests/property/test_ledger.py` is the long form.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_client import AsyncLlamaClient, ChatCompletion, LlamaClient, LlamaClientError, StreamInterruptedError
from llama_client.clock import Clock
from llama_client.testing.seams import client_classes
from llama_client.types.completion import Cost
from tests.chaos.accounts import DEEDS, TARGETS, TOOL, AccountServers, Deed, Handed

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "5"))
MODES = ("call-sync", "call-async", "stream-sync", "stream-async")
THREADS = 4
MAX_TOKENS = 64
# Two moments of one day in UTC; in the user's own time zone there is midnight between them, and a price changes.
ZONE = "Asia/Tokyo"
MOMENTS = tuple(datetime(2026, 11, 20, hour, tzinfo=UTC).timestamp() for hour in (14, 16))
DAYS = ("2026-11-20", "2026-11-21")
# The longest silence; a machine may be so busy that a good answer comes later, which the recount takes into account.
PATIENCE_S = 0.5
PICO_PER_USD = 10**12


@dataclass(frozen=True)
class Rate:
    """What a million tokens cost, in dollars."""

    input: Fraction
    output: Fraction
    cached: Fraction

    def pico(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> tuple[int, int, int]:
        """The prompt, what of it was cached, and the answer: each in whole pico-dollars, halves to the even one."""
        a_token = Fraction(PICO_PER_USD, 10**6)
        return (
            round((input_tokens - cached_tokens) * self.input * a_token),
            round(cached_tokens * self.cached * a_token),
            round(output_tokens * self.output * a_token),
        )


NOTHING = Rate(Fraction(0), Fraction(0), Fraction(0))
# As they are written, by target and the day from which they hold. `b/m` has none, and `ollama/m` is free.
PRICES: dict[str, dict[str | None, tuple[str, str, str | None]]] = {
    "groq/m": {None: ("0.59", "0.79", "0.295")},
    "a/m": {None: ("0.15", "0.6", None), DAYS[1]: ("0.2", "0.8", "0.05")},
    # A token of the prompt costs one pico-dollar and a half.
    "a/n": {None: ("0.0000015", "1.2345675", "0.00000075")},
}


def rate(target: str, day: str) -> Rate | None:
    """What a target costs on a day; None: nobody knows."""
    if target == "ollama/m":
        return NOTHING
    holding = [price for since, price in PRICES.get(target, {}).items() if since is None or since <= day]
    if not holding:
        return None
    of_input, of_output, of_cached = holding[-1]
    return Rate(Fraction(of_input), Fraction(of_output), Fraction(of_input if of_cached is None else of_cached))


@dataclass(frozen=True)
class Call:
    """A call, and what becomes of it at each target.

    Attributes:
        targets: Whom it asks, in order; empty: the route of all.
        scripts: What targets do, in turn.
        leaves_after: The caller loses interest: a stream is closed after so many chunks, a task is cancelled after so
            many hundredths of a second; None: never.
        by_cancelling: Of an asynchronous stream: the task is cancelled too.
        day: The first or the second.
        team: A tag.
    """

    targets: tuple[str, ...]
    scripts: tuple[tuple[Deed, ...], ...]
    leaves_after: int | None
    by_cancelling: bool
    day: int
    team: str | None

    def script(self) -> dict[str, tuple[Deed, ...]]:
        """By target."""
        return {target: self.scripts[n % len(self.scripts)] for n, target in enumerate(TARGETS)}


@dataclass(frozen=True)
class Trace:
    """Calls, and the rules under which they are made."""

    calls: tuple[Call, ...]
    retries: int
    hedges: bool
    continues: bool


deeds = st.builds(
    Deed,
    # Stalls take their time.
    st.sampled_from([*DEEDS, *(name for name in DEEDS if name != "stall"), *["good"] * 8]),
    prompt=st.integers(0, 6000),
    completion=st.integers(0, 3000),
    cached=st.none() | st.integers(0, 6000),
    pieces=st.integers(0, 4),
)
calls = st.builds(
    Call,
    targets=st.lists(st.sampled_from(TARGETS), max_size=3, unique=True).map(tuple),
    scripts=st.lists(st.lists(deeds, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple),
    leaves_after=st.none() | st.none() | st.integers(0, 6),
    by_cancelling=st.booleans(),
    day=st.integers(0, 1),
    team=st.sampled_from([None, "red", "blue"]),
)
traces = st.builds(
    Trace,
    calls=st.lists(calls, min_size=1, max_size=10).map(tuple),
    retries=st.integers(0, 2),
    hedges=st.booleans(),
    continues=st.booleans(),
)


def random_trace(seed: int) -> Trace:
    """Of Hypothesis' own traces many resemble each other; of these each has a bit of everything."""
    chance = random.Random(seed)

    def deed() -> Deed:
        cached = chance.choice([None, chance.randrange(6000)])
        name = chance.choice(DEEDS) if chance.random() < 0.8 else "good"
        return Deed(name, chance.randrange(6000), chance.randrange(3000), cached, chance.randrange(5))

    def call() -> Call:
        return Call(
            targets=tuple(chance.sample(TARGETS, chance.randrange(4))),
            scripts=tuple(tuple(deed() for _ in range(2)) for _ in range(3)),
            leaves_after=chance.choice([None, None, None, chance.randrange(7)]),
            by_cancelling=chance.random() < 0.5,
            day=chance.randrange(2),
            team=chance.choice([None, "red", "blue"]),
        )

    return Trace(
        calls=tuple(call() for _ in range(12)),
        retries=chance.randrange(3),
        hedges=chance.random() < 0.5,
        continues=chance.random() < 0.5,
    )


def each_deed() -> Trace:
    """One call for each deed, which one target answers with it."""
    calls = (
        Call(
            targets=(TARGETS[number % len(TARGETS)],),
            scripts=((Deed(name, 1000 + number, 500, None, 3),),),
            leaves_after=None,
            by_cancelling=False,
            day=number % 2,
            team=None,
        )
        for number, name in enumerate(DEEDS)
    )
    return Trace(calls=tuple(calls), retries=0, hedges=False, continues=False)


def said_again() -> Trace:
    """A target that is to continue a text says it again, which is held back, and breaks off too."""
    broken = Deed("error later", 0, 0, None, 3)
    call = Call(("a/m", "groq/m"), ((broken,),), leaves_after=None, by_cancelling=False, day=0, team=None)
    return Trace(calls=(call,), retries=0, hedges=False, continues=True)


class NoWaits(random.Random):
    """A target that failed is asked again at once."""

    def __init__(self) -> None:
        super().__init__(1)

    def uniform(self, a: float, b: float) -> float:
        return a


@dataclass
class Now:
    """The moment at which calls are made."""

    at: float = MOMENTS[0]

    def clients(self) -> tuple[type[LlamaClient], type[AsyncLlamaClient]]:
        """Clients for which it is that time."""

        return client_classes(clock=Clock(wall=lambda: self.at), chance=NoWaits)


def configuration(trace: Trace, servers: AccountServers, file: Path) -> dict[str, Any]:
    """All targets in one route, the prices, and the ledger in a file."""
    prices = [
        {"target": target, "input_usd_per_mtok": Decimal(price[0]), "output_usd_per_mtok": Decimal(price[1])}
        | ({} if price[2] is None else {"cached_usd_per_mtok": Decimal(price[2])})
        | ({} if since is None else {"effective_from": datetime.fromisoformat(since).date()})
        for target, rows in PRICES.items()
        for since, price in rows.items()
    ]
    return {
        "timezone": ZONE,
        "providers": servers.providers(),
        "routes": {"all": {"targets": [*TARGETS]}},
        "prices": prices,
        "ledger": {"url": f"sqlite:///{file}"},
        "routing": {
            "retries": trace.retries,
            "deadline_s": 30.0,
            "first_content_s": PATIENCE_S,
            "stall_s": PATIENCE_S,
            "breaker_failures": 5,
            "breaker_cooldown_s": 0.02,
        }
        | ({"hedge_after_s": 0.02} if trace.hedges else {})
        | ({"on_interrupt": "continue"} if trace.continues else {}),
    }


@dataclass(frozen=True)
class Told:
    """What the caller was told of a call.

    Attributes:
        attempts: Its attempts; None: the caller was told nothing.
        cost: What it cost; None: nobody said.
    """

    attempts: Sequence[Any] | None
    cost: Cost | None


def told(result: object) -> Told:
    match result:
        case ChatCompletion():
            return Told(result.attempts, result.cost)
        case StreamInterruptedError():
            assert result.partial is not None
            return Told(result.attempts, result.partial.cost)
        case LlamaClientError():
            return Told(result.attempts, None)
        case asyncio.CancelledError():
            return Told(None, None)
    raise AssertionError(f"{result!r} is none of ours")


def params(number: int, call: Call) -> dict[str, Any]:
    return {
        "model": list(call.targets) or "all",
        "messages": [{"role": "user", "content": f"call {number}"}],
        "max_tokens": MAX_TOKENS,
        "tools": [TOOL],
        "tags": {"call": f"call {number}"} | ({} if call.team is None else {"team": call.team}),
    }


def of_day(trace: Trace, day: int) -> list[tuple[int, Call]]:
    return [(number, call) for number, call in enumerate(trace.calls) if call.day == day]


def asked_sync(trace: Trace, config: dict[str, Any], now: Now, *, streams: bool) -> tuple[dict[int, Told], Any]:
    """Makes the calls of both days, several at once; what was told of each, and the reports."""
    sync, _ = now.clients()
    with sync(config) as client:
        create: Any = client.chat.completions.create

        def ask(each: tuple[int, Call]) -> tuple[int, Told]:
            number, call = each
            try:
                if not streams:
                    return number, told(create(**params(number, call)))
                with create(**params(number, call), stream=True) as stream:
                    for nth, _ in enumerate(stream):
                        if nth == call.leaves_after:
                            break
                return number, told(stream.partial)
            except LlamaClientError as error:
                return number, told(error)

        found: dict[int, Told] = {}
        for day, moment in enumerate(MOMENTS):
            now.at = moment
            with ThreadPoolExecutor(THREADS) as pool:
                found |= dict(pool.map(ask, of_day(trace, day)))
        return found, {by: client.costs.report(by=by) for by in GROUPS}


def asked_async(trace: Trace, config: dict[str, Any], now: Now, *, streams: bool) -> tuple[dict[int, Told], Any]:
    """The same on an event loop."""
    _, asynchronous = now.clients()

    async def ask_all() -> tuple[dict[int, Told], Any]:
        async with asynchronous(config) as client:
            create: Any = client.chat.completions.create

            async def ask(number: int, call: Call) -> Told:
                try:
                    if not streams:
                        return told(await create(**params(number, call)))
                    async with await create(**params(number, call), stream=True) as stream:
                        nth = 0
                        async for _ in stream:
                            if nth == call.leaves_after and not call.by_cancelling:
                                break
                            nth += 1
                    return told(stream.partial)
                except LlamaClientError as error:
                    return told(error)

            async def ask_for_a_while(number: int, call: Call) -> tuple[int, Told]:
                task = asyncio.create_task(ask(number, call))
                if call.leaves_after is not None and (call.by_cancelling or not streams):
                    await asyncio.sleep(call.leaves_after / 100)
                    task.cancel()
                with suppress(asyncio.CancelledError):
                    return number, await task
                return number, told(asyncio.CancelledError())

            found: dict[int, Told] = {}
            for day, moment in enumerate(MOMENTS):
                now.at = moment
                found |= dict(await asyncio.gather(*(ask_for_a_while(*each) for each in of_day(trace, day))))
            return found, {by: await client.costs.report(by=by) for by in GROUPS}

    return asyncio.run(ask_all())


GROUPS = ("provider", "target", "route", "day", "tag:team")


@dataclass(frozen=True, eq=False)
class Row:
    """A row as it is in the file."""

    at_us: int
    request_id: str
    number: int
    route: str | None
    provider: str
    target: str
    tags: dict[str, str]
    outcome: str
    error: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    tokens_are_estimated: int
    usd_pico: int | None
    input_usd_pico: int | None
    cached_usd_pico: int | None
    output_usd_pico: int | None
    cost_status: str | None

    @property
    def marker(self) -> str:
        """The call's."""
        return self.tags["call"]

    @property
    def day(self) -> str:
        """In the user's time zone, which has no summer time."""
        return (datetime.fromtimestamp(self.at_us / 1e6, tz=UTC) + timedelta(hours=9)).date().isoformat()

    @property
    def was_sent(self) -> bool:
        """What was not sent has no cost, not even an unknown one."""
        return self.cost_status is not None

    @property
    def is_charged(self) -> bool:
        """What was refused is not."""
        return self.was_sent and self.input_tokens is not None


def rows_of(file: Path) -> list[Row]:
    """All of them, past the package."""
    if not file.exists():
        return []
    names = [name for name in Row.__dataclass_fields__ if name != "tags"]
    query = f"""SELECT {", ".join(names)}, tags FROM llama_client_attempts
        LEFT JOIN llama_client_labels ON llama_client_labels.id = label_id ORDER BY llama_client_attempts.id"""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM llama_client_unrecorded").fetchone() == (0,)
        return [
            Row(**dict(zip(names, values, strict=True)), tags=json.loads(tags))
            for *values, tags in connection.execute(query)
        ]


@dataclass
class Recount:
    """One trace: the servers' account against the rows.

    Attributes:
        seen: What has really happened, so that nothing is tested in vain.
        pico: What each row should have cost, where that is known.
    """

    seen: Counter[str] = field(default_factory=Counter)
    pico: dict[Row, int | None] = field(default_factory=dict)

    def of_call(self, rows: Sequence[Row], handed: Sequence[Handed]) -> None:
        """Each row of a call's is a request that a target has read, and costs what that comes to."""
        assert len({row.request_id for row in rows}) == 1, rows
        assert [row.number for row in rows] == list(range(1, len(rows) + 1)), rows
        for row in rows:
            if not row.was_sent:
                assert (row.input_tokens, row.output_tokens, row.usd_pico) == (None, None, None), row
                self.pico[row] = None
        for target in TARGETS:
            of_target = [each for each in handed if each.target == target]
            self._of_target([row for row in rows if row.was_sent and row.target == target], of_target)

    def _of_target(self, rows: Sequence[Row], handed: Sequence[Handed]) -> None:
        """A target that is asked again is so after it has failed, so the order is the same on both sides.

        But what was stopped on its way may have arrived later than the next, or never.
        """
        stopped = sum(row.outcome == "cancelled" for row in rows)
        assert len(handed) <= len(rows) <= len(handed) + stopped, f"the rows {rows} are of the requests {handed}"
        padded = [*handed, *[None] * (len(rows) - len(handed))]
        problem = None
        for order in itertools.permutations(padded) if stopped else [padded]:
            recount = Recount()
            try:
                for row, each in zip(rows, order, strict=True):
                    recount._of_request(row, each)
            except AssertionError as error:
                problem = problem or error
            else:
                self.seen.update(recount.seen)
                self.pico |= recount.pico
                return
        assert problem is None, problem

    def _of_request(self, row: Row, handed: Handed | None) -> None:
        if handed is None:
            assert row.outcome == "cancelled", f"{row} was sent, and nobody read it"
            self._of_guess(row, None)
            return
        is_late = row.error in ("APITimeoutError", "StreamInterruptedError") and handed.deed in ("good", "slow")
        if row.outcome == "cancelled" or is_late:
            # How much of it was read, nobody can tell.
            self.seen["unread"] += 1
            if row.is_charged and not row.tokens_are_estimated:
                self._of_usage(row, handed)
            else:
                self._of_guess(row, handed)
            return
        self.seen[handed.deed] += 1
        match handed.verdict:
            case "refused":
                assert not row.is_charged, row
                assert (row.output_tokens, row.usd_pico) == (None, 0), row
                self.pico[row] = 0
            case "counted":
                self._of_usage(row, handed)
            case "uncounted":
                self._of_guess(row, handed)
                assert handed.input_tokens in (None, row.input_tokens), (row, handed)
                assert handed.output_tokens in (None, row.output_tokens), (row, handed)

    def _of_usage(self, row: Row, handed: Handed) -> None:
        """Handed out in full and read: exactly that."""
        assert handed.verdict == "counted", (row, handed)
        wanted = (handed.input_tokens, handed.output_tokens, handed.cached_tokens, 0)
        found = (row.input_tokens, row.output_tokens, row.cached_tokens, row.tokens_are_estimated)
        assert found == wanted, (row, handed)
        self._of_money(row, "exact")

    def _of_guess(self, row: Row, handed: Handed | None) -> None:
        """Worked on, and nobody said what it comes to: estimated, within reason."""
        assert row.tokens_are_estimated, (row, handed)
        assert row.input_tokens is not None, (row, handed)
        assert row.output_tokens is not None, (row, handed)
        if handed is not None:
            least, most = handed.least_input_bytes / 8, handed.most_input_bytes
            assert least <= row.input_tokens <= most or row.input_tokens == handed.input_tokens, (row, handed)
            # A whole answer may have been generated without a word; a stream has shown what there was.
            most = handed.text_bytes if handed.streams else max(handed.text_bytes, MAX_TOKENS)
            assert row.output_tokens <= most or row.output_tokens == handed.output_tokens, (row, handed)
        self._of_money(row, "estimated")

    def _of_money(self, row: Row, status: str) -> None:
        """The tokens of the row at the price of its day."""
        at = rate(row.target, row.day)
        parts = (row.input_usd_pico, row.cached_usd_pico, row.output_usd_pico)
        if at is None:
            assert (row.cost_status, row.usd_pico, *parts) == ("unknown", None, None, None, None), row
            self.pico[row] = None
            return
        assert row.input_tokens is not None, row
        assert row.output_tokens is not None, row
        wanted = at.pico(row.input_tokens, row.output_tokens, row.cached_tokens or 0)
        assert parts == wanted, row
        assert row.usd_pico == sum(wanted), row
        assert row.cost_status == ("free" if at is NOTHING else status), row
        self.pico[row] = sum(wanted)


def check_told(what: Told, rows: Sequence[Row]) -> None:
    """The caller was told what the ledger holds."""
    if what.attempts is not None:
        in_words = [
            (each.target, each.outcome, each.cost is not None, each.cost and each.cost.usd) for each in what.attempts
        ]
        assert in_words == [(row.target, row.outcome, row.was_sent, usd(row)) for row in rows]
    charged = [row for row in rows if row.is_charged]
    if what.cost is None or not charged:
        return
    worst = max((str(row.cost_status) for row in charged), key=("free", "exact", "estimated", "unknown").index)
    assert what.cost.status == worst
    if worst == "unknown":
        assert what.cost.usd is None
    else:
        assert what.cost.usd == sum((usd(row) or Decimal(0) for row in charged), Decimal(0))


def usd(row: Row) -> Decimal | None:
    return None if row.usd_pico is None else Decimal(row.usd_pico) / PICO_PER_USD


def check_reports(reports: dict[str, Any], recount: Recount) -> None:
    """Each report is what its rows add up to, and counts calls once."""
    rows = [*recount.pico]
    for by, report in reports.items():
        assert report.total_usd * PICO_PER_USD == sum(pico or 0 for pico in recount.pico.values())
        assert report.calls == len({row.request_id for row in rows})
        assert report.unpriced_calls == len({row.request_id for row in rows if row.cost_status == "unknown"})
        assert report.unrecorded_calls == 0
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            key = row.tags.get("team") if by == "tag:team" else getattr(row, by)
            groups[key or ""].append(row)
        assert {group.key for group in report.groups} == set(groups)
        assert len(report.groups) == len(groups)
        for group in report.groups:
            mine = groups[group.key]
            assert group.usd * PICO_PER_USD == sum(recount.pico[row] or 0 for row in mine)
            assert group.input_tokens == sum(row.input_tokens or 0 for row in mine)
            assert group.output_tokens == sum(row.output_tokens or 0 for row in mine)
            assert group.errors == sum(row.outcome in ("error", "interrupted") for row in mine)
            # Who was passed over has had no call; the call itself has been made all the same.
            is_somebody = by in ("provider", "target")
            asked = [row for row in mine if row.outcome != "skipped"] if is_somebody else mine
            assert group.calls == len({row.request_id for row in asked})
            assert group.unpriced_calls == len({row.request_id for row in mine if row.cost_status == "unknown"})


@pytest.fixture(scope="module")
def servers() -> Iterator[AccountServers]:
    with AccountServers() as running:
        yield running


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_holds_what_a_recount_of_what_was_handed_out_comes_to(
    mode: str, servers: AccountServers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    # A line for each breaker that opens.
    caplog.set_level("ERROR", "llama_client.routing")
    seen: Counter[str] = Counter()
    streams = mode.startswith("stream")
    ask = asked_async if mode.endswith("async") else asked_sync

    def check(trace: Trace) -> None:
        servers.begin({f"call {number}": call.script() for number, call in enumerate(trace.calls)})
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "ledger.db"
            said, reports = ask(trace, configuration(trace, servers, file), Now(), streams=streams)
            servers.settle()
            rows = rows_of(file)
        recount = Recount()
        for number in range(len(trace.calls)):
            mine = [row for row in rows if row.marker == f"call {number}"]
            handed = [each for each in servers.handed if each.marker == f"call {number}"]
            if mine:
                recount.of_call(mine, handed)
            else:
                # Cancelled before it had begun.
                assert (handed, said[number].attempts) == ([], None)
            check_told(said[number], mine)
        assert len(recount.pico) == len(rows)
        check_reports(reports, recount)
        seen.update(recount.seen)

    check(each_deed())
    check(said_again())
    for seed in range(EXAMPLES):
        check(random_trace(seed))
    # That it has really happened.
    print(mode, seen.most_common())
    assert {*DEEDS, "unread"} - set(seen) == set()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(traces)
    def holds(trace: Trace) -> None:
        check(trace)

    holds()
