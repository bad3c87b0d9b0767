"""Commits that the database carries out, and whose answer never arrives."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from sqlalchemy.engine.default import DefaultDialect

# What PostgreSQL answers a commit with: the tag of the command.
_COMMITTED = b"COMMIT\0"


class CommitCutter:
    """Stands between a client and PostgreSQL, and cuts the connection between a commit and its answer.

    Attributes:
        url: The address of the same database, through this.
        cuts: How many commits were answered by a cut connection.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._spared = self._left = 0
        self._lock = threading.Lock()
        self.cuts = 0
        self.url = url.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, commits: int = 1, *, after: int = 0) -> None:
        """The answers to so many commits are lost, from now on or after so many that are answered."""
        self._spared, self._left = after, commits

    def close(self) -> None:
        # Closing alone does not wake the thread that waits there.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        is_mute = threading.Event()
        with client, socket.create_connection(self._server) as server:
            back = threading.Thread(target=self._to_client, args=(client, server, is_mute), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    with self._lock:
                        if b"COMMIT" in data and self._left:
                            if self._spared:
                                self._spared -= 1
                            else:
                                self._left -= 1
                                is_mute.set()
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _to_client(self, client: socket.socket, server: socket.socket, is_mute: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not is_mute.is_set():
                    client.sendall(data)
                elif _COMMITTED in data:
                    self.cuts += 1
                    break
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting(url: str) -> Iterator[CommitCutter]:
    cutter = CommitCutter(url)
    try:
        yield cutter
    finally:
        cutter.close()


def lose_answers(monkeypatch: pytest.MonkeyPatch, lost: Sequence[bool]) -> list[bool]:
    """Of the next commits those that are True are carried out, and fail all the same. Returns what is still to come."""
    commit, coming, lock = DefaultDialect.do_commit, list(lost), threading.Lock()

    def do_commit(dialect: DefaultDialect, connection: sqlite3.Connection) -> None:
        had_changes = connection.in_transaction
        commit(dialect, connection)  # type: ignore[no-untyped-call]
        with lock:
            is_lost = had_changes and bool(coming) and coming.pop(0)
        if is_lost:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(DefaultDialect, "do_commit", do_commit)
    return coming
