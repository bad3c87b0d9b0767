"""Carries out the batches of a job: their answers are recorded as they come, other rows go back to be asked."""

from __future__ import annotations

import queue
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.batches.parts import PartsFile
from llama_client.bulk.batches.venue import BatchVenue
from llama_client.bulk.pending import Done, PendingRow, may_pass
from llama_client.bulk.results import BulkResult
from llama_client.costs.money import added
from llama_client.errors import GenerationFailedError, JobError

if TYPE_CHECKING:
    from array import array

    from llama_client.bulk.batches.driver import BatchRun
    from llama_client.bulk.contracts import Journal
    from llama_client.bulk.planning.kept_answers import KeptAnswers
    from llama_client.bulk.planning.purse import Purse
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import ChatCompletion

# Of what came from batches and the job has not taken yet; the reading of their files waits then.
_MAX_WAITING = 1_024
_LOOK_S = 0.25
# A request about a batch that is under way ends within its timeout; the next run of the job finds its batch again.
_STOPPING_S = 60.0


class BatchWork:
    """The batches of a job, at each target that has some. Nothing is sent before `start`.

    Args:
        context: The client's.
        folder: The job's folder.
        journal: Where answers are recorded.
        pending: Makes what the dispatcher takes of a row.
        purse: The money of the job; None: no limit.
        worst_usd: The most that a row costs in a batch of a target; None: unknown.
        was_earlier: Told of each row that an earlier run has recorded, though its batch was not over.
        form: What answers are parsed to; None: they stay text.
        answers: The client's cache; None: it is off.
    """

    def __init__(
        self,
        context: CallContext,
        folder: Path,
        journal: Journal,
        pending: Callable[[Row], PendingRow],
        purse: Purse | None,
        worst_usd: Callable[[Row, str], Decimal | None],
        was_earlier: Callable[[], None],
        form: AnswerForm | None,
        answers: KeptAnswers | None,
    ) -> None:
        self._form = form
        self._answers = answers
        self._context = context
        self._folder = folder / "batches"
        self._journal = journal
        self._pending = pending
        self._purse = purse
        self._venues: dict[str, BatchVenue] = {}
        self._runs: list[BatchRun] = []
        # Rows that are for the dispatcher, and results that are recorded already.
        self._came: queue.Queue[PendingRow | Done] = queue.Queue(_MAX_WAITING)
        self._is_left = threading.Event()
        self._held: list[array[int]] = []
        self._worst_of = worst_usd
        # What is set aside, by target.
        self._holds: dict[str, Decimal] = {}
        self._was_earlier = was_earlier
        self._is_released = False
        for each in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            parts = PartsFile(each).parts
            if parts and not all(part.is_settled for part in parts):
                self._venue(parts[0].target)

    @property
    def has_batches(self) -> bool:
        """Whether there is anything to drive."""
        return any(not venue.is_settled for venue in self._venues.values())

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, and `take` has seen the end: it raises errors, and frees money."""
        return not self._runs or (self._is_released and self._came.empty())

    def open_rows(self) -> int:
        """How many rows are in batches that are not over."""
        return sum(part.lines for venue in self._venues.values() for part in venue.parts if part.is_open)

    def worst_open_usd(self) -> Decimal:
        """The most that batches can cost which are not over, as far as it is known."""
        return added(Decimal(0), *(venue.worst_open_usd() or Decimal(0) for venue in self._venues.values()))

    def holds(self, row: Row) -> bool:
        """Whether a batch of an earlier run may still answer a row."""
        return any(venue.holds(row) for venue in self._venues.values())

    def add(self, target: str, rows: Iterator[Row], *, window_s: float) -> None:
        """Writes the files of a target's batches. It blocks."""
        # Rows that it refuses are in no file, so they are asked at once.
        self._venue(target).add(rows, window_s=window_s, refused=lambda row, error: None)

    def start(self, cancel_at: Callable[[], float]) -> None:
        """Starts to drive all batches.

        Args:
            cancel_at: When those that have not ended are cancelled, in Unix time; it may change.
        """
        for venue in self._venues.values():
            if venue.is_settled:
                continue
            # What they hold is fixed from here on: a row that leaves a batch comes through `take`.
            self._held.append(venue.held_positions())
            self._hold(venue)
            self._runs.append(venue.run(_Receiver(self, venue.target.name), cancel_at=cancel_at))

    def is_held(self, position: int) -> bool:
        """Whether a row was in a batch when this run began: it comes through `take`, and must be asked by none else."""
        return any(_has(held, position) for held in self._held)

    def take(self, most: int, within_s: float) -> tuple[list[PendingRow], list[Done]]:
        """Rows to be asked, and results, at most so many together; waits a moment where there are none yet.

        Raises:
            LlamaClientError: The batches cannot go on. The same call resumes them.
        """
        rows: list[PendingRow] = []
        done: list[Done] = []
        while len(rows) + len(done) < most:
            try:
                each = self._came.get(timeout=within_s if not (rows or done or self._have_ended) else 0)
            except queue.Empty:
                break
            if isinstance(each, PendingRow):
                rows.append(each)
            else:
                done.append(each)
        if self._runs and self._have_ended:
            for run in self._runs:
                run.wait()
            self._release()
        return rows, done

    @property
    def _have_ended(self) -> bool:
        return all(run.is_over for run in self._runs)

    def answered(self, target: str, result: BulkResult) -> None:
        """Takes the result of a row, in the thread of a batch."""
        row = result.row
        if self._journal.is_done(row):
            # Its part was being read when the job was interrupted.
            self._settle(target, row, Decimal(0))
            self._was_earlier()
            return
        self._settle(target, row, result.usd)
        pending = self._pending(row)
        error = result.error
        if error is not None and may_pass(error):
            pending.attempts += error.attempts
            self._put(pending)
            return
        completion = result.completion
        if completion is not None and not self._fits(completion):
            # As a call does that gets such an answer.
            pending.attempts += completion.attempts
            self._put(pending)
            return
        self._journal.record([result])
        if self._answers is not None:
            self._answers.keep(result)
        pending.kept = result
        outcome = result.completion if error is None else error
        assert outcome is not None
        self._put((pending, outcome))

    def unanswered(self, target: str, row: Row) -> None:
        """Takes a row that is to be asked at once, in the thread of a batch."""
        self._settle(target, row, Decimal(0))
        if self._journal.is_done(row):
            self._was_earlier()
        else:
            self._put(self._pending(row))

    def close(self) -> None:
        """Leaves the batches to the next run of the job."""
        self._is_left.set()
        for run in self._runs:
            run.leave()
        for run in self._runs:
            run.stop(_STOPPING_S)

    def _fits(self, completion: ChatCompletion) -> bool:
        """Whether an answer is what the schema asks for; it is parsed then."""
        if self._form is None:
            return True
        try:
            parsed = self._form.parsed(completion.choices)
        except GenerationFailedError:
            return False
        for choice, each in zip(completion.choices, parsed, strict=True):
            choice.message.parsed = each
        return True

    def _put(self, each: PendingRow | Done) -> None:
        while not self._is_left.is_set():
            try:
                return self._came.put(each, timeout=_LOOK_S)
            except queue.Full:
                continue
        # Its part is not marked as read, so it is read again.
        raise JobError("the job was left while the answers of a batch were read; the same call goes on")

    def _hold(self, venue: BatchVenue) -> None:
        worst_usd = venue.worst_open_usd()
        if self._purse is not None and worst_usd is not None:
            self._purse.take_for_good(worst_usd)
            self._holds[venue.target.name] = worst_usd

    def _settle(self, target: str, row: Row, usd: Decimal | None) -> None:
        """Puts what a row has cost in the place of what was set aside for it: that others may begin with the rest."""
        if self._purse is not None:
            held = self._holds.get(target, Decimal(0))
            freed = min(self._worst_of(row, target) or Decimal(0), held)
            self._holds[target] = added(held, -freed)
            self._purse.settle(freed, usd)

    def _release(self) -> None:
        self._is_released = True
        holds, self._holds = self._holds, {}
        if self._purse is not None:
            for held in holds.values():
                self._purse.settle(held, Decimal(0))

    def _venue(self, target: str) -> BatchVenue:
        if target not in self._venues:
            folder = self._folder / blake2b(target.encode(), digest_size=6).hexdigest()
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise JobError(f"{folder}: {error.strerror or error}", folder=folder) from error
            self._venues[target] = BatchVenue(self._context, target, folder)
        return self._venues[target]


@dataclass(frozen=True, slots=True, eq=False)
class _Receiver:
    """Of the batches of one target."""

    work: BatchWork
    target: str

    def answered(self, result: BulkResult) -> None:
        self.work.answered(self.target, result)

    def unanswered(self, row: Row, why: str) -> None:
        self.work.unanswered(self.target, row)


def _has(sorted_positions: array[int], position: int) -> bool:
    index = bisect_left(sorted_positions, position)
    return index < len(sorted_positions) and sorted_positions[index] == position
