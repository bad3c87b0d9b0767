"""Performs a plan's steps, sync and async. Nothing else loops over attempts."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple

from llama_client.clock import Deadline
from llama_client.errors import (
    APIConnectionError,
    ConfigError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
    ServerError,
)
from llama_client.routing.accumulator import Interrupted
from llama_client.routing.attempt import Hit, RunningAttempt
from llama_client.routing.candidate import Candidate
from llama_client.routing.plan import (
    AwaitRunning,
    Backoff,
    Late,
    Look,
    Lost,
    Outcome,
    Plan,
    Reserve,
    Skip,
    Step,
    Try,
    Wait,
    Won,
)
from llama_client.routing.recorder import CallRecord
from llama_client.types.completion import AsyncChunks, ChatCompletionChunk, Chunks, SyncChunks
from llama_client.waiting import await_event, get_within, wait_for_event

if TYPE_CHECKING:
    import asyncio

    from llama_client.config.tables import RoutingConfig

UNEXPECTED = "provider raised an unexpected error"
"""How the message begins of an error that stands for an exception of a provider's own."""
# How long a call waits for the threads that lost a race to end, so that their attempts are recorded correctly.
_LOSERS_S = 0.5


class OpenedStream(NamedTuple, Generic[Chunks]):
    attempt: RunningAttempt
    arrived: list[ChatCompletionChunk]
    rest: Chunks


class Call(NamedTuple):
    """A call that is to be made.

    Attributes:
        retries_failures: Whether a target is retried after a transient failure; else its caller does that.
    """

    record: CallRecord
    candidates: Sequence[Candidate]
    deadline: Deadline
    rules: RoutingConfig
    backoff: Backoff
    retries_failures: bool = True

    def drive(self) -> OpenedStream[SyncChunks]:
        """Blocks until a stream has content or a whole answer has come."""
        looks_up = self.record.cached is not None
        plan: Plan[OpenedStream[SyncChunks]] = Plan(
            self.candidates, self.rules, self.deadline, self.backoff, self.retries_failures, looks_up
        )
        steps, record = plan.steps(), self.record
        record.plan, race = plan, _Race(record)
        won: OpenedStream[SyncChunks] | None = None
        try:
            try:
                step = next(steps)
                while True:
                    step = steps.send(_perform(step, record, race))
            except StopIteration as done:
                won = done.value
            finally:
                if race.running:
                    race.stop()
            return won
        except BaseException as error:
            record.end_attempts()
            if isinstance(error, LlamaClientError):
                error.attempts = record.attempts
            elif isinstance(error, Exception):
                raise _not_made(error, record) from error
            raise

    async def adrive(self) -> OpenedStream[AsyncChunks]:
        looks_up = self.record.cached is not None
        plan: Plan[OpenedStream[AsyncChunks]] = Plan(
            self.candidates, self.rules, self.deadline, self.backoff, self.retries_failures, looks_up
        )
        steps, record = plan.steps(), self.record
        record.plan, race = plan, _AsyncRace(record)
        won: OpenedStream[AsyncChunks] | None = None
        try:
            try:
                step = next(steps)
                while True:
                    step = steps.send(await _aperform(step, record, race))
            except StopIteration as done:
                won = done.value
            except GeneratorExit:
                race.running.clear()
                raise
            finally:
                if race.running:
                    await race.stop()
            return won
        except GeneratorExit:
            # This coroutine is collected: a finaliser waits for nothing, and the reaper ends the call.
            raise
        except BaseException as error:
            record.end_attempts()
            if isinstance(error, LlamaClientError):
                error.attempts = record.attempts
            elif won is not None:
                # Cancelled while the losers were being stopped.
                await won.rest.aclose()
            if isinstance(error, Exception) and not isinstance(error, LlamaClientError):
                raise _not_made(error, record) from error
            raise

    def after(self, broken: RunningAttempt) -> Call | None:
        """The call that continues an interrupted stream; None: not allowed, not possible, or no target is left."""
        has_one_answer = self.record.request.n in (None, 1)
        if self.rules.on_interrupt != "continue" or not has_one_answer or not broken.answer.can_be_continued:
            return None
        interrupted = Interrupted(broken.target.name, broken.answer, broken.facts.bodies, broken.first_content_at)
        left = [
            candidate.continuing(interrupted)
            for candidate in self.candidates
            if candidate is not broken.candidate
            and not candidate.is_excluded
            and candidate.target.provider.continues(candidate.target.model)
        ]
        if not left:
            return None
        timeout_s = self.record.request.timeout or self.rules.deadline_s
        return self._replace(candidates=left, deadline=Deadline(timeout_s, self.deadline.clock))


