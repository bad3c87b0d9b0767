"""Performs the plans of a job's parts in a thread of its own, for sync and async callers alike."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from llama_client.bulk.batches import steps
from llama_client.bulk.batches.parts import Part, PartsFile
from llama_client.bulk.batches.patience import is_fatal
from llama_client.bulk.batches.plan import plan
from llama_client.costs.spending import Hold
from llama_client.errors import JobError, LlamaClientError
from llama_client.waiting import Event, await_event, wait_for_event

if TYPE_CHECKING:
    from llama_client.bulk.batches.api import BatchApi
    from llama_client.bulk.batches.collecting import Reading
    from llama_client.clock import Clock

# A sleep of real time is cut so, to see a cancellation soon.
_LOOK_S = 0.5
# Of a wait for the end; it is begun anew.
_WAIT_S = 3600.0


class BatchRun:
    """The parts of a job that are under way. `start` it, then `wait` or `await wait_async()`.

    Args:
        parts: The parts to drive, of `file`.
        file: What remembers them.
        api: The batch API.
        reading: What their answers are read with.
        clock: The time.
        cancel_at: When what has not ended is cancelled, in Unix time; it may change.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        file: PartsFile,
        api: BatchApi,
        reading: Reading,
        clock: Clock,
        *,
        cancel_at: Callable[[], float],
    ) -> None:
        self._cancel_at = cancel_at
        self._parts = parts
        self._file = file
        self._api = api
        self._reading = reading
        self._clock = clock
        self._ended = Event()
        self._is_cancelled = False
        self._is_left = False
        self._error: BaseException | None = None
        # Of parts that could not go on, and can be resumed.
        self._stuck: LlamaClientError | None = None
        self._thread = threading.Thread(target=self._run, name="llama-client-batches", daemon=True)

    def start(self) -> BatchRun:
        self._thread.start()
        return self

    @property
    def is_over(self) -> bool:
        return self._ended.is_set

    def cancel(self) -> None:
        """Asks for the end of all batches. What is answered by then is still collected; `wait` for that."""
        self._is_cancelled = True

    def leave(self) -> None:
        """Stops driving soon, and leaves the batches to the next run of the job."""
        self._is_left = True

    def stop(self, within_s: float) -> bool:
        """Leaves the batches, and waits until nothing more is done about them.

        Args:
            within_s: The longest wait in seconds.

        Returns:
            Whether it came to that.
        """
        self.leave()
        wait_for_event(self._ended, within_s)
        return self._ended.is_set

    def wait(self) -> None:
        """Blocks until every part is over; an interrupt leaves the batches to the next run of the job.

        Raises:
            LlamaClientError: The job cannot go on. What was done is written down: the same call resumes it.
        """
        try:
            while not self._ended.is_set:
                wait_for_event(self._ended, _WAIT_S)
        except BaseException:
            self.leave()
            raise
        self._finish()

    async def wait_async(self) -> None:
        """The same without blocking the event loop; a cancellation leaves the batches to the next run of the job."""
        try:
            while not self._ended.is_set:
                await await_event(self._ended, _WAIT_S)
        except BaseException:
            self.leave()
            raise
        self._finish()

    def _finish(self) -> None:
        self._thread.join()
        error = self._error or self._stuck
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            self._drive()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            self._ended.set()

    def _drive(self) -> None:
        now = self._clock.wall
        plans = [plan(part, now, lambda: self._is_cancelled) for part in self._parts]
        due = [(0.0, index) for index in range(len(plans))]
        was_cancelled = False
        try:
            while due and not self._is_left:
                self._is_cancelled = self._is_cancelled or now() >= self._cancel_at()
                if self._is_cancelled and not was_cancelled:
                    # None goes on waiting.
                    was_cancelled, due = True, [(0.0, index) for _, index in sorted(due)]
                if not self._slept_until(due[0][0], was_cancelled=was_cancelled):
                    continue
                _, index = heapq.heappop(due)
                wait_s = self._advance(self._parts[index], plans[index])
                if wait_s is not None:
                    heapq.heappush(due, (self._clock.monotonic() + wait_s, index))
        finally:
            for each in plans:
                each.close()

    def _advance(self, part: Part, steps_of: steps.Steps) -> float | None:
        """Performs steps until the part waits; None: it is over, or stuck."""
        outcome: Any = None
        while not self._is_left:
            try:
                step = steps_of.send(outcome)
            except StopIteration:
                return None
            except LlamaClientError as error:
                if is_fatal(error):
                    raise
                self._stuck = error
                return None
            if isinstance(step, steps.Wait):
                return step.seconds
            try:
                outcome = self._performed(part, step)
            except LlamaClientError as error:
                outcome = error
        return None

    def _slept_until(self, at: float, *, was_cancelled: bool) -> bool:
        """Lets time pass; False: a cancellation ended it, or the run was left."""
        is_real = self._clock.monotonic is time.monotonic
        while (left := at - self._clock.monotonic()) > 0:
            left_s = math.inf if was_cancelled else self._cancel_at() - self._clock.wall()
            if self._is_left or (not was_cancelled and (self._is_cancelled or left_s <= 0)):
                return False
            left = min(left, max(left_s, 0.0))
            self._clock.sleep(min(left, _LOOK_S) if is_real else left)
        return not self._is_left

    def _performed(self, part: Part, step: steps.Step) -> Any:
        match step:
            case steps.Save():
                return self._file.save()
            case steps.Hold() | steps.Reserve() | steps.Settle():
                return self._account(part, step)
            case steps.Collect():
                files = self._file
                paths = files.answers_of(part), files.errors_of(part)
                return self._reading.collect(part, _present(files.rows_of(part)), paths, files.tag_of(part))
            case steps.Forget():
                return self._file.forget(part)
            case _:
                return self._ask(part, step)

    def _ask(self, part: Part, step: steps.Step) -> Any:
        api, file_id = self._api, part.file_id or ""
        match step:
            case steps.Upload():
                return api.upload(_present(self._file.requests_of(part)))
            case steps.FindFiles():
                return api.files_named(self._file.requests_of(part).name)
            case steps.Create():
                return api.create(file_id, part.name, part.window_s)
            case steps.FindBatches():
                return api.batches_named(part.name, file_id)
            case steps.Retrieve():
                return api.retrieve(step.batch_id)
            case steps.Cancel():
                return api.cancel(step.batch_id)
            case steps.Download():
                path = self._file.answers_of(part) if step.which == "answers" else self._file.errors_of(part)
                return _downloaded(api.download, step.file_id, path)
            case steps.Delete():
                return api.delete(step.file_id)
            case _:
                raise AssertionError(step)

    def _account(self, part: Part, step: steps.Hold | steps.Reserve | steps.Settle) -> None:
        spending, tags = self._reading.spending, self._reading.tags
        worst = None if part.worst_usd is None else Decimal(part.worst_usd)
        match step:
            case steps.Hold():
                part.held_at = self._clock.wall()
                held = spending.hold(part.target.partition("/")[0], worst, tags, part.held_at)
                part.hold = held.as_json()
            case steps.Reserve():
                assert part.hold is not None
                spending.reserve(Hold.of_json(part.hold), part.target, worst, tags, part.held_at)
            case steps.Settle():
                assert part.hold is not None
                told = None if part.usd is None else Decimal(part.usd)
                usd = {"nothing": Decimal(0), "told": told, "most": None}[step.usd]
                spending.settle(Hold.of_json(part.hold), usd)
                # Before it is written down that this is done.
                spending.flush()
            case _:
                assert_never(step)


def _present(path: Path) -> Path:
    if not path.is_file():
        message = f"{path}: is gone, and its batch cannot go on without it: put it back, or begin a new job"
        raise JobError(message, folder=path.parent)
    return path


def _downloaded(download: Callable[[str, Path], None], file_id: str, path: Path) -> None:
    """A file is there whole or not at all."""
    draft = path.with_name(f"{path.name}.draft")
    try:
        download(file_id, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
