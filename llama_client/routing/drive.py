"""Performs a plan's steps, in two colours. Nothing else loops over attempts.

A call and a stream differ only in when an attempt has won: a call when the answer is whole, so that every failure may
still move on; a stream at its first content, as what was shown cannot be taken back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from llama_client.errors import LlamaClientError, LocalOnlyError, ProviderError, ServerError
from llama_client.routing.plan import Lost, Try, Won
from llama_client.routing.record import CallRecord, Trial
from llama_client.types.chunk import ChatCompletionChunk

SyncChunks = Generator[ChatCompletionChunk]
AsyncChunks = AsyncGenerator[ChatCompletionChunk]
Chunks = TypeVar("Chunks", SyncChunks, AsyncChunks)


@dataclass(frozen=True, slots=True)
class Opened(Generic[Chunks]):
    """An attempt that has won, and the chunks that are left of it.

    Attributes:
        trial: The attempt.
        arrived: The chunks that arrived before it had won.
        rest: The provider's generator for the chunks to come; closed already where the answer is whole.
    """

    trial: Trial
    arrived: list[ChatCompletionChunk]
    rest: Chunks


Steps = Generator[Try, "Won[Opened[Chunks]] | Lost", "Opened[Chunks]"]


def drive(steps: Steps[SyncChunks], record: CallRecord) -> Opened[SyncChunks]:
    """Runs a plan, blocking."""
    try:
        step = next(steps)
        while True:
            step = steps.send(_attempt(step, record))
    except StopIteration as done:
        won: Opened[SyncChunks] = done.value
        return won
    except LlamaClientError as error:
        error.attempts = record.attempts
        raise
    finally:
        steps.close()


async def adrive(steps: Steps[AsyncChunks], record: CallRecord) -> Opened[AsyncChunks]:
    """Runs a plan on the event loop."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await _aattempt(step, record))
    except StopIteration as done:
        won: Opened[AsyncChunks] = done.value
        return won
    except LlamaClientError as error:
        error.attempts = record.attempts
        raise
    finally:
        steps.close()


def _attempt(step: Try, record: CallRecord) -> Won[Opened[SyncChunks]] | Lost:
    trial = record.begin(step.target, step.timeout_s)
    chunks = step.target.provider.chunks(trial.call)
    arrived: list[ChatCompletionChunk] = []
    try:
        for chunk in chunks:
            if _has_won(trial, chunk, arrived):
                return Won(Opened(trial, arrived, chunks))
        trial.require_complete()
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        chunks.close()
        return _lost(trial, record, error)
    except BaseException:
        chunks.close()
        record.cancelled(trial)
        raise
    return Won(Opened(trial, arrived, chunks))


async def _aattempt(step: Try, record: CallRecord) -> Won[Opened[AsyncChunks]] | Lost:
    trial = record.begin(step.target, step.timeout_s)
    chunks = step.target.provider.achunks(trial.call)
    arrived: list[ChatCompletionChunk] = []
    try:
        async for chunk in chunks:
            if _has_won(trial, chunk, arrived):
                return Won(Opened(trial, arrived, chunks))
        trial.require_complete()
    except Exception as error:  # noqa: BLE001 - a third-party provider may raise anything
        await chunks.aclose()
        return _lost(trial, record, error)
    except BaseException:
        await chunks.aclose()
        record.cancelled(trial)
        raise
    return Won(Opened(trial, arrived, chunks))


def _has_won(trial: Trial, chunk: ChatCompletionChunk, arrived: list[ChatCompletionChunk]) -> bool:
    trial.add(chunk)
    if not trial.call.request.stream:
        return False
    arrived.append(chunk)
    return trial.fold.has_content


def _lost(trial: Trial, record: CallRecord, error: Exception) -> Lost:
    """What a failed attempt tells the plan; what is no matter of a target is raised at once."""
    failure = error if isinstance(error, LlamaClientError) else wrapped(error)
    record.failed(trial, failure)
    if not isinstance(failure, ProviderError | LocalOnlyError):
        raise failure
    return Lost(failure)


def wrapped(error: Exception) -> ProviderError:
    """An exception that a provider should not have let out, as one of ours."""
    failure = ServerError(f"the provider broke: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
