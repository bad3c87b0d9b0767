"""Runs what may hang, side by side, and waits no longer than it was told.

What is late is left behind in a thread that keeps nothing alive: a server that never answers, or a command that never
ends, hangs neither the doctor nor the end of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TypeVar

R = TypeVar("R")

# As many at once: a configuration has a handful, and one of hundreds is asked in turns.
MAX_AT_ONCE = 16


def run_all(jobs: Mapping[str, Callable[[], R]], *, within_s: float) -> dict[str, R | Exception | None]:
    """What each job came to.

    Args:
        jobs: By name.
        within_s: How long each may take.

    Returns:
        By name: its result, what it raised, or None where it was late.
    """
    names = list(jobs)
    results: dict[str, R | Exception | None] = {}
    for start in range(0, len(names), MAX_AT_ONCE):
        results |= _run({name: jobs[name] for name in names[start : start + MAX_AT_ONCE]}, within_s)
    return results


def _run(jobs: Mapping[str, Callable[[], R]], within_s: float) -> dict[str, R | Exception | None]:
    done: SimpleQueue[tuple[str, R | Exception]] = SimpleQueue()

    def run(name: str, job: Callable[[], R]) -> None:
        try:
            done.put((name, job()))
        except Exception as error:  # noqa: BLE001 - handed to who waits
            done.put((name, error))

    for name, job in jobs.items():
        threading.Thread(target=run, args=(name, job), name=f"llama-client-doctor-{name}", daemon=True).start()
    results: dict[str, R | Exception | None] = dict.fromkeys(jobs)
    until = monotonic() + within_s
    for _ in jobs:
        try:
            name, result = done.get(timeout=max(until - monotonic(), 0.0))
        except Empty:
            break
        results[name] = result
    return results
