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

# A configuration has a handful; one of hundreds is asked by so many at once, who take the next one when they are done.
MAX_AT_ONCE = 128


def run_all(jobs: Mapping[str, Callable[[], R]], *, within_s: float) -> dict[str, R | Exception | None]:
    """What each job came to.

    Args:
        jobs: By name.
        within_s: How long all of them together may take.

    Returns:
        By name: its result, what it raised, or None where it was late.
    """
    waiting: SimpleQueue[tuple[str, Callable[[], R]]] = SimpleQueue()
    done: SimpleQueue[tuple[str, R | Exception]] = SimpleQueue()
    for name, job in jobs.items():
        waiting.put((name, job))
    until = monotonic() + within_s

    def work() -> None:
        while monotonic() < until:
            try:
                name, job = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((name, job()))
            except Exception as error:  # noqa: BLE001 - handed to who waits
                done.put((name, error))

    for number in range(min(len(jobs), MAX_AT_ONCE)):
        threading.Thread(target=work, name=f"llama-client-doctor-{number}", daemon=True).start()
    results: dict[str, R | Exception | None] = dict.fromkeys(jobs)
    for _ in jobs:
        try:
            name, result = done.get(timeout=max(until - monotonic(), 0.0))
        except Empty:
            break
        results[name] = result
    return results
