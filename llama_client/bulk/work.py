"""What both drivers do for a job beside asking: reading rows, beginning, recording, counting. All of it may block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.checks import RowChecks, require_all
from llama_client.bulk.dispatcher import Dispatcher, Done, PendingRow
from llama_client.bulk.receipt import BulkProgress, Tally
from llama_client.bulk.results import BulkResult
from llama_client.errors import (
    AllTargetsFailedError,
    BudgetExceededError,
    GenerationFailedError,
    JobError,
    LlamaClientError,
)

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal
    from llama_client.bulk.rows import Row
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import Attempt, ChatCompletion

BATCH = 64
"""Rows that are read, or recorded, at once."""
BUFFERED = 1_024
"""Results that wait for the consumer; with more, no further call is begun."""
GRACE_S = 30.0
"""Calls that are in flight at Ctrl-C may end within this time."""
FLUSH_S = 5.0
"""How long a group of results waits for its ledger rows; a ledger that cannot be written does not hold up a job."""
_PROGRESS_S = 0.1


@dataclass(slots=True, eq=False)
class Work:
    """One run of a job.

    Args:
        source: Where the rows come from.
        journal: What was done.
        dispatcher: Which row is next; the drivers call it under their lock.
        tally: Adds up results.
        target_of: What a row's limit is kept for.
        flush: Waits until the ledger rows of calls that have ended are written, at most so many seconds.
        limit: The most rows of the input; None: all.
        form: What answers are parsed to; None: they stay text.
        on_progress: Told how far the job is, in the thread that records.
    """

    source: Input
    journal: Journal
    dispatcher: Dispatcher
    tally: Tally
    target_of: Callable[[Row], str]
    flush: Callable[[float], bool] | None = None
    limit: int | None = None
    form: AnswerForm | None = None
    on_progress: Callable[[BulkProgress], object] | None = None
    _checks: RowChecks | None = None
    _rows: Iterator[Row] | None = None
    _flush_s: float = FLUSH_S
    _told_at: float = field(default=-_PROGRESS_S)

    def __post_init__(self) -> None:
        if not self.source.is_replayable:
            # Others were checked as a whole, before.
            self._checks = RowChecks(self.source, self.journal)

    def read(self, most: int) -> tuple[list[PendingRow], bool]:
        """The next rows that are to be asked, and whether the input has ended."""
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
            is_done = self.journal.is_done(row) if self._checks is None else self._checks.is_done(row)
            if is_done:
                self.tally.earlier += 1
            else:
                found.append(PendingRow(row, self.target_of(row)))
        return found, False

    def record(self, done: Sequence[Done]) -> list[BulkResult]:
        """Records rows that are done, after their ledger rows: a row that is done is in the ledger."""
        if self.flush is not None and not self.flush(self._flush_s):
            # It logs that; the job goes on as calls do.
            self._flush_s = 0.0
        results, calls = [], 0
        for pending, outcome in done:
            # Those of every try, whatever came of them.
            attempts = [*pending.attempts, *outcome.attempts]
            calls += sum(each.sent for each in attempts)
            usd = _usd(attempts)
            if isinstance(outcome, LlamaClientError):
                outcome.attempts = attempts
                results.append(BulkResult(pending.row, None, without_frames(outcome), usd=usd))
            else:
                results.append(BulkResult(pending.row, outcome, usd=usd))
        self.journal.record(results)
        self.tally.add(results, calls)
        self.tell()
        return results

    def tell(self, *, is_last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is not None and (is_last or now - self._told_at >= _PROGRESS_S):
            self._told_at = now
            self.on_progress(self.tally.progress(self.dispatcher.in_flight))

    def results(self, *, only_earlier: bool = False) -> Iterator[BulkResult]:
        """What is done, in the order of the input: all of it, or what earlier runs have done."""
        rows = self.source.rows() if self.source.is_replayable else None
        for result in self.journal.results(rows, only_earlier=only_earlier):
            if self.form is not None and result.completion is not None:
                parse_again(result.completion, self.form)
            yield result

    def close(self) -> None:
        """Ends the reading of the input, and the journal."""
        self.tally.end()
        rows, self._rows = self._rows, None
        with ExitStack() as stack:
            stack.callback(self.journal.close)
            if self._checks is not None:
                stack.callback(self._checks.close)
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


def _usd(attempts: Sequence[Attempt]) -> Decimal | None:
    """What attempts cost; those that have no cost were free, or never sent."""
    total = Decimal(0)
    for attempt in attempts:
        if attempt.cost is not None:
            if attempt.cost.usd is None:
                return None
            total += attempt.cost.usd
    return total
