"""Performs a plan's steps, sync and async. Nothing else loops over attempts."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic

from llama_client.clock import Deadline
from llama_client.errors import LlamaClientError, LocalOnlyError, ProviderError, ServerError
from llama_client.routing.attempt import RunningAttempt
from llama_client.routing.candidate import Candidate
from llama_client.routing.concurrency import await_event, wait_for_event
from llama_client.routing.plan import (
    AwaitRunning,
    Backoff,
    Late,
    Lost,
    Outcome,
    Plan,
    Reserve,
    Skip,
    Step,
    Steps,
    Try,
    Wait,
    Won,
)
from llama_client.routing.recorder import CallRecord
from llama_client.types.completion import AsyncChunks, ChatCompletionChunk, Chunks, SyncChunks

if TYPE_CHECKING:
    import asyncio

    from llama_client.config.tables import RoutingConfig


# How long a call waits for the threads of a lost race, so that their attempts are recorded as they ended.
_LOSERS_S = 0.5
# A lock's wait cannot be interrupted by Ctrl-C on Windows; so wait in steps.
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class OpenedStream(Generic[Chunks]):
    """The winning attempt, and the rest of its chunks."""

    trial: RunningAttempt
    arrived: list[ChatCompletionChunk]
    rest: Chunks


def drive(steps: Steps[OpenedStream[SyncChunks]], record: CallRecord) -> OpenedStream[SyncChunks]:
    """Runs a plan, blocking."""
    race = _Race(record)
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
    except LlamaClientError as error:
        error.attempts = record.attempts
        raise
    except BaseException:
        # Interrupted while the losing attempts were being cancelled.
        if won is not None:
            record.cancelled(won.trial)
            won.rest.close()
        raise
    finally:
        steps.close()


async def adrive(steps: Steps[OpenedStream[AsyncChunks]], record: CallRecord) -> OpenedStream[AsyncChunks]:
    """Runs a plan on the event loop."""
    race = _AsyncRace(record)
    won: OpenedStream[AsyncChunks] | None = None
    try:
        try:
            step = next(steps)
            while True:
                step = steps.send(await _aperform(step, record, race))
        except StopIteration as done:
            won = done.value
        finally:
            if race.running:
                await race.stop()
        return won
    except LlamaClientError as error:
        error.attempts = record.attempts
        raise
    except BaseException:
        # Cancelled while the losing attempts were being cancelled.
        if won is not None:
            record.cancelled(won.trial)
            await won.rest.aclose()
        raise
    finally:
        steps.close()


def _perform(step: Step, record: CallRecord, race: _Race) -> Outcome[OpenedStream[SyncChunks]]:
    match step:
        case Try():
            trial = record.start_attempt(step)
            if step.late_after_s is None and not race.running:
                return _attempt(trial, record)
            return race.enter(trial, step.late_after_s)
        case AwaitRunning():
            return race.first(None)
        case Wait(seconds, None):
            record.clock.sleep(seconds)
        case Wait(seconds, turn) if turn is not None:
            wait_for_event(turn, seconds)
        case Reserve():
            return record.reserve(step).wait()
        case Skip():
            record.skipped(step)
    return None


async def _aperform(step: Step, record: CallRecord, race: _AsyncRace) -> Outcome[OpenedStream[AsyncChunks]]:
    match step:
        case Try():
            trial = record.start_attempt(step)
            if step.late_after_s is None and not race.running:
                return await _aattempt(trial, record)
            return await race.enter(trial, step.late_after_s)
        case AwaitRunning():
            return await race.first(None)
        case Wait(seconds, None):
            await record.clock.asleep(seconds)
        case Wait(seconds, turn) if turn is not None:
            await await_event(turn, seconds)
        case Reserve():
            return await record.reserve(step).wait_async()
        case Skip():
            record.skipped(step)
    return None


def _attempt(trial: RunningAttempt, record: CallRecord) -> Won[OpenedStream[SyncChunks]] | Lost:
    chunks, streams = trial.target.provider.chunks(trial.call), trial.call.request.stream
    arrived: list[ChatCompletionChunk] = []
    try:
        for chunk in chunks:
            trial.add(chunk)
            if streams and _has_won(trial, chunk, arrived):
                return Won(OpenedStream(trial, arrived, chunks))
        trial.require_complete()
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        chunks.close()
        return _lost(trial, record, error)
    except BaseException:
        chunks.close()
        record.cancelled(trial)
        raise
    return Won(OpenedStream(trial, arrived, chunks))


async def _aattempt(trial: RunningAttempt, record: CallRecord) -> Won[OpenedStream[AsyncChunks]] | Lost:
    chunks, streams = trial.target.provider.achunks(trial.call), trial.call.request.stream
    arrived: list[ChatCompletionChunk] = []
    try:
        async for chunk in chunks:
            trial.add(chunk)
            if streams and _has_won(trial, chunk, arrived):
                return Won(OpenedStream(trial, arrived, chunks))
        trial.require_complete()
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        await chunks.aclose()
        return _lost(trial, record, error)
    except BaseException:
        await chunks.aclose()
        record.cancelled(trial)
        raise
    return Won(OpenedStream(trial, arrived, chunks))


def _has_won(trial: RunningAttempt, chunk: ChatCompletionChunk, arrived: list[ChatCompletionChunk]) -> bool:
    """Whether a stream has content to show with this chunk."""
    arrived.append(chunk)
    if not trial.fold.has_content:
        return False
    trial.lease.has_content()
    return True


def _lost(trial: RunningAttempt, record: CallRecord, error: Exception) -> Lost:
    """A failure for the plan; an error that is not a target's is raised at once."""
    failure = error if isinstance(error, LlamaClientError) else wrapped(error)
    if trial.is_abandoned:
        record.cancelled(trial)
    else:
        record.failed(trial, failure)
    if not isinstance(failure, ProviderError | LocalOnlyError):
        raise failure
    return Lost(trial.candidate, failure)


