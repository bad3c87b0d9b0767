"""A server on loopback that answers with exactly the given bytes, and ends connections in exactly the given way.

It knows HTTP only as far as it takes to find where a request ends. An `Answer` is raw bytes and what becomes of the
connection after them; the functions below make the answers of good and of misbehaving servers.
"""

from __future__ import annotations

import gzip
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

_T = TypeVar("_T")
# How a connection goes on after an answer: it serves the next request, ends with FIN, ends with RST, or stays silent.
Then = Literal["keep", "close", "reset", "stall"]
# How a body in chunks ends. `eof` is `clean` on the wire: the body is whole, and the message in it is not.
End = Literal["clean", "eof", "cut", "reset", "stall"]

# Systems other than Linux throw away what was received and not yet read when RST arrives: the client gets time to read.
_BEFORE_RESET_S = 0.0 if sys.platform == "linux" else 0.05
# What an endless answer stops at, so that a client without bounds fails the test and not the machine.
_ENDLESS_BYTES = 320 << 20
# Closing throws away what is unsent and tells the peer by RST.
_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_POLL_S = 0.02
# A busy machine may take long.
_PATIENCE_S = 60.0
_MAX_HEAD_BYTES = 1 << 20
_MAX_BODY_BYTES = 256 << 20
# A server that runs for days keeps the last so many requests.
_MOST_KEPT = 10_000
# What sends a little now and then, or nothing, ends after ten minutes.
_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came.

    Attributes:
        method: Such as `POST`.
        path: With its query.
        headers: By lower-case name.
        body: Empty where there is none.
        provider: The configured name of the provider that was asked; None: a socket does not tell.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    provider: str | None = None

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes for the wire, and what happens to the connection after them.

    Attributes:
        pieces: Each is sent by itself; a number is a pause in seconds.
        then: What becomes of the connection.
    """

    pieces: Iterable[bytes | float] = ()
    then: Then = "keep"

    @property
    def content(self) -> bytes:
        """All of its bytes."""
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


def paced(answer: Answer, delay_s: float, *, first_s: float = 0.0) -> Answer:
    """The same answer with a pause between its pieces, and maybe another one before the first."""
    return Answer(_Paced(answer.pieces, delay_s, first_s), answer.then)


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A status line and headers, with the empty line after them."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 498, say, which is Groq's own
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_length: int | None = None,
    then: Then = "keep",
) -> Answer:
    """An answer in one piece; a `content_length` other than the body's is a lie."""
    length = len(body) if content_length is None else content_length
    return Answer([head(status, {**(headers or {}), "content-length": str(length)}) + body], then)