def _perform(step: Step, record: CallRecord, race: _Race) -> Outcome[OpenedStream[SyncChunks]]:
    match step:
        case Try():
            attempt = record.start_attempt(step)
            if step.late_after_s is None and not race.running:
                return _attempt(attempt, record)
            return race.enter(attempt, step.late_after_s)
        case AwaitRunning():
            return race.first(None)
        case Wait(seconds, None):
            record.clock.sleep(seconds)
        case Wait(seconds, event) if event is not None:
            wait_for_event(event, seconds)
        case Reserve():
            if step.candidate.counts_tokens:
                step.candidate.count_tokens()
            return record.reserve(step).wait()
        case Look():
            found = record.look(step)
            if isinstance(found, Hit):
                return Won(OpenedStream(found.attempt, found.arrived, _sync_rest(found.rest)))
            return found
        case Skip():
            record.skipped(step)
    return None


async def _aperform(step: Step, record: CallRecord, race: _AsyncRace) -> Outcome[OpenedStream[AsyncChunks]]:
    match step:
        case Try():
            attempt = record.start_attempt(step)
            if step.late_after_s is None and not race.running:
                return await _aattempt(attempt, record)
            return await race.enter(attempt, step.late_after_s)
        case AwaitRunning():
            return await race.first(None)
        case Wait(seconds, None):
            await record.clock.asleep(seconds)
        case Wait(seconds, event) if event is not None:
            await await_event(event, seconds)
        case Reserve():
            if step.candidate.counts_tokens:
                import asyncio

                await asyncio.to_thread(step.candidate.count_tokens)
            return await record.reserve(step).wait_async()
        case Look():
            found = record.look(step)
            if isinstance(found, Hit):
                return Won(OpenedStream(found.attempt, found.arrived, _async_rest(found.rest)))
            return found
        case Skip():
            record.skipped(step)
    return None


def _sync_rest(chunks: Sequence[ChatCompletionChunk]) -> SyncChunks:
    yield from chunks


async def _async_rest(chunks: Sequence[ChatCompletionChunk]) -> AsyncChunks:
    for chunk in chunks:
        yield chunk


def _attempt(attempt: RunningAttempt, record: CallRecord) -> Won[OpenedStream[SyncChunks]] | Lost:
    chunks, streams = attempt.target.provider.chunks(attempt.call), attempt.call.request.stream
    attempt.chunks = chunks
    arrived: list[ChatCompletionChunk] = []
    try:
        for chunk in chunks:
            attempt.add(chunk)
            if streams and _has_won(attempt, chunk, arrived):
                return Won(OpenedStream(attempt, arrived, chunks))
        attempt.require_complete()
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        chunks.close()
        return _lost(attempt, record, error)
    except BaseException:
        chunks.close()
        record.cancelled(attempt)
        raise
    return Won(OpenedStream(attempt, arrived, chunks))


async def _aattempt(attempt: RunningAttempt, record: CallRecord) -> Won[OpenedStream[AsyncChunks]] | Lost:
    chunks, streams = attempt.target.provider.achunks(attempt.call), attempt.call.request.stream
    arrived: list[ChatCompletionChunk] = []
    try:
        async for chunk in chunks:
            attempt.add(chunk)
            if streams and _has_won(attempt, chunk, arrived):
                return Won(OpenedStream(attempt, arrived, chunks))
        attempt.require_complete()
    except GeneratorExit:
        # As in `adrive`. The event loop closes the chunks.
        raise
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        await chunks.aclose()
        return _lost(attempt, record, error)
    except BaseException:
        await chunks.aclose()
        record.cancelled(attempt)
        raise
    return Won(OpenedStream(attempt, arrived, chunks))


def _has_won(attempt: RunningAttempt, chunk: ChatCompletionChunk, arrived: list[ChatCompletionChunk]) -> bool:
    arrived.append(chunk)
    if not attempt.answer.has_content:
        return False
    attempt.lease.has_content()
    return True