def wrapped(error: Exception) -> ProviderError:
    """An exception that a provider should not have raised, as one of ours."""
    failure = ServerError(f"the provider broke: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _mark_late(running: Iterable[RunningAttempt]) -> None:
    for trial in running:
        trial.is_late = True


@dataclass(slots=True, eq=False)
class _Race:
    """Attempts in parallel, each in a thread."""

    _record: CallRecord
    running: dict[RunningAttempt, threading.Thread] = field(default_factory=dict)
    _ended: queue.SimpleQueue[tuple[RunningAttempt, Outcome[OpenedStream[SyncChunks]] | BaseException]] = field(
        default_factory=queue.SimpleQueue
    )

    def enter(self, trial: RunningAttempt, late_after_s: float | None) -> Outcome[OpenedStream[SyncChunks]]:
        thread = threading.Thread(target=self._run, args=(trial,), name="llama-client-attempt")
        self.running[trial] = thread
        try:
            thread.start()
        except BaseException:
            del self.running[trial]
            self._record.cancelled(trial)
            raise
        return self.first(late_after_s)

    def first(self, late_after_s: float | None) -> Outcome[OpenedStream[SyncChunks]]:
        """The first outcome of any attempt; `Late`: none in time."""
        left = late_after_s
        while True:
            step_s = _POLL_S if left is None else min(left, _POLL_S)
            try:
                trial, outcome = self._ended.get(timeout=step_s)
                break
            except queue.Empty:
                if left is not None:
                    left -= step_s
                    if left <= 0:
                        _mark_late(self.running)
                        return Late()
        del self.running[trial]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Cancels and records what still runs, upstream too."""
        losers, self.running = self.running, {}
        for trial in losers:
            trial.is_abandoned = True
            trial.call.facts.cancel()
        try:
            for trial, thread in losers.items():
                thread.join(_LOSERS_S)
                if thread.is_alive():
                    # Its progress is unknown: over a user's own HTTP client it cannot be cancelled.
                    trial.call.facts.sent = True
        finally:
            for trial in losers:
                self._record.cancelled(trial)
        # Another attempt may have won as well: close it.
        with contextlib.suppress(queue.Empty):
            while True:
                _, outcome = self._ended.get_nowait()
                if isinstance(outcome, Won):
                    outcome.value.rest.close()

    def _run(self, trial: RunningAttempt) -> None:
        try:
            outcome: Outcome[OpenedStream[SyncChunks]] | BaseException = _attempt(trial, self._record)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that made the call
            outcome = error
        if trial.is_abandoned and isinstance(outcome, Won):
            outcome.value.rest.close()
        else:
            self._ended.put((trial, outcome))


@dataclass(slots=True, eq=False)
class _AsyncRace:
    """Attempts in parallel, each in a task."""

    _record: CallRecord
    running: dict[asyncio.Task[Won[OpenedStream[AsyncChunks]] | Lost], RunningAttempt] = field(default_factory=dict)

    async def enter(self, trial: RunningAttempt, late_after_s: float | None) -> Outcome[OpenedStream[AsyncChunks]]:
        import asyncio

        self.running[asyncio.create_task(_aattempt(trial, self._record))] = trial
        return await self.first(late_after_s)

    async def first(self, late_after_s: float | None) -> Outcome[OpenedStream[AsyncChunks]]:
        """The first outcome of any attempt; `Late`: none in time."""
        import asyncio

        done, _ = await asyncio.wait(self.running, timeout=late_after_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            _mark_late(self.running.values())
            return Late()
        task = done.pop()
        del self.running[task]
        return task.result()

    async def stop(self) -> None:
        """Cancels what still runs, upstream too; each is recorded as it ends."""
        import asyncio

        losers, self.running = self.running, {}
        for task, trial in losers.items():
            trial.is_abandoned = True
            task.cancel()
        try:
            for outcome in await asyncio.gather(*losers, return_exceptions=True):
                if isinstance(outcome, Won):
                    # It had won as well.
                    await outcome.value.rest.aclose()
        finally:
            for trial in losers.values():
                # Also those that never started.
                self._record.cancelled(trial)


@dataclass(frozen=True, slots=True)
class Call:
    """One checked call."""

    record: CallRecord
    candidates: Sequence[Candidate]
    deadline: Deadline
    rules: RoutingConfig
    backoff: Backoff

    def drive(self) -> OpenedStream[SyncChunks]:
        plan: Plan[OpenedStream[SyncChunks]] = Plan(self.candidates, self.rules, self.deadline, self.backoff)
        return drive(plan.steps(), self.record)

    async def adrive(self) -> OpenedStream[AsyncChunks]:
        plan: Plan[OpenedStream[AsyncChunks]] = Plan(self.candidates, self.rules, self.deadline, self.backoff)
        return await adrive(plan.steps(), self.record)

    def after(self, broken: RunningAttempt) -> Call | None:
        """The call that continues an interrupted stream; None: not allowed, or no candidate is left.

        It is asked of those who have not broken off and are not out, as any call is.
        """
        has_one_answer = self.record.request.n in (None, 1)
        if self.rules.on_interrupt != "continue" or not has_one_answer or not broken.fold.can_be_continued:
            return None
        interrupted = broken.interrupted()
        left = [
            candidate.continuing(interrupted)
            for candidate in self.candidates
            if candidate is not broken.candidate
            and not candidate.is_out
            and candidate.target.provider.continues(candidate.target.model)
        ]
        if not left:
            return None
        timeout_s = self.record.request.timeout or self.rules.deadline_s
        return replace(self, candidates=left, deadline=Deadline(timeout_s, self.deadline.clock))
