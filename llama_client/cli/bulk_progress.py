"""How far a job is, on standard error: one line on a terminal, else a line now and then. And what Ctrl-C does."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from llama_client.bulk.progress_text import progress_line
from llama_client.cli.terminal import one_line, progress_bar, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from llama_client.bulk.receipt import BulkProgress

# In a log file, a line a minute is enough to see that a job lives.
_LINE_EVERY_S = 60.0
# While there is no connection, one more often: somebody may have to start a server.
_WAITING_EVERY_S = 30.0
_STOPPING = "stopping: calls in flight may end, at most 30 s (Ctrl-C again: at once)"


@contextmanager
def shown_job(folder: str) -> Iterator[Callable[[BulkProgress], None]]:
    """What is to be told of the progress of a job.

    Args:
        folder: The job's folder, which a message at Ctrl-C names.
    """
    with progress_bar() as bar:
        shown = _Shown(bar)
        handler = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: FrameType | None) -> None:
            shown.stops()
            if callable(handler):
                handler(number, frame)

        if callable(handler):
            signal.signal(signal.SIGINT, stop)
        try:
            yield shown.tell
        except KeyboardInterrupt:
            shown.clear()
            say(f"llama-client: stopped; {shown.done:,} rows are done, and kept in {one_line(folder)}")
            say("Try: the same command, which goes on from there")
            raise
        finally:
            if callable(handler):
                signal.signal(signal.SIGINT, handler)


class _Shown:
    """Told from the thread that records; `stops` runs in a signal handler, and writes nothing itself."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("reading the rows", total=None)
        # The first line comes when the job has run for a while.
        self._said_at = time.monotonic()
        self._said_waiting_at = -math.inf
        self._is_stopping = False
        self.done = 0

    def tell(self, progress: BulkProgress) -> None:
        self.done = progress.done
        text = progress_line(progress)
        if self._is_stopping:
            text = f"{_STOPPING}; {progress.in_flight:,} in flight"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, description=text, total=progress.total, completed=progress.done + progress.failed
            )
        elif self._is_due(is_waiting=progress.waits_for is not None):
            click.echo(text, err=True)

    def _is_due(self, *, is_waiting: bool) -> bool:
        """Whether a line is to be written."""
        now = time.monotonic()
        if is_waiting and now - self._said_waiting_at >= _WAITING_EVERY_S:
            self._said_at = self._said_waiting_at = now
            return True
        if is_waiting or now - self._said_at < _LINE_EVERY_S:
            return False
        self._said_at = now
        return True

    def stops(self) -> None:
        self._is_stopping = True
        if self._bar is not None and self._task is not None:
            # As `Progress.update` would, without its lock, which this thread may hold.
            self._bar.tasks[0].description = _STOPPING

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
