"""Reads the rows of a job in a thread of its own: an iterable of the user's may take long."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from llama_client.bulk.work import BATCH

if TYPE_CHECKING:
    from llama_client.bulk.pending import Done, PendingRow
    from llama_client.bulk.work import Work

    # Rows to be asked, rows that came done out of batches, whether no row follows.
    Found = tuple[list[PendingRow], list[Done], bool]


_STOPPING_S = 5.0


class Reader:
    """One read at a time, when it is wanted. Only `end` blocks.

    Attributes:
        is_soon: Whether rows are being read, and the last read had some.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        # Of each read, whether only batches are looked at; None: the end.
        self._wanted: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[Found | BaseException] = queue.SimpleQueue()
        self._is_reading = False
        self._had_some = True
        self._thread: threading.Thread | None = None

    @property
    def is_soon(self) -> bool:
        return self._is_reading and self._had_some

    def want(self, *, only_batches: bool = False) -> None:
        """Starts a read, unless one is on its way; perhaps of what comes of batches alone."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="llama-client-bulk-ray-reader", daemon=True)
            self._thread.start()
        if not self._is_reading:
            self._is_reading = True
            self._wanted.put(only_batches)

    def take(self) -> Found | None:
        """What has been read; None: nothing yet. What the read has raised is raised here."""
        try:
            found = self._found.get_nowait()
        except queue.Empty:
            return None
        self._is_reading = False
        if isinstance(found, BaseException):
            raise found
        self._had_some = bool(found[0] or found[1])
        return found

    def end(self) -> None:
        """Waits a while for the thread: an iterable that blocks for ever is left to it."""
        self._wanted.put(None)
        if self._thread is not None:
            self._thread.join(_STOPPING_S)

    def _read(self) -> None:
        while (only_batches := self._wanted.get()) is not None:
            try:
                self._found.put(self._work.read(BATCH, only_batches=only_batches))
            except BaseException as error:  # noqa: BLE001 - raised in the driver's thread
                self._found.put(error)
