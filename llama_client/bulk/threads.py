"""Runs a job for a sync client: a thread for each call in flight, one that records, and the consumer's own."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

from llama_client.bulk.dispatcher import MoneyEndedError
from llama_client.bulk.pending import Done, Outcome, PendingRow
from llama_client.bulk.work import BATCH, BUFFERED, GRACE_S, Work, ends_job
from llama_client.errors import LlamaClientError
from llama_client.waiting import POLL_S, get_within

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Question
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.clock import Clock

# Workers that wait without a call, so that the next one need not start a thread.
_SPARE = 4
# A call that is stopped ends at once, but for one over a user's own HTTP client.
_STOPPING_S = 5.0


class ThreadedRun:
    """One run. The consumer's thread takes no lock: Ctrl-C may interrupt it anywhere.

    Args:
        work: The run's reading and recording.
        ask: Makes a call of a row.
        clock: The time.
        keeps_results: Whether results are handed to the consumer; else they are only recorded.
    """

    def __init__(self, work: Work, ask: Callable[[Row], Question], clock: Clock, *, keeps_results: bool) -> None:
        self._work = work
        self._ask = ask
        self._clock = clock
        self._keeps = keeps_results
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        # Held by the worker for which nothing but time can change anything.
        self._sleeping = threading.Lock()
        # Of idle workers: each token wakes one.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Empty lists have nothing to record, and progress to tell.
        self._ended: queue.SimpleQueue[list[Done] | None] = queue.SimpleQueue()
        self._out: queue.SimpleQueue[BulkResult | None] = queue.SimpleQueue()
        self._recorder = threading.Thread(target=self._record, name="llama-client-bulk-recorder", daemon=True)
        # As a set, each step of which is atomic.
        self._workers: dict[threading.Thread, None] = {}
        self._questions: dict[PendingRow, Question] = {}
        self._idle = 0
        # Written by one thread each.
        self._given = self._taken = 0
        self._error: BaseException | None = None
        self._is_cut = False

    def results(self, earlier: Iterator[BulkResult]) -> Generator[BulkResult]:
        """Starts the run; yields earlier results, then new ones as they come. Ends it however the consumer leaves."""
        self._start()
        try:
            yield from earlier
            while True:
                result = self._next_result()
                if result is None:
                    break
                yield result
        finally:
            self._close()
        if self._error is not None:
            raise self._error

    def _next_result(self) -> BulkResult | None:
        try:
            result = get_within(self._out, None)
        except KeyboardInterrupt:
            # A second one goes through.
            if self._work.journal.is_lasting:
                self._finish(GRACE_S)
            raise
        if result is not None:
            self._taken += 1
            if self._given - self._taken == BUFFERED - 1:
                self._wake_one()
        return result

    def _start(self) -> None:
        self._recorder.start()
        self._spawn()

    def _finish(self, within_s: float) -> None:
        """Begins nothing more, and waits for what is in flight to be recorded."""
        self._work.dispatcher.is_stopped = True
        self._wake_all()
        until = time.monotonic() + within_s
        with contextlib.suppress(queue.Empty):
            while get_within(self._out, until - time.monotonic()) is not None:
                self._taken += 1

    def _close(self) -> None:
        """Stops what is in flight, records what had ended, and waits for every thread."""
        self._is_cut = self._work.dispatcher.is_stopped = True
        for question in list(self._questions.values()):
            question.stop()
        self._wake_all()
        until = time.monotonic() + _STOPPING_S
        for worker in list(self._workers):
            worker.join(max(until - time.monotonic(), 0.0))
        self._ended.put(None)
        self._recorder.join(_STOPPING_S)

    def _wake_all(self) -> None:
        for _ in range(len(self._workers)):
            self._wake.put(None)

    def _wake_one(self) -> None:
        # A worker that takes a row wakes the next one, so a token is enough; more would pile up while all are busy.
        if self._wake.empty():
            self._wake.put(None)

    def _spawn(self) -> None:
        """One more worker. Where no thread is left, those that there are do it."""
        worker = threading.Thread(target=self._run_worker, name="llama-client-bulk", daemon=True)
        self._workers[worker] = None
        try:
            worker.start()
        except RuntimeError as error:
            self._workers.pop(worker)
            if not self._workers:
                self._fail(error)
                self._ended.put(None)

    def _run_worker(self) -> None:
        try:
            self._work_on()
        except MoneyEndedError as ended:
            self._fail(self._work.money_ended(ended))
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._fail(error)
        finally:
            with self._lock:
                is_over = self._work.dispatcher.is_over
            if is_over:
                self._ended.put(None)
            self._workers.pop(threading.current_thread(), None)

    def _work_on(self) -> None:
        dispatcher, clock = self._work.dispatcher, self._clock
        while not self._is_cut:
            with self._lock:
                step: PendingRow | float = math.inf
                if not self._keeps or self._given - self._taken < BUFFERED:
                    step = dispatcher.next(clock.monotonic())
                # What comes of batches would go past a consumer that is slow.
                is_full = self._keeps and self._given - self._taken >= BUFFERED
                is_over, wanted = dispatcher.is_over, 0 if is_full else dispatcher.wanted()
                needs_money = dispatcher.needs_money and not is_full
                has_idle = self._idle > 0
            if isinstance(step, PendingRow):
                if not has_idle:
                    self._spawn()
                else:
                    self._wake_one()
                self._perform(step)
                continue
            is_wanted = wanted >= BATCH
            has_read = (is_wanted or needs_money) and self._read(only_batches=not is_wanted)
            if is_over or (not has_read and not self._idle_for(step)):
                return

    def _idle_for(self, seconds: float) -> bool:
        """Waits; False: there are more idle workers than are needed."""
        if seconds < math.inf and not self._work.dispatcher.in_flight and self._sleeping.acquire(blocking=False):
            try:
                # A sleep of real time ends by nothing but time.
                is_real = self._clock.monotonic is time.monotonic
                self._clock.sleep(min(seconds, POLL_S) if is_real else seconds)
            finally:
                self._sleeping.release()
            return True
        with self._lock:
            self._idle += 1
        try:
            self._wake.get(timeout=min(seconds, POLL_S))
        except queue.Empty:
            return self._idle <= _SPARE
        else:
            return True
        finally:
            with self._lock:
                self._idle -= 1

    def _read(self, *, only_batches: bool) -> bool:
        """Reads rows, unless another worker does; False: it does, or nothing came."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            rows, came, is_end = self._work.read(BATCH, only_batches=only_batches)
        finally:
            self._reading.release()
        with self._lock:
            done = self._work.dispatcher.add(rows, is_end=is_end, done=came)
        self._hand_over(done)
        return bool(rows or came) or is_end

    def _perform(self, pending: PendingRow) -> None:
        question = self._ask(pending.row)
        self._questions[pending] = question
        try:
            self._work.journal.began([pending.row])
            outcome: Outcome = question.answer()
        except LlamaClientError as error:
            if ends_job(error) or self._is_cut:
                self._abandon(pending)
                raise
            outcome = error
        except BaseException:
            self._abandon(pending)
            raise
        finally:
            self._questions.pop(pending, None)
        with self._lock:
            done = self._work.dispatcher.ended(pending, outcome, self._clock.monotonic())
        if not done:
            self._work.journal.withdrew(pending.row)
        self._hand_over(done)

    def _hand_over(self, done: list[Done]) -> None:
        if done or self._work.dispatcher.waiting is not None:
            self._ended.put(done)

    def _abandon(self, pending: PendingRow) -> None:
        with self._lock:
            self._work.dispatcher.abandoned(pending)

    def _record(self) -> None:
        try:
            while (first := self._ended.get()) is not None:
                batch = [*first]
                with contextlib.suppress(queue.Empty):
                    while len(batch) < BATCH:
                        another = self._ended.get_nowait()
                        if another is None:
                            self._ended.put(None)
                            break
                        batch += another
                if not batch:
                    self._work.tell()
                    continue
                results = self._work.record(batch)
                if self._keeps:
                    self._given += len(results)
                    for result in results:
                        self._out.put(result)
                with self._lock:
                    self._work.dispatcher.recorded(len(batch))
                    is_over = self._work.dispatcher.is_over
                self._wake_one()
                if is_over:
                    break
            self._work.tell(is_last=True)
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._fail(error)
        finally:
            self._out.put(None)

    def _fail(self, error: BaseException) -> None:
        """The job stops; what is in flight is still recorded."""
        if self._error is None and not self._is_cut:
            self._error = error
        self._work.dispatcher.is_stopped = True
        self._wake_all()
