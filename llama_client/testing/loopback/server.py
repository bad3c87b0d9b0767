"""A server on loopback that answers with exactly the given bytes, and ends connections in exactly the given way."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from llama_client.errors import ProviderError
from llama_client.providers.http.http1 import ReadTimeoutError, WireError
from llama_client.testing.loopback.answers import (
    ENDLESS_BYTES,
    LONGEST_S,
    Answer,
    Then,
    as_json,
    head,
    head_of,
    refusal,
    silence,
)
from llama_client.testing.loopback.kept import Kept
from llama_client.testing.loopback.requests import MAX_HEAD_BYTES, MalformedRequestError, Received, RequestReader

# Systems other than Linux throw away what was received and not yet read when RST arrives: the client gets time to read.
_BEFORE_RESET_S = 0.0 if sys.platform == "linux" else 0.05
# Closing throws away what is unsent and tells the peer by RST.
_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_POLL_S = 0.02
# A busy machine may take long.
_PATIENCE_S = 60.0
# The system takes as many of these as it allows.
_BACKLOG = 4096
# Unlike select(), poll() takes descriptors of any number; Windows has only select(), whose limit is another one.
_Selector: Callable[[], selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class WireServer:
    """Gives each request the next answer of a queue, or what a function makes of the request.

    Args:
        answers: What answers a request; None: the queue that `answer` fills.
        tls: Serve TLS with this context.
        drops: Close each connection as soon as it is accepted, unread.
        port: Where to listen; 0: at a free port.
        provider: The configured name of the provider that it stands for, as `FakeProvider.on` takes it; None: none.

    Attributes:
        url: Where it listens.
        requests: What came in, in order: the last 10,000.
        malformed: What came in and is no HTTP.
        closed_early: Set once a client has closed a connection while its answer was under way.
        early_closes: How often that happened.
        overran: Set where a client took all of an endless answer that this server was willing to send.
        failures: What the function raised, or an answer's pieces: the last 10,000. The request gets a status of 500
            with its text, and the end of the server's `with` block raises the first one.
    """

    def __init__(
        self,
        answers: Callable[[Received], Answer] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        drops: bool = False,
        port: int = 0,
        provider: str | None = None,
    ) -> None:
        self.requests: list[Received] = Kept()
        self.malformed: list[bytes] = Kept()
        self.closed_early = threading.Event()
        self.early_closes = 0
        self.accepted = 0
        self.overran = threading.Event()
        self.failures: list[Exception] = Kept()
        self._answers = answers
        self._provider = provider
        self._queue: deque[Answer] = deque()
        self._tls = tls
        self._drops = drops
        self._closing = threading.Event()
        self._lock = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, name="loopback-accept", daemon=True)
        self._accepting.start()

    def answer(self, *answers: Answer) -> None:
        """Puts answers at the end of the queue."""
        self._queue.extend(answers)

    def always(self, answer: Answer) -> None:
        """Gives this answer from now on, however often it is asked."""
        self._answers = lambda _: answer

    @property
    def open_connections(self) -> int:
        """The connections that neither side has closed."""
        with self._lock:
            return len(self._open)

    def wait_until_idle(self, within_s: float = _PATIENCE_S) -> bool:
        """Waits until every connection is closed; tells whether that came to pass."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, within_s)

    def hang_up(self) -> None:
        """Closes every connection, and goes on accepting new ones."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        assert self.wait_until_idle()

    def close(self) -> None:
        """Closes every connection and waits for every thread."""
        self._closing.set()
        # Closing a listening socket does not wake the thread that accepts on it; a connection does, everywhere.
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_S).close()
        except OSError:  # no descriptor is left, say
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_PATIENCE_S)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._accepting, *self._threads]:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self.failures:
            raise self.failures[0]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # no descriptor is left, for now, or the client has gone
                if self._closing.wait(_POLL_S):
                    return
                continue
            if self._closing.is_set():
                connection.close()
                return
            self.accepted += 1
            if self._drops:
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="loopback", daemon=True)
            with self._lock:
                self._open.add(connection)
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left
                self._forget(connection)
                continue
            with self._lock:
                self._threads = [running for running in self._threads if running.is_alive()] + [thread]

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError):  # the client went away, or wanted no TLS, or the server is closing
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    connection = self._shake_hands(connection, self._tls)
                self._converse(connection)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        # Closed before it is forgotten, so that no open connections means none.
        connection.close()
        with self._lock:
            self._open.discard(connection)
            self._lock.notify_all()

    def _shake_hands(self, connection: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        connection.settimeout(_PATIENCE_S)
        try:
            secured = tls.wrap_socket(connection, server_side=True)
        finally:
            with self._lock:
                self._open.discard(connection)
        secured.settimeout(None)
        with self._lock:
            self._open.add(secured)
        return secured

    def _converse(self, connection: socket.socket) -> None:
        reader = RequestReader(connection)
        while True:
            try:
                received = reader.next()
            except MalformedRequestError as error:
                self.malformed.append(error.start[:MAX_HEAD_BYTES])
                connection.sendall(head(400, {"connection": "close", "content-length": "0"}))
                return
            if received is None:
                return
            self.requests.append(received)
            answer = self._answer_to(received)
            then: Then = "close" if reader.is_last and answer.then == "keep" else answer.then
            if not self._send(connection, answer, has_body=received.method != "HEAD") or not self._end(
                connection, then
            ):
                return

    def _answer_to(self, received: Received) -> Answer:
        if self._answers is not None:
            try:
                return self._answers(received if self._provider is None else replace(received, provider=self._provider))
            except ProviderError as error:
                # Of a script, which remembers it.
                return refusal(error)
            except ReadTimeoutError:
                return silence()
            except WireError:
                # As near to a server that is not there as one that was reached can be.
                return Answer((), "reset")
            except Exception as error:  # noqa: BLE001 - a test's own; it is raised where the test ends
                self.failures.append(error)
                return as_json({"error": {"message": f"{type(error).__name__}: {error}"}}, status=500)
        if self._queue:
            return self._queue.popleft()
        return as_json({"error": f"the test has no answer to {received.method} {received.path}"}, status=500)

    def _send(self, connection: socket.socket, answer: Answer, *, has_body: bool = True) -> bool:
        """Sends all pieces; False where the client went away meanwhile, or where they fail."""
        sent = 0
        pieces = iter(answer.pieces if has_body else head_of(answer))
        while (piece := self._piece(pieces)) is not None:
            if isinstance(piece, Exception):
                return False
            if not isinstance(piece, bytes):
                if self._is_gone(connection, piece):
                    return self._went_early()
                continue
            if sent > ENDLESS_BYTES:
                self.overran.set()
                return True
            try:
                connection.sendall(piece)
            except OSError:
                return self._went_early()
            sent += len(piece)
        return True

    def _piece(self, pieces: Iterator[bytes | float]) -> bytes | float | Exception | None:
        """The next one; None: there is none."""
        try:
            return next(pieces, None)
        except Exception as error:  # noqa: BLE001 - a test's own
            self.failures.append(error)
            return error

    def _end(self, connection: socket.socket, then: Then) -> bool:
        """Does with the connection what comes after an answer; tells whether it serves on."""
        match then:
            case "keep":
                return True
            case "close":
                # What TLS calls a truncation is what is meant here, so nothing is said goodbye to.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            case "reset":
                time.sleep(_BEFORE_RESET_S)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            case "stall":
                until = time.monotonic() + LONGEST_S
                while not self._closing.is_set() and time.monotonic() < until:
                    if self._is_gone(connection, _POLL_S):
                        return self._went_early()
        return False

    def _is_gone(self, connection: socket.socket, within_s: float) -> bool:
        """Waits that long; tells whether the client closed meanwhile. Through TLS only a failed send tells."""
        if isinstance(connection, ssl.SSLSocket):
            self._closing.wait(within_s)
            return False
        with _Selector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            if not selector.select(within_s):
                return False
        try:
            if not connection.recv(1, socket.MSG_PEEK):
                return True
        except OSError:
            return True
        self._closing.wait(within_s)  # it sent more, unasked
        return False

    def _went_early(self) -> bool:
        if not self._closing.is_set():
            self.early_closes += 1
            self.closed_early.set()
        return False
