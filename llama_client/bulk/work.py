"""What both drivers do for a job beside asking: reading rows, beginning, recording, counting. All of it may block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llama_client.bulk.checks import RowChecks, require_all
from llama_client.bulk.dispatcher import Dispatcher, MoneyEndedError
from llama_client.bulk.ledger_first import LedgerFirst
from llama_client.bulk.pending import Done, PendingRow, usd_of
from llama_client.bulk.receipt import BulkProgress, Tally
from llama_client.bulk.results import BulkResult
from llama_client.errors import (
    AllTargetsFailedError,
    BudgetExceededError,
    GenerationFailedError,
    JobError,
    LlamaClientError,
)
from llama_client.waiting import POLL_S

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.bulk.contracts import Input, Journal
    from llama_client.bulk.idle.shift import IdleShift
    from llama_client.bulk.planning.venues import BatchWork
    from llama_client.bulk.rows import Row
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import ChatCompletion

BATCH = 64
"""Rows that are read, or recorded, at once."""
# Rows for idle hours that are read while others are left: these need the room.
_IDLE_AHEAD = 128
BUFFERED = 1_024
"""Results that wait for the consumer; with more, no further call is begun."""
GRACE_S = 30.0
"""Calls that are in flight at Ctrl-C may end within this time."""
_PROGRESS_S = 0.1


@dataclass(slots=True, eq=False)
class Work:
    """One run of a job.

    Args:
        source: Where the rows come from.
        journal: What was done.
        dispatcher: Which row is next; the drivers call it under their lock.
        tally: Adds up results.
        pending: Makes what the dispatcher takes of a row.
        ledger: Where the rows of calls are written before those of the journal.
        limit: The most rows of the input; None: all.
        form: What answers are parsed to; None: they stay text.
        on_progress: Told how far the job is, in the thread that records.
        batches: Rows that are in batches; None: none are.
    """

    source: Input
    journal: Journal
    dispatcher: Dispatcher
    tally: Tally
    pending: Callable[[Row], PendingRow]
    ledger: LedgerFirst = field(default_factory=lambda: LedgerFirst(None))
    limit: int | None = None
    form: AnswerForm | None = None
    on_progress: Callable[[BulkProgress], object] | None = None
    batches: BatchWork | None = None
    _shift: IdleShift | None = None
    _idle_pending: Callable[[Row], PendingRow] | None = None
    _is_at_end: bool = False
    _is_idle_at_end: bool = True
    _idle_rows: Iterator[Row] | None = None
    _checks: RowChecks | None = None
    _rows: Iterator[Row] | None = None
    _told_at: float = field(default=-_PROGRESS_S)
    _told_waiting: bool = False

    def __post_init__(self) -> None:
        if not self.source.is_replayable:
            # Others were checked as a whole, before.
            self._checks = RowChecks(self.source, self.journal)

    def wait_for(self, shift: IdleShift, pending: Callable[[Row], PendingRow]) -> None:
        """Some rows wait for idle hours.

        Args:
            shift: Says which.
            pending: Makes what the dispatcher takes of one.
        """
        self._shift, self._idle_pending, self._is_idle_at_end = shift, pending, False

    def read(self, most: int, *, only_batches: bool = False) -> tuple[list[PendingRow], list[Done], bool]:
        """The next rows that are to be asked, what has come of batches, and whether there will be no more of both.

        Waits a moment where rows are in batches and in no other place, or where only these are asked for.
        """
        batches = self.batches
        is_at_end = self._is_at_end and self._is_idle_at_end
        found, done = ([], []) if batches is None else batches.take(most, POLL_S if is_at_end or only_batches else 0)
        if only_batches:
            most = 0
        if not self._is_idle_at_end:
            # As many as there is room for beside the others.
            room = most if self._is_at_end else min(_IDLE_AHEAD - self.dispatcher.idle_ready, most // 2)
            found += self._read_idle(room - len(found) - len(done))
        if not self._is_at_end and len(found) + len(done) < most:
            more, self._is_at_end = self._read_input(most - len(found) - len(done))
            found += more
        is_at_end = self._is_at_end and self._is_idle_at_end
        return found, done, is_at_end and (batches is None or batches.is_over)

    def _read_idle(self, most: int) -> list[PendingRow]:
        """The next rows for idle hours: the input is read a second time for them."""
        if self._idle_rows is None:
            self._idle_rows = self.source.rows()
        found: list[PendingRow] = []
        while len(found) < most:
            row = next(self._idle_rows, None)
            if row is None:
                self._is_idle_at_end = True
                break
            if not self._waits(row):
                continue
            if self.journal.is_done(row):
                self.tally.was_earlier()
            else:
                assert self._idle_pending is not None
                found.append(self._idle_pending(row))
        return found

    def _waits(self, row: Row) -> bool:
        """Whether a row is for idle hours, unless an earlier run has done it: the reading for these looks."""
        is_held = self.batches is not None and self.batches.is_held(row.position)
        return self._shift is not None and not is_held and self._shift.holds(row)

    def _read_input(self, most: int) -> tuple[list[PendingRow], bool]:
        if self._rows is None:
            self._rows = self.source.rows()
        found: list[PendingRow] = []
        while len(found) < most:
            row = next(self._rows, None)
            if row is None:
                if self.limit is None or self.tally.rows < self.limit:
                    require_all(self.source, self.journal, self.tally.rows)
                return found, True
            self.tally.rows += 1
            if (self.batches is not None and self.batches.is_held(row.position)) or self._waits(row):
                continue
            is_done = self.journal.is_done(row) if self._checks is None else self._checks.is_done(row)
            if is_done:
                self.tally.was_earlier()
            else:
                found.append(self.pending(row))
        return found, False

    def record(self, done: Sequence[Done]) -> list[BulkResult]:
        """Records rows that are done, after their ledger rows: a row that is done is in the ledger."""
        self.ledger.wait()
        results: list[BulkResult] = []
        calls, kept = 0, []
        for pending, outcome in done:
            # Those of every try, whatever came of them.
            attempts = [*pending.attempts, *outcome.attempts]
            calls += sum(each.sent for each in attempts)
            if pending.kept is not None:
                kept.append(pending.kept)
                continue
            usd = usd_of(attempts)
            if isinstance(outcome, LlamaClientError):
                outcome.attempts = attempts
                results.append(BulkResult(pending.row, None, without_frames(outcome), pending.venue, usd))
            else:
                results.append(_answered(pending, outcome, usd))
        self.journal.record(results)
        results += kept
        self.tally.add(results, calls)
        self.tell()
        return results

    def lost(self, rows: Sequence[Row]) -> None:
        """Calls that were in flight in a process that is gone, and may have been paid."""
        if rows:
            self.journal.lost(rows)
        self.tally.maybe_paid_twice = self.journal.maybe_paid_twice

    def tell(self, *, is_last: bool = False) -> None:
        if self.on_progress is None:
            return
        now, waiting = time.monotonic(), self.dispatcher.waiting
        is_news = (waiting is not None) is not self._told_waiting
        if is_last or is_news or now - self._told_at >= _PROGRESS_S:
            self._told_at, self._told_waiting = now, waiting is not None
            progress = self.tally.progress(self.dispatcher.in_flight)
            if waiting is not None:
                progress = replace(progress, waits_for=waiting.target, unreached_s=waiting.seconds)
            self.on_progress(progress)

    def results(self, *, only_earlier: bool = False) -> Iterator[BulkResult]:
        """What is done, in the order of the input: all of it, or what earlier runs have done."""
        rows = self.source.rows() if self.source.is_replayable else None
        for result in self.journal.results(rows, only_earlier=only_earlier):
            if self.form is not None and result.completion is not None:
                parse_again(result.completion, self.form)
            yield result

    def money_ended(self, ended: MoneyEndedError) -> BudgetExceededError:
        """The sentence for it."""
        purse, worst = self.dispatcher.purse, ended.pending.worst_usd
        assert purse is not None
        progress = self.tally.progress(0)
        place = ended.pending.row.where or f"row {ended.pending.row.position + 1}"
        if worst is None:
            why = (
                f"what {place} may cost is unknown: set max_tokens in params, and where its target has no price, one "
                "in [[prices]]"
            )
        else:
            why = f"${purse.spent_usd:f} of ${purse.most_usd:f} is spent, and {place} may cost up to ${worst:f}"
        done = progress.done + progress.failed
        told = f"max_usd: {why}. {done:,} rows are done"
        if progress.total is not None and done:
            rest = purse.spent_usd / done * (progress.total - done)
            told += f"; the other {progress.total - done:,} would cost about ${rest:.6f} more"
        if self.journal.is_lasting:
            told += "; the same call with a larger max_usd goes on"
        return BudgetExceededError(told, budget="max_usd", spent_usd=purse.spent_usd, needed_usd=worst)

    def close(self) -> None:
        """Ends the reading of the input, leaves the batches to the next run, and closes the journal."""
        self.tally.end()
        readers, self._rows, self._idle_rows = (self._rows, self._idle_rows), None, None
        with ExitStack() as stack:
            stack.callback(self.journal.close)
            if self.batches is not None:
                stack.callback(self.batches.close)
            if self._checks is not None:
                stack.callback(self._checks.close)
            for rows in readers:
                close = getattr(rows, "close", None)
                if close is not None:
                    # Unless a thread still waits in it for the next row.
                    with suppress(ValueError):
                        close()


def parse_again(completion: ChatCompletion, form: AnswerForm) -> None:
    """What was parsed is not in the journal."""
    # It did fit when it came; the class may have changed since.
    with suppress(GenerationFailedError):
        for choice, parsed in zip(completion.choices, form.parsed(completion.choices), strict=True):
            choice.message.parsed = parsed


def _answered(pending: PendingRow, completion: ChatCompletion, usd: Decimal | None) -> BulkResult:
    return BulkResult(pending.row, completion, None, "cache" if completion.is_cached else pending.venue, usd)


def ends_job(error: BaseException) -> bool:
    """Whether it is not of one row: the job stops, and the row stays to be done."""
    return isinstance(error, BudgetExceededError | JobError) or not isinstance(error, LlamaClientError)


def without_frames(error: LlamaClientError) -> LlamaClientError:
    """The error without tracebacks, which would keep whole calls in memory as long as their results wait."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        left += [each.__cause__, each.__context__]
        if isinstance(each, AllTargetsFailedError):
            left += each.errors
    return error