def as_json(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON document."""
    body = json.dumps(value).encode()
    return whole(body, status=status, headers={"content-type": "application/json", **(headers or {})})


def streamed(
    pieces: Iterable[bytes],
    end: End = "clean",
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    delay_s: float = 0.0,
) -> Answer:
    """A body in chunks, one for each piece."""
    start = head(status, {"content-type": "text/event-stream", **(headers or {}), "transfer-encoding": "chunked"})
    frames = [_chunk(piece) for piece in pieces if piece]
    match end:
        case "clean" | "eof":
            answer = Answer([start, *frames, b"0\r\n\r\n"])
        case "cut":
            answer = Answer([start, *frames], "close")
        case _:
            answer = Answer([start, *frames], end)
    return paced(answer, delay_s) if delay_s else answer


def endless(
    piece: bytes,
    *,
    first: Sequence[bytes] = (),
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    delay_s: float = 0.0,
) -> Answer:
    """A body in chunks that goes on until the client closes, until `overran`, or for ten minutes of its pauses."""
    start = streamed(first, "stall", status=status, headers=headers)
    answer = Answer(_Endless([*start.pieces], _chunk(piece), delay_s), "stall")
    return paced(answer, delay_s) if delay_s else answer


def endless_head() -> Answer:
    """Headers that never end."""
    return Answer(_Endless([b"HTTP/1.1 200 OK\r\n"], b"x-more: " + b"x" * 4000 + b"\r\n"), "stall")


def silence() -> Answer:
    """No answer, on a connection that stays open."""
    return Answer((), "stall")


def hangup(then: Literal["close", "reset"] = "close") -> Answer:
    """No answer, on a connection that ends once the request was read."""
    return Answer((), then)


def garbage() -> Answer:
    """What is no HTTP at all."""
    return Answer([b"\x00\x01\x02 I am no web server \xff\xfe\r\n\r\n"], "close")


def gzipped(body: bytes, *, headers: Mapping[str, str] | None = None) -> Answer:
    """A body that is compressed, whether or not it was asked for so."""
    return whole(gzip.compress(body), headers={**(headers or {}), "content-encoding": "gzip"})


def redirect(location: str, *, status: int = 307) -> Answer:
    """The way to somewhere else."""
    return whole(b"", status=status, headers={"location": location})


def byte_by_byte(answer: Answer) -> Answer:
    """The same bytes, each sent by itself."""
    return Answer(cut(answer.content, 1), answer.then)


def read_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The method, path and headers of a request, whose names are in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    return method, path, {n.strip().lower(): value.strip() for n, _, value in (line.partition(":") for line in lines)}


def cut(data: bytes, size: int) -> list[bytes]:
    """Pieces of that size, the last one maybe shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class _Endless:
    """More than any client should take, which can be begun again."""

    def __init__(self, first: Sequence[bytes | float], repeated: bytes, delay_s: float = 0.0) -> None:
        self._first = first
        self._repeated = repeated
        # One more than the server sends, so that it knows that the client took all.
        self._times = _ENDLESS_BYTES // len(repeated) + 2
        if delay_s:
            self._times = min(self._times, int(_LONGEST_S / delay_s))

    def __iter__(self) -> Iterator[bytes | float]:
        yield from self._first
        for _ in range(self._times):
            yield self._repeated


class _Paced:
    """As endless as what it paces, and can be begun again."""

    def __init__(self, pieces: Iterable[bytes | float], delay_s: float, first_s: float) -> None:
        self._pieces = pieces
        self._delay_s = delay_s
        self._first_s = first_s

    def __iter__(self) -> Iterator[bytes | float]:
        pause_s = self._first_s
        for piece in self._pieces:
            if pause_s:
                yield pause_s
            yield piece
            pause_s = self._delay_s


class _Kept(list[_T]):
    """The last things that were appended."""

    def append(self, item: _T) -> None:
        if len(self) >= _MOST_KEPT:
            del self[0]
        super().append(item)


class WireServer:
    """Gives each request the next answer of a queue, or what a function makes of the request.

    Args:
        answers: What answers a request; None: the queue that `answer` fills.
        tls: Serve TLS with this context.
        drops: Close each connection as soon as it is accepted, unread.
        port: Where to listen; 0: at a free port.

    Attributes:
        url: Where it listens.
        requests: What came in, in order: the last 10,000.
        malformed: What came in and is no HTTP.
        closed_early: Set once a client has closed a connection while its answer was under way.
        early_closes: How often that happened.
        overran: Set where a client took all of an endless answer that this server was willing to send.
    """

    def __init__(
        self,
        answers: Callable[[Received], Answer] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        drops: bool = False,
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = _Kept()
        self.malformed: list[bytes] = _Kept()
        self.closed_early = threading.Event()
        self.early_closes = 0
        self.accepted = 0
        self.overran = threading.Event()
        self._answers = answers
        self._queue: deque[Answer] = deque()
        self._tls = tls
        self._drops = drops
        self._closing = threading.Event()
        self._lock = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
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
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE_S).close()
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

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
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
                self._threads = [running for running in self._threads if running.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # the client went away, or wanted no TLS, or the server is closing
                if self._tls is not None:
                    connection = self._shake_hands(connection, self._tls)
                self._converse(connection)
        finally:
            # Closed before it is forgotten: who sees no open connections sees none.
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
        buffer = b""
        while True:
            received, buffer = self._read(connection, buffer)
            if received is None:
                return
            self.requests.append(received)
            answer = self._answer_to(received)
            if not self._send(connection, answer) or not self._end(connection, answer.then):
                return

    def _read(self, connection: socket.socket, buffer: bytes) -> tuple[Received | None, bytes]:
        """The next request and what came after it; None where there is none."""
        while b"\r\n\r\n" not in buffer:
            data = connection.recv(1 << 16)
            buffer += data
            # A request of HTTP begins with a word in capitals; a TLS handshake, say, does not.
            if buffer and (not buffer[:1].isupper() or len(buffer) > _MAX_HEAD_BYTES or (not data and buffer)):
                return self._refuse(connection, buffer)
            if not data:
                return None, b""
        start, _, buffer = buffer.partition(b"\r\n\r\n")
        try:
            method, path, headers = read_head(start)
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body, buffer = self._read_chunks(connection, buffer)
            else:
                body, buffer = self._read_exactly(connection, buffer, int(headers.get("content-length", "0")))
        except ValueError:
            return self._refuse(connection, start)
        return Received(method, path, headers, body), buffer

    def _refuse(self, connection: socket.socket, unread: bytes) -> tuple[None, bytes]:
        self.malformed.append(unread[:_MAX_HEAD_BYTES])
        connection.sendall(head(400, {"connection": "close", "content-length": "0"}))
        return None, b""

    def _read_exactly(self, connection: socket.socket, buffer: bytes, length: int) -> tuple[bytes, bytes]:
        if not 0 <= length <= _MAX_BODY_BYTES:
            raise ValueError("a body of a length that is not read")
        while len(buffer) < length:
            buffer += self._more(connection)
        return buffer[:length], buffer[length:]

    def _read_chunks(self, connection: socket.socket, buffer: bytes) -> tuple[bytes, bytes]:
        body = b""
        while True:
            while b"\r\n" not in buffer:
                buffer += self._more(connection)
            size, _, buffer = buffer.partition(b"\r\n")
            piece, buffer = self._read_exactly(connection, buffer, int(size, 16) + 2)
            if int(size, 16) == 0:
                return body, buffer
            body += piece[:-2]
            if len(body) > _MAX_BODY_BYTES:
                raise ValueError("a body that is not read further")

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionError("the client closed within a request")
        return data

    def _answer_to(self, received: Received) -> Answer:
        if self._answers is not None:
            return self._answers(received)
        if self._queue:
            return self._queue.popleft()
        return as_json({"error": f"the test has no answer to {received.method} {received.path}"}, status=500)

    def _send(self, connection: socket.socket, answer: Answer) -> bool:
        """Sends all pieces; False where the client went away meanwhile."""
        sent = 0
        for piece in answer.pieces:
            if not isinstance(piece, bytes):
                if self._is_gone(connection, piece):
                    return self._went_early()
                continue
            if sent > _ENDLESS_BYTES:
                self.overran.set()
                return True
            try:
                connection.sendall(piece)
            except OSError:
                return self._went_early()
            sent += len(piece)
        return True

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
                until = time.monotonic() + _LONGEST_S
                while not self._closing.is_set() and time.monotonic() < until:
                    if self._is_gone(connection, _POLL_S):
                        return self._went_early()
        return False

    def _is_gone(self, connection: socket.socket, within_s: float) -> bool:
        """Waits that long; tells whether the client closed meanwhile. Through TLS only a failed send tells."""
        if isinstance(connection, ssl.SSLSocket):
            self._closing.wait(within_s)
            return False
        if not select.select([connection], [], [], within_s)[0]:
            return False
        try:
            if not connection.recv(1, socket.MSG_PEEK):
                return True
        except OSError:
            return True
        self._closing.wait(within_s)  # it sent more, which nobody asked for
        return False

    def _went_early(self) -> bool:
        if not self._closing.is_set():
            self.early_closes += 1
            self.closed_early.set()
        return False


@contextmanager
def closed_port() -> Iterator[str]:
    """The address of a port that nothing listens at, and that no other program can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