def _lost(attempt: RunningAttempt, record: CallRecord, error: Exception) -> Lost:
    """Raises an error that has nothing to do with the target."""
    failure = error if isinstance(error, LlamaClientError) else wrapped(error)
    if attempt.is_abandoned:
        record.cancelled(attempt)
    else:
        record.failed(attempt, failure)
    if not isinstance(failure, ProviderError | LocalOnlyError | ConfigError):
        raise failure
    return Lost(attempt.candidate, failure, attempt.facts.is_unanswered)


def _not_made(error: Exception, record: CallRecord) -> APIConnectionError:
    """The error of a call for which this process lacks something: a thread, or a descriptor to import a module with."""
    failure = APIConnectionError(f"the call cannot be made: {type(error).__name__}: {error}")
    failure.attempts = record.attempts
    return failure


def wrapped(error: Exception) -> ProviderError:
    failure = ServerError(f"{UNEXPECTED}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


@dataclass(slots=True, eq=False)
class _Race:
    """Hedged attempts, each in a thread."""

    _record: CallRecord
    running: dict[RunningAttempt, threading.Thread] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[RunningAttempt, Outcome[OpenedStream[SyncChunks]] | BaseException]] = field(
        default_factory=queue.SimpleQueue
    )

    def enter(self, attempt: RunningAttempt, late_after_s: float | None) -> Outcome[OpenedStream[SyncChunks]]:
        thread = threading.Thread(target=self._run, args=(attempt,), name="llama-client-attempt")
        thread.start()
        self.running[attempt] = thread
        return self.first(late_after_s)

    def first(self, late_after_s: float | None) -> Outcome[OpenedStream[SyncChunks]]:
        """The outcome of the first attempt that ends; `Late`: none did in time."""
        try:
            attempt, outcome = get_within(self._ended, late_after_s)
        except queue.Empty:
            for attempt in self.running:
                attempt.is_late = True
            return Late()
        del self.running[attempt]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Stops the losers, upstream too, and records them."""
        losers, self.running = self.running, {}
        for attempt in losers:
            attempt.is_abandoned = True
            attempt.facts.cancel()
        try:
            for attempt, thread in losers.items():
                thread.join(_LOSERS_S)
                if thread.is_alive():
                    # Over a user's own HTTP client it cannot be stopped, and may have been sent.
                    attempt.facts.sent = True
        finally:
            for attempt in losers:
                self._record.cancelled(attempt)
        # One may have won as well.
        with contextlib.suppress(queue.Empty):
            while True:
                _, outcome = self._ended.get_nowait()
                if isinstance(outcome, Won):
                    outcome.value.rest.close()

    def _run(self, attempt: RunningAttempt) -> None:
        try:
            outcome: Outcome[OpenedStream[SyncChunks]] | BaseException = _attempt(attempt, self._record)
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            outcome = error
        if attempt.is_abandoned and isinstance(outcome, Won):
            outcome.value.rest.close()
        else:
            self._ended.put((attempt, outcome))


@dataclass(slots=True, eq=False)
class _AsyncRace:
    """Hedged attempts, each in a task."""

    _record: CallRecord
    running: dict[asyncio.Task[Won[OpenedStream[AsyncChunks]] | Lost], RunningAttempt] = field(default_factory=dict)

    async def enter(self, attempt: RunningAttempt, late_after_s: float | None) -> Outcome[OpenedStream[AsyncChunks]]:
        import asyncio

        task = asyncio.create_task(_aattempt(attempt, self._record))
        self.running[task] = attempt
        attempt.cancel_task = partial(task.get_loop().call_soon_threadsafe, task.cancel)
        return await self.first(late_after_s)

    async def first(self, late_after_s: float | None) -> Outcome[OpenedStream[AsyncChunks]]:
        import asyncio

        done, _ = await asyncio.wait(self.running, timeout=late_after_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            for attempt in self.running.values():
                attempt.is_late = True
            return Late()
        task = done.pop()
        # A circle otherwise.
        self.running.pop(task).cancel_task = None
        return task.result()

    async def stop(self) -> None:
        import asyncio

        losers, self.running = self.running, {}
        for task, attempt in losers.items():
            attempt.is_abandoned = True
            task.cancel()
        try:
            for outcome in await asyncio.gather(*losers, return_exceptions=True):
                if isinstance(outcome, Won):
                    # It has won as well.
                    await outcome.value.rest.aclose()
        finally:
            for attempt in losers.values():
                attempt.cancel_task = None
                # Also those that never started.
                self._record.cancelled(attempt)
