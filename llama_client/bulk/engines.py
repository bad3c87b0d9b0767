"""Which driver makes the calls of a run: threads, tasks, or workers on Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from llama_client.bulk.interrupts import watched_interrupts
from llama_client.bulk.tasks import TaskRun
from llama_client.bulk.threads import ThreadedRun
from llama_client.bulk.work import BATCH

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.setup import JobSetup, Run


class Calls(Protocol):
    """For sync clients."""

    def results(self, earlier: Iterator[BulkResult]) -> Generator[BulkResult]:
        """Starts the run; yields earlier results, then new ones as they come. Ends it however the consumer leaves."""
        ...


class AsyncCalls(Protocol):
    """The same for async ones."""

    def results(self, earlier: Iterator[BulkResult]) -> AsyncGenerator[BulkResult]: ...


class ElsewhereCalls(Calls, Protocol):
    """Calls that other processes make: this one takes their results, in steps that block for a moment."""

    def start(self) -> None: ...

    def take(self) -> list[BulkResult] | None:
        """The results that have come, perhaps none; None: there will be no more."""
        ...

    def finish(self) -> None:
        """Begins nothing more, and waits for what is in flight to be recorded."""
        ...

    def close(self) -> None: ...

    def raise_error(self) -> None: ...


def calls_of(setup: JobSetup, run: Run, *, keeps_results: bool) -> Calls:
    if setup.options.engine == "ray":
        return _on_ray(setup, run, keeps_results=keeps_results)
    return ThreadedRun(run.work, run.asker.question, setup.context.clock, keeps_results=keeps_results)


def async_calls_of(setup: JobSetup, run: Run, *, keeps_results: bool) -> AsyncCalls:
    if setup.options.engine == "ray":
        return _Awaited(_on_ray(setup, run, keeps_results=keeps_results), run)
    return TaskRun(run.work, run.asker.answer, setup.context.clock, keeps_results=keeps_results)


def _on_ray(setup: JobSetup, run: Run, *, keeps_results: bool) -> ElsewhereCalls:
    # By its name, as it opens clients, and so stands above them.
    engine = import_module("llama_client.ray.engine")
    calls: ElsewhereCalls = engine.ClusterRun(setup, run, keeps_results=keeps_results)
    return calls


async def _open_until_cancelled(calls: ElsewhereCalls) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(calls.close)


class _Awaited:
    """Takes results in threads."""

    def __init__(self, calls: ElsewhereCalls, run: Run) -> None:
        self._calls = calls
        self._run = run

    async def results(self, earlier: Iterator[BulkResult]) -> AsyncGenerator[BulkResult]:
        calls = self._calls
        calls.start()
        # A loop that ends cancels its tasks, also where it no longer closes this generator.
        open_ = asyncio.create_task(_open_until_cancelled(calls))
        with watched_interrupts() as interrupts:
            try:
                while some := await asyncio.to_thread(list, islice(earlier, BATCH)):
                    for result in some:
                        yield result
                while (found := await asyncio.to_thread(calls.take)) is not None:
                    for result in found:
                        yield result
            except asyncio.CancelledError:
                if interrupts.count == 1 and self._run.work.journal.is_lasting:
                    # Ctrl-C; a second one ends the loop.
                    await asyncio.to_thread(calls.finish)
                raise
            finally:
                open_.cancel()
                await asyncio.wait([open_])
        calls.raise_error()
