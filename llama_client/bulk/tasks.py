"""Runs a job for an async client: a task for each call in flight; what blocks happens in threads."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from llama_client.bulk.dispatcher import MoneyEndedError
from llama_client.bulk.interrupts import watched_interrupts
from llama_client.bulk.pending import Done, Outcome, PendingRow
from llama_client.bulk.work import BATCH, BUFFERED, GRACE_S, ends_job
from llama_client.errors import LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import AsyncAsk
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.row_work import RowWork
    from llama_client.clock import Clock

# An iterable of the user's own may block for ever; it is left to its thread then.
_STOPPING_S = 5.0

T = TypeVar("T")


def _some(results: Iterator[BulkResult]) -> list[BulkResult]:
    return list(islice(results, BATCH))


class TaskRun:
    """One run, on the event loop of its consumer.

    Args:
        work: The run's reading and recording.
        ask: Asks a row.
        clock: The time.
        keeps_results: Whether results are handed to the consumer; else they are only recorded.
    """

    def __init__(self, work: RowWork, ask: AsyncAsk, clock: Clock, *, keeps_results: bool) -> None:
        self._work = work
        self._ask = ask
        self._clock = clock
        self._keeps = keeps_results
        self._changed = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._has_result = asyncio.Event()
        self._ended: deque[Done] = deque()
        self._out: deque[BulkResult] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._blocking: set[asyncio.Task[Any]] = set()
        self._is_reading = False
        self._is_recorded = False
        self._error: BaseException | None = None

    async def results(self, earlier: Iterator[BulkResult]) -> AsyncGenerator[BulkResult]:
        """Starts the run; yields earlier results, then new ones as they come. Ends it however the consumer leaves."""
        self._spawn(self._conduct())
        recorder = self._spawn(self._record())
        with watched_interrupts() as interrupts:
            try:
                while some := await self._in_thread(_some, earlier):
                    for result in some:
                        yield result
                while await self._has_next():
                    yield self._out.popleft()
            except asyncio.CancelledError:
                if interrupts.count == 1 and self._work.journal.is_lasting:
                    # Ctrl-C; a second one ends the loop.
                    await self._finish(recorder)
                raise
            finally:
                await self._close(recorder)
        if self._error is not None:
            raise self._error

    async def _has_next(self) -> bool:
        if len(self._out) == BUFFERED:
            self._changed.set()
        while not self._out and not self._is_recorded:
            self._has_result.clear()
            await self._has_result.wait()
        return bool(self._out)

    def stop(self) -> None:
        """Begins nothing more; what is in flight is still recorded."""
        self._work.dispatcher.is_stopped = True
        self._changed.set()
        self._has_ended.set()

    async def _finish(self, recorder: asyncio.Task[None]) -> None:
        """Begins nothing more, and waits for what is in flight to be recorded."""
        self.stop()
        await asyncio.wait([recorder], timeout=GRACE_S)

    async def _close(self, recorder: asyncio.Task[None]) -> None:
        """Cancels what is in flight, records what had ended, and waits for every task and thread."""
        self._work.dispatcher.is_stopped = True
        others = self._tasks - {recorder}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._has_ended.set()
        await asyncio.wait([recorder], timeout=_STOPPING_S)
        recorder.cancel()
        if self._blocking:
            await asyncio.wait(self._blocking, timeout=_STOPPING_S)

    def _spawn(self, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(body)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self._work.dispatcher.is_stopped = True
            self._changed.set()
            self._has_ended.set()

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Lets it end where this task is cancelled: what it writes stays whole."""
        running = asyncio.create_task(asyncio.to_thread(function, *arguments))
        self._blocking.add(running)
        running.add_done_callback(self._blocking.discard)
        return await asyncio.shield(running)

    async def _conduct(self) -> None:
        dispatcher = self._work.dispatcher
        while not dispatcher.is_over:
            self._changed.clear()
            begun, wait_s = self._due()
            if begun:
                if self._work.journal.is_lasting:
                    await self._note_begun(begun)
                for pending in begun:
                    self._spawn(self._perform(pending))
                continue
            # What comes of batches would go past a consumer that is slow.
            is_wanted = dispatcher.wanted() >= BATCH
            if (is_wanted or dispatcher.needs_money) and not self._is_reading and len(self._out) < BUFFERED:
                self._is_reading = True
                self._spawn(self._read(only_batches=not is_wanted))
            if wait_s < math.inf and not dispatcher.in_flight and not self._is_reading:
                await self._clock.asleep(wait_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == math.inf else wait_s):
                    await self._changed.wait()
        self._has_ended.set()

    async def _note_begun(self, begun: list[PendingRow]) -> None:
        try:
            await self._in_thread(self._work.journal.began, [each.row for each in begun])
        except BaseException:
            # None of them was asked; the recorder would wait for them.
            for pending in begun:
                self._work.dispatcher.abandoned(pending)
            raise

    def _due(self) -> tuple[list[PendingRow], float]:
        """The rows to begin now, and how long to wait where there is none."""
        begun: list[PendingRow] = []
        while len(begun) < BATCH and len(self._out) < BUFFERED:
            try:
                step = self._work.dispatcher.next(self._clock.monotonic())
            except MoneyEndedError as ended:
                raise self._work.money_ended(ended) from None
            if not isinstance(step, PendingRow):
                return begun, step
            begun.append(step)
        return begun, math.inf

    async def _read(self, *, only_batches: bool) -> None:
        try:
            rows, came, is_end = await self._in_thread(partial(self._work.read, BATCH, only_batches=only_batches))
        finally:
            self._is_reading = False
        self._hand_over(self._work.dispatcher.add(rows, is_end=is_end, done=came))
        self._changed.set()

    async def _perform(self, pending: PendingRow) -> None:
        dispatcher = self._work.dispatcher
        try:
            outcome: Outcome = await self._ask(pending.row)
        except LlamaClientError as error:
            if ends_job(error):
                dispatcher.abandoned(pending)
                raise
            outcome = error
        except BaseException:
            dispatcher.abandoned(pending)
            raise
        done = dispatcher.ended(pending, outcome, self._clock.monotonic())
        if not done:
            self._work.journal.withdrew(pending.row)
        self._hand_over(done)
        self._changed.set()

    def _hand_over(self, done: list[Done]) -> None:
        if done or self._work.dispatcher.waiting is not None:
            self._ended.extend(done)
            self._has_ended.set()

    async def _record(self) -> None:
        dispatcher = self._work.dispatcher
        try:
            while not dispatcher.is_over:
                await self._has_ended.wait()
                self._has_ended.clear()
                if not self._ended and dispatcher.waiting is not None:
                    await self._in_thread(self._work.tell)
                while self._ended:
                    batch = [self._ended.popleft() for _ in range(min(len(self._ended), BATCH))]
                    results = await self._in_thread(self._work.record, batch)
                    dispatcher.recorded(len(batch))
                    if self._keeps:
                        self._out.extend(results)
                        self._has_result.set()
                    self._changed.set()
            await self._in_thread(partial(self._work.tell, is_last=True))
        finally:
            self._is_recorded = True
            self._has_result.set()
