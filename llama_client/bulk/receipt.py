"""What a job has done and cost, and how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import added, exact

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult, Venue

# Fewer rows through the router say little about their rate.
_MEASURED_ROWS = 50
# A rate of the last so many seconds says what to expect, and not what the start was like.
_RATE_S = 10.0


@dataclass(frozen=True, slots=True)
class VenueReceipt:
    """What rows of one venue cost. Amounts are in US dollars; None: a part is unknown.

    Attributes:
        rows: Rows that it answered or gave up.
        list_usd: What they would have cost at once, asked anew; of idle hours, at the target that is asked then.
        usd: What was paid.
    """

    rows: int = 0
    list_usd: Decimal | None = Decimal(0)
    usd: Decimal | None = Decimal(0)

    @property
    def saved_usd(self) -> Decimal | None:
        """List price less what was paid; None: a part is unknown."""
        return None if self.list_usd is None or self.usd is None else self.list_usd - self.usd


@dataclass(frozen=True, slots=True)
class BulkReceipt:
    """What a run of a job did. Amounts are in US dollars.

    Attributes:
        rows: The rows of the input that were reached.
        answered: Rows that this run answered.
        failed: Rows that this run gave up.
        earlier: Rows that earlier runs of the job had done.
        earlier_failed: How many of those had failed.
        calls: Attempts that were sent, those of failed rows included.
        prompt_tokens: Of all answers; None: at least one target did not report them.
        completion_tokens: The same of what was generated.
        usd: What this run cost; None: at least one part is unknown.
        known_usd: The sum of those parts that are known.
        seconds: How long this run took.
        maybe_paid_twice: Calls that were in flight when runs of the job were killed, and were made again.
        venues: Of each venue that answered rows in this run (`now`, `batch`, `idle`, `cache`): list price, paid, saved.
        has_begun: Whether the run has begun; else all of this is nothing: no run was tried, or the last one was refused
            before a row was asked.
    """

    rows: int = 0
    answered: int = 0
    failed: int = 0
    earlier: int = 0
    earlier_failed: int = 0
    calls: int = 0
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    usd: Decimal | None = Decimal(0)
    known_usd: Decimal = Decimal(0)
    seconds: float = 0.0
    maybe_paid_twice: int = 0
    venues: Mapping[Venue, VenueReceipt] = field(default_factory=dict)
    has_begun: bool = False

    @property
    def list_usd(self) -> Decimal | None:
        """What this run's rows would have cost at once, asked anew; None: a part is unknown."""
        return _total(each.list_usd for each in self.venues.values())

    @property
    def saved_usd(self) -> Decimal | None:
        """What batches, idle hours and the cache have saved; None: a part is unknown."""
        return _total(each.saved_usd for each in self.venues.values())


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a job is.

    Attributes:
        done: Rows that are answered, those of earlier runs included.
        failed: Rows that this run gave up.
        in_flight: Calls in flight.
        total: The rows of the input; None: known at its end only.
        rows_per_s: Of the last seconds; None: too early to say.
        usd: What this run cost so far, as far as it is known.
        seconds: Since this run began.
        expected_usd: What this run is going to cost, by its rows so far; None: too early to say, or a part is unknown.
        left_s: How long it is going to take from now, at the present rate; None: too early to say.
        waits_for: The target, or those of a route, that the job waits for, as there is no connection; None: for none.
        unreached_s: How long there has been no connection to it; None: there is.
    """

    done: int
    failed: int
    in_flight: int
    total: int | None
    rows_per_s: float | None
    usd: Decimal
    seconds: float
    expected_usd: Decimal | None = None
    left_s: float | None = None
    waits_for: str | None = None
    unreached_s: float | None = None


@dataclass(slots=True, eq=False)
class Tally:
    """Adds up a run's results. Safe to use from several threads."""

    monotonic: Callable[[], float] = time.monotonic
    total: int | None = None
    maybe_paid_twice: int = 0
    rows: int = 0
    earlier: int = 0
    earlier_failed: int = 0
    answered: int = 0
    failed: int = 0
    list_usd: Callable[[BulkResult], Decimal | None] = lambda result: result.usd
    _venues: dict[Venue, VenueReceipt] = field(default_factory=dict)
    _at_once: int = 0
    _first_at: float | None = None
    _calls: int = 0
    _prompt_tokens: int | None = 0
    _completion_tokens: int | None = 0
    _usd: Decimal = Decimal(0)
    _is_unpriced: bool = False
    _started_at: float = 0.0
    _ended_at: float | None = None
    # When the last rows were done, and how many were by then.
    _marks: list[tuple[float, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._started_at = self.monotonic()
        self._marks = [(self._started_at, 0)]

    def was_earlier(self) -> None:
        """An earlier run has done a row."""
        with self._lock:
            self.earlier += 1

    def rate_at_once(self) -> float | None:
        """Rows a second through the router, measured over at least some of them; None: too few."""
        with self._lock:
            if self._at_once < _MEASURED_ROWS or self._first_at is None:
                return None
            took_s = self.monotonic() - self._first_at
            return self._at_once / took_s if took_s > 0 else None

    def end(self) -> None:
        self._ended_at = self.monotonic()

    def add(self, results: Iterable[BulkResult], calls: int) -> None:
        with self._lock:
            for result in results:
                if result.completion is None:
                    self.failed += 1
                else:
                    self.answered += 1
                    usage = result.completion.usage
                    self._prompt_tokens = _sum(self._prompt_tokens, usage.prompt_tokens)
                    self._completion_tokens = _sum(self._completion_tokens, usage.completion_tokens)
                self._add_to_venue(result)
                if result.usd is None:
                    self._is_unpriced = True
                else:
                    self._usd += result.usd
            self._calls += calls
            now = self.monotonic()
            self._marks.append((now, self.answered + self.failed))
            while len(self._marks) > 2 and self._marks[1][0] < now - _RATE_S:
                self._marks.pop(0)

    def _add_to_venue(self, result: BulkResult) -> None:
        before = self._venues.get(result.venue, VenueReceipt())
        self._venues[result.venue] = VenueReceipt(
            before.rows + 1, _added(before.list_usd, self.list_usd(result)), _added(before.usd, result.usd)
        )
        if result.venue == "now":
            self._at_once += 1
            self._first_at = self._first_at or self.monotonic()

    def progress(self, in_flight: int) -> BulkProgress:
        with self._lock:
            now = self.monotonic()
            (since, before), (_, done) = self._marks[0], self._marks[-1]
            rate = (done - before) / (now - since) if done > before and now > since else None
            left = None if self.total is None else max(self.total - self.answered - self.failed - self.earlier, 0)
            return BulkProgress(
                self.answered + self.earlier,
                self.failed,
                in_flight,
                self.total,
                rate,
                self._usd,
                now - self._started_at,
                self._expected_usd(left),
                left / rate if left is not None and rate else None,
            )

    def _expected_usd(self, left: int | None) -> Decimal | None:
        done = self.answered + self.failed
        if left is None or not done or self._is_unpriced:
            return None
        return exact(self._usd + self._usd / done * left)

    def receipt(self) -> BulkReceipt:
        with self._lock:
            until = self.monotonic() if self._ended_at is None else self._ended_at
            return BulkReceipt(
                rows=self.rows,
                answered=self.answered,
                failed=self.failed,
                earlier=self.earlier,
                earlier_failed=self.earlier_failed,
                calls=self._calls,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
                usd=None if self._is_unpriced else self._usd,
                known_usd=self._usd,
                seconds=until - self._started_at,
                maybe_paid_twice=self.maybe_paid_twice,
                venues=dict(self._venues),
                has_begun=True,
            )


def _sum(so_far: int | None, more: int | None) -> int | None:
    return None if so_far is None or more is None else so_far + more


def _added(so_far: Decimal | None, more: Decimal | None) -> Decimal | None:
    return None if so_far is None or more is None else added(so_far, more)


def _total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for each in amounts:
        total = _added(total, each)
    return total
