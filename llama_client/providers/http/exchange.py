"""Sends an encoded request and feeds the answer to its codec, sync and async."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import copy_context
from functools import partial
from itertools import chain
from typing import ClassVar, Protocol, TypeVar

from pydantic_core import from_json, to_json

from llama_client.clock import Clock, Deadline
from llama_client.errors import (
    APIConnectionError,
    InvalidResponseError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
)
from llama_client.providers.base import Codec, HttpAnswer, ProviderCall, StreamDecoder
from llama_client.providers.http.error_mapping import failure_of, is_transport_error, was_unsent
from llama_client.providers.http.http1 import ConnectionLostError, MalformedAnswerError
from llama_client.providers.http.waits import AsyncWaits, Waits
from llama_client.providers.wire.decoders import MAX_ANSWER_BYTES
from llama_client.providers.wire.json_steps import MAX_QUICK_OBJECTS, MIN_COUNTED_BYTES, is_long
from llama_client.providers.wire.rate_limits import rate_limit
from llama_client.redaction import CUT_MARK
from llama_client.types.completion import ChatCompletionChunk
from llama_client.waiting import Event, await_event

# An error's body is a page, or what the model wrote in vain; the rest is left unread.
MAX_ERROR_BYTES = 1 << 20
# So much of a body of many values is shown with an error.
_SHOWN_BYTES = 64 << 10
# Events of a stream have a few objects each, and end with a line.
_OBJECTS_PER_LINE = 6
_LONG_EVENT_BYTES = 256 << 10
# After so much of what has arrived already an event loop turns to others: of a stream, and of a whole body.
_TURN_BYTES = 64 << 10
_READ_TURN_BYTES = 1 << 20
# A silent server gets its liveness check when a stream's first content is due, for a whole answer after this time, and
# in any case before the attempt's timeout has passed, since its result decides how the attempt ends: it gets the last
# tenth, at least half a second, at most half of the timeout. A stream that stays silent gets another check each time.
_LIVENESS_CHECK_AFTER_S = 30.0
# A server that computes on all cores, or reads a long prompt into tokens, takes a while for any other request.
_LIVENESS_TIMEOUT_S = 5.0
_LAST_CHECK_S = 0.5
# Limits that differ by less are the same.
_SAME_S = 0.05
# After the end of a stream its connection is read on for this long, so that it can be reused.
_ENDING_S = 0.2
# Of an attempt whose connection was found closed.
CLOSED_WHILE_IDLE = "the server had closed the idle connection; the request went over a new one"
MADE_AGAIN = "a connection that was used before ended without an answer; the attempt is made again over a new one"
# After the last finish reason only the usage can follow, and servers send it at once.
_AFTER_FINISH_S = 5.0
_EVENTS = "text/event-stream"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_JSON_STARTS = (b"{", b"[")
# How a stream of events begins: with a field or a comment. The longest name of a field is `event`.
_EVENT_START = re.compile(rb"(?:data|event|id|retry|error)?:")
_FIELD_BYTES = 6
# Before a body, which some servers send to keep a connection open.
_MAX_BLANK_BYTES = 1 << 16
T = TypeVar("T")
# Whether a silent server still answers within so many seconds; on an event loop, to be awaited.
IsAlive = Callable[[float], bool | Awaitable[bool]]
# The last one present counts.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "request-id", "x-request-id")


class _Head(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""


class Answer(_Head, Protocol):
    """The head of an answer, and its body as it comes."""

    @property
    def follows_waits(self) -> bool:
        """Whether each wait for the body is as long as `Waits` says then."""

    def pieces(self) -> Iterator[bytes]:
        """The body's bytes, without the encoding for the transfer."""

    def close(self) -> None:
        """Ends it; where the body was read to its end, the connection may serve another request."""


class AsyncAnswer(_Head, Protocol):
    """The same on an event loop."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body's bytes, without the encoding for the transfer."""

    async def aclose(self) -> None:
        """Ends it."""


class Endpoint(Protocol):
    """One address, and a way to send requests there."""

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits) -> Answer:
        """Sends a request for a path below the address, and waits for the head of its answer."""


class AsyncEndpoint(Protocol):
    """The same on an event loop."""

    async def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
    ) -> AsyncAnswer:
        """Sends a request for a path below the address, and waits for the head of its answer."""


class Exchange:
    """The state of one request and its answer, and how long it may wait, for sync and async."""

    def __init__(
        self,
        call: ProviderCall,
        codec: Codec,
        clock: Clock,
        silence_s: float,
        is_alive: IsAlive | None,
        *,
        is_patient: bool = False,
    ) -> None:
        """`is_patient`: signs of life before the first content of a stream extend the time that it has."""
        self.call = call
        self.clock = clock
        self.silence_s = silence_s
        self._started_at = now = clock.monotonic()
        self.deadline = Deadline(call.timeout_s, clock, call.whole_timeout_s)
        self._end_at = self.deadline.at
        if call.first_content_s is not None:
            self._limit(now + call.first_content_s)
        self._is_patient = is_patient and call.request.stream
        self._is_alive = is_alive
        # When a silent server gets its liveness check; None: never, or it is done.
        self._check_at: float | None = None
        if is_alive is not None:
            first_s = min(call.first_content_s or _LIVENESS_CHECK_AFTER_S, _LIVENESS_CHECK_AFTER_S)
            timeout_s = call.timeout_s
            if timeout_s is not None:
                first_s = min(first_s, timeout_s - min(max(timeout_s / 10, _LAST_CHECK_S), timeout_s / 2))
            self._check_at = now + first_s
        # Set where the connection was found closed: the request goes over a new one.
        self.needs_new_connection = call.needs_new_connection
        self._codec = codec
        # The decoder of an answer that is a stream; None: the answer is whole.
        self.stream: StreamDecoder | None = None
        # Not the answer itself, which holds this exchange.
        self._headers: Mapping[str, str] | None = None
        self._received_at = 0.0
        self._has_content = False
        # Of an answer, known with its head; whether it is a stream, its first bytes say where the head does not.
        self.is_error = False
        self.is_undecided = False
        self.max_bytes = MAX_ANSWER_BYTES
        self.encoded = codec.encode(call)

    @property
    def is_patient(self) -> bool:
        return self._check_at is not None

    def wait_s(self) -> float:
        wait_s = self.longest_s()
        if self._check_at is not None:
            # Not 0, which would mean not to wait at all.
            wait_s = min(wait_s, max(self._check_at - self.clock.monotonic(), _SAME_S))
        return wait_s

    def require_running(self) -> None:
        if self.call.facts.is_stopped:
            raise _stopped()

    def sending(self) -> None:
        self.call.facts.sent = True

    def sends_again(self, error: ConnectionLostError) -> bool:
        facts = self.call.facts
        if not error.is_unanswered or self.needs_new_connection or facts.is_stopped:
            return False
        if not error.is_unsent:
            # It may have been received, so the next one is an attempt of its own, with a row and a cost.
            facts.is_unanswered, facts.reason = True, MADE_AGAIN
            return False
        facts.sent, facts.reason, self.needs_new_connection = False, CLOSED_WHILE_IDLE, True
        return True

    def longest_s(self) -> float:
        self.require_running()
        wait_s, at = self.silence_s, self.deadline.at
        if self._check_at is not None:
            # The check decides.
            at = self._end_at
        if at is not None:
            wait_s = min(wait_s, at - self.clock.monotonic())
            if wait_s <= 0:
                if self._check_at is not None:
                    self._limit(None)
                raise self.deadline.passed()
        return wait_s

    def stop_by(self, wake: Callable[[], None]) -> None:
        self.call.facts.stop = wake
        if self.call.facts.is_stopped:
            wake()

    def keeps_waiting(self) -> bool:
        if self._is_alive is None or not self._is_check_due:
            return False
        is_alive = self._is_alive(self._liveness_timeout_s)
        assert isinstance(is_alive, bool)
        return self._goes_on(is_alive=is_alive)

    async def akeeps_waiting(self) -> bool:
        if self._is_alive is None or not self._is_check_due:
            return False
        is_alive = self._is_alive(self._liveness_timeout_s)
        assert not isinstance(is_alive, bool)
        return self._goes_on(is_alive=await is_alive)

    @property
    def _is_check_due(self) -> bool:
        return self._check_at is not None and self._check_at - self.clock.monotonic() <= _SAME_S

    @property
    def _liveness_timeout_s(self) -> float:
        if self._end_at is None:
            return _LIVENESS_TIMEOUT_S
        return max(min(_LIVENESS_TIMEOUT_S, self._end_at - self.clock.monotonic()), _SAME_S)

    def _goes_on(self, *, is_alive: bool) -> bool:
        """Takes the result of the liveness check."""
        self._check_at = None
        self.call.facts.is_loading = is_alive
        if is_alive and self.call.request.stream:
            self._extend(_LIVENESS_CHECK_AFTER_S)
        left = self.deadline.left_s()
        return left is None or left > 0

    def _shows_life(self) -> None:
        """Something of a stream has come that is no content: the server is at work."""
        if self._is_patient:
            self.call.facts.is_loading = True
            self._extend(self.call.stall_s)

    def _extend(self, silence_s: float | None) -> None:
        """From now on the server may be silent for so long; None: no limit."""
        before, self._check_at = self.deadline.at, None
        if before is not None:
            until = None if silence_s is None else max(before, self.clock.monotonic() + silence_s)
            self._limit(until)
            if self._is_alive is not None and self.deadline.at != self._end_at:
                self._check_at = self.deadline.at

    def _limit(self, until: float | None) -> None:
        """Sets the deadline: this time, or the end of the attempt where that is earlier."""
        deadline, call = self.deadline, self.call
        if until is None or (self._end_at is not None and self._end_at <= until):
            deadline.at, deadline.timeout_s, deadline.whole_s = self._end_at, call.timeout_s, call.whole_timeout_s
        else:
            deadline.at, deadline.timeout_s, deadline.whole_s = until, until - self._started_at, None

    def receive_head(self, answer: _Head) -> None:
        if answer.status < 200:
            # HTTPX takes these for answers on event loops.
            raise MalformedAnswerError("the server sent malformed HTTP")
        facts, headers = self.call.facts, answer.headers
        facts.sent = True
        facts.http_status = answer.status
        for name in _REQUEST_ID_HEADERS:
            facts.provider_request_id = headers.get(name, facts.provider_request_id)
        facts.rate_limit = rate_limit(headers)
        self._headers, self._received_at = headers, self.clock.wall()
        if not 200 <= answer.status < 300:
            self.is_error, self.max_bytes = True, MAX_ERROR_BYTES
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if self.is_error or not self.call.request.stream:
            facts.is_loading, self._check_at = False, None
            # Some servers always stream.
            self.is_undecided = content_type == _EVENTS and not self.is_error
            return
        self._shows_life()
        # A server that cannot stream sends a whole answer.
        self.is_undecided = content_type == "application/json"
        if not self.is_undecided:
            self._begin_stream()

    def _begin_stream(self) -> None:
        self.stream = self._codec.stream(self._answer(b""), self.call)

    def decide(self, begin: bytes) -> bool:
        """Whether these first bytes say that the answer is whole or a stream."""
        first = begin.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if len(first) < _FIELD_BYTES and first[:1] not in _JSON_STARTS and len(begin) < _MAX_BLANK_BYTES:
            return False
        self.is_undecided = False
        if _EVENT_START.match(first) is not None:
            self._begin_stream()
        return True

    def takes_long(self, body: bytes | bytearray) -> bool:
        """Whether an event loop should not wait for the decoding of a whole body."""
        return len(body) > MIN_COUNTED_BYTES and (is_long(body) or self._is_cut(body))

    def _is_cut(self, body: bytes | bytearray) -> bool:
        return self.is_error and len(body) == self.max_bytes

    def decode(self, body: bytes | bytearray) -> Sequence[ChatCompletionChunk]:
        """A whole body as one chunk, or those of a stream that has come as a whole body."""
        body = bytes(body)
        try:
            if not self.is_error:
                if body[:1] == _BYTE_ORDER_MARK[:1]:
                    body = body.removeprefix(_BYTE_ORDER_MARK)
                if body[:1] != b"{" and _EVENT_START.match(body.lstrip()) is not None:
                    stream = self._codec.stream(self._answer(b""), self.call)
                    return [*stream.feed(body), *stream.end()]
                return (self._codec.decode(self._answer(body), self.call),)
            whole = _completed(body) if self._is_cut(body) else body
            outcome = self._codec.failure(self._answer(whole), self.call)
            if not isinstance(outcome, ProviderError):
                return (outcome,)
            try:
                raise outcome
            finally:
                # A circle otherwise: the error refers to this frame by its traceback.
                del outcome
        except ProviderError as error:
            if self.takes_long(body) and not isinstance(error.body, str):
                error.body = f"{body[:_SHOWN_BYTES].decode('utf-8', 'replace')}{CUT_MARK}"
            raise

    def _answer(self, body: bytes) -> HttpAnswer:
        headers, status = self._headers, self.call.facts.http_status
        assert headers is not None
        assert status is not None
        return HttpAnswer(status, headers, body, self._received_at)

    def passed_on(self, chunks: Iterable[ChatCompletionChunk]) -> Iterator[ChatCompletionChunk]:
        """The chunks of a stream that some bytes completed, which may change how long it may take from then on."""
        stream = self.stream
        assert stream is not None
        has_chunks = False
        for chunk in chunks:
            has_chunks = True
            if not self._has_content and chunk.has_content and self.call.request.stream:
                self._has_content = True
                self.deadline.restart(None)
                self.call.facts.is_loading, self._check_at = False, None
            yield chunk
            # The reader may be slow, and what came with this chunk is not for one that was stopped meanwhile.
            self.require_running()
        if self._has_content and has_chunks:
            # From now on, since the reader's time between chunks does not count.
            self.deadline.restart(self.call.stall_s)
        elif not self._has_content:
            self._shows_life()
        if stream.is_done:
            self.silence_s = _ENDING_S
        elif stream.is_complete:
            self.silence_s = min(self.silence_s, _AFTER_FINISH_S)

    def error_for(self, error: BaseException) -> BaseException:
        """A failure as our error, or itself; records whether the request may have been sent."""
        facts = self.call.facts
        if self.deadline.at != self._end_at:
            # It was silent for too long after the last sign of life.
            facts.is_loading = False
        if facts.is_stopped and isinstance(error, Exception):
            facts.sent = True
            return _stopped(facts.http_status)
        if isinstance(error, LlamaClientError):
            if isinstance(error, ProviderError) and error.http_status is None:
                error.http_status = facts.http_status
            # A server that redirects has received the request.
            facts.sent = facts.sent or (isinstance(error, LocalOnlyError) and error.rule == "redirect")
            return error
        if not isinstance(error, Exception):
            # Interrupted, cancelled or closed early, perhaps while the request was being sent.
            facts.sent = True
            return error
        if not was_unsent(error):
            self.sending()
        if self._headers is not None and isinstance(error, TypeError | ValueError | LookupError | AttributeError):
            # The codec met an answer of an unexpected shape.
            message = f"{self.call.target} sent an unexpected answer ({type(error).__name__})"
            return InvalidResponseError(message, http_status=facts.http_status)
        left = self.deadline.left_s()
        is_over = left is not None and left <= _SAME_S
        failure = failure_of(error, waited=self.deadline.told if is_over else f"{self.silence_s:.3g} s")
        failure.http_status = facts.http_status
        return failure


def send(endpoint: Endpoint, exchange: Exchange) -> Generator[ChatCompletionChunk]:
    """Sends a request and yields its answer's chunks, blocking. Closing it early closes the connection."""
    answer, failure = None, None
    try:
        encoded = exchange.encoded
        answer = _answer_to(endpoint, "POST", encoded.path, encoded.body, encoded.headers, exchange)
        exchange.receive_head(answer)
        pieces, begin = answer.pieces(), b""
        if exchange.is_undecided:
            for data in pieces:
                begin += data
                exchange.deadline.remaining_s()
                if exchange.decide(begin):
                    break
            pieces = chain((begin,), pieces)
        stream = exchange.stream
        if stream is None:
            yield from exchange.decode(_read(pieces, exchange.max_bytes, exchange.deadline, cuts=exchange.is_error))
            return
        try:
            for data in pieces:
                if not stream.is_done:
                    yield from exchange.passed_on(stream.feed(data))
                exchange.deadline.remaining_s()
                if stream.is_done and not answer.follows_waits:
                    break
        except Exception as error:
            if not (stream.is_complete and is_transport_error(error)):
                raise
        yield from stream.end()
    except BaseException as error:
        failure = exchange.error_for(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        # A circle otherwise: an error refers to this frame by its traceback.
        failure = None
        exchange.call.facts.stop = None
        if answer is not None:
            try:
                answer.close()
            except BaseException:
                # Interrupted, perhaps before it had begun: HTTPX would keep the connection for ever.
                answer.close()
                raise


async def asend(endpoint: AsyncEndpoint, exchange: Exchange) -> AsyncGenerator[ChatCompletionChunk]:
    """The same on the event loop."""
    answer, failure = None, None
    try:
        encoded = exchange.encoded
        answer = await _aanswer_to(endpoint, "POST", encoded.path, encoded.body, encoded.headers, exchange)
        exchange.receive_head(answer)
        pieces, begin = answer.pieces(), b""
        if exchange.is_undecided:
            async for data in pieces:
                begin += data
                exchange.deadline.remaining_s()
                if exchange.decide(begin):
                    break
            pieces = _Rejoined(begin, pieces)
        stream = exchange.stream
        if stream is None:
            body = await _aread(pieces, exchange.max_bytes, exchange.deadline, cuts=exchange.is_error)
            takes_long = exchange.takes_long(body)
            decoded = await _aside(partial(exchange.decode, body), exchange) if takes_long else exchange.decode(body)
            for chunk in decoded:
                yield chunk
            return
        aside = _StreamAside(exchange)
        try:
            async for arrived in pieces:
                for data in _parts(arrived):
                    if not stream.is_done:
                        chunks: Iterable[ChatCompletionChunk] = stream.feed(data)
                        if aside.takes_long(data):
                            chunks = await aside.chunks(chunks)
                        for chunk in exchange.passed_on(chunks):
                            aside.has_waited()
                            yield chunk
                        aside.raise_failure()
                    exchange.deadline.remaining_s()
                    await aside.turn(data)
        except Exception as error:
            if aside.is_abandoned or not (stream.is_complete and is_transport_error(error)):
                raise
        chunks = stream.end()
        if aside.takes_long(b"\n"):
            chunks = await aside.chunks(chunks)
        for chunk in chunks:
            yield chunk
        aside.raise_failure()
    except BaseException as error:
        failure = exchange.error_for(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        # A circle otherwise: an error refers to this frame by its traceback.
        failure = None
        exchange.call.facts.stop = None
        if answer is not None:
            await answer.aclose()


def _answer_to(
    endpoint: Endpoint, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: Waits
) -> Answer:
    """The answer to a request, which is sent once more where its connection turns out to be closed."""
    try:
        return endpoint.send(method, path, body, headers, waits)
    except ConnectionLostError as error:
        if not waits.sends_again(error):
            raise
    return endpoint.send(method, path, body, headers, waits)


async def _aanswer_to(
    endpoint: AsyncEndpoint, method: str, path: str, body: bytes, headers: Mapping[str, str], waits: AsyncWaits
) -> AsyncAnswer:
    """The same on the event loop."""
    try:
        return await endpoint.send(method, path, body, headers, waits)
    except ConnectionLostError as error:
        if not waits.sends_again(error):
            raise
    return await endpoint.send(method, path, body, headers, waits)


class _StreamAside:
    """What of a stream is decoded in a thread, so that the event loop goes on."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        # What has come since the last chunk.
        self._waiting_bytes = self._waiting_objects = 0
        self._busy_bytes = 0
        self._failure: Exception | None = None
        # Whether a thread may still use the decoder.
        self.is_abandoned = False

    def takes_long(self, data: bytes) -> bool:
        """Whether the loop should not wait for what these bytes may complete."""
        self._waiting_bytes += len(data)
        if self._waiting_bytes <= MIN_COUNTED_BYTES:
            return False
        self._waiting_objects += data.count(b"{")
        lines = data.count(b"\n") or data.count(b"\r")
        ordinary = MAX_QUICK_OBJECTS + _OBJECTS_PER_LINE * lines
        return bool(lines) and (self._waiting_objects > ordinary or self._waiting_bytes > _LONG_EVENT_BYTES)

    def has_waited(self) -> None:
        """A chunk is complete."""
        self._waiting_bytes = self._waiting_objects = 0

    async def chunks(self, chunks: Iterable[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
        """The chunks all together; what has ended them is raised by `raise_failure`."""
        arrived: list[ChatCompletionChunk] = []

        is_finished = False

        def collect() -> None:
            nonlocal is_finished
            try:
                for chunk in chunks:
                    arrived.append(chunk)
                    if self.is_abandoned:
                        return
            finally:
                is_finished = True

        try:
            await _aside(collect, self._exchange)
        except Exception as error:  # noqa: BLE001 - raised behind the chunks
            self._failure = error
        finally:
            self.is_abandoned = not is_finished
        return list(arrived)

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                # A circle otherwise.
                del failure

    async def turn(self, data: bytes) -> None:
        """Lets the loop turn to others after so much of what had arrived already."""
        self._busy_bytes += len(data)
        if self._busy_bytes >= _TURN_BYTES:
            self._busy_bytes = 0
            await asyncio.sleep(0)


class FetchWaits:
    """How long a request that is no chat may take."""

    is_patient: ClassVar[bool] = False

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.needs_new_connection = False

    def sends_again(self, error: ConnectionLostError) -> bool:
        is_first, self.needs_new_connection = not self.needs_new_connection, True
        return error.is_unanswered and is_first

    def wait_s(self) -> float:
        left = self.deadline.remaining_s()
        assert left is not None
        return left

    def longest_s(self) -> float:
        return self.wait_s()

    def keeps_waiting(self) -> bool:
        return False

    async def akeeps_waiting(self) -> bool:
        return False

    def require_running(self) -> None:
        pass

    def sending(self) -> None:
        pass

    def stop_by(self, wake: Callable[[], None]) -> None:
        pass


def fetch(
    endpoint: Endpoint, path: str, headers: Mapping[str, str], max_bytes: int, deadline: Deadline, body: bytes = b""
) -> HttpAnswer:
    """The whole answer to a request that is no chat: a list of models, an image. With a body it is a POST."""
    answer = _answer_to(endpoint, "POST" if body else "GET", path, body, headers, FetchWaits(deadline))
    try:
        return HttpAnswer(answer.status, answer.headers, bytes(_read(answer.pieces(), max_bytes, deadline)), 0.0)
    finally:
        answer.close()


async def afetch(
    endpoint: AsyncEndpoint,
    path: str,
    headers: Mapping[str, str],
    max_bytes: int,
    deadline: Deadline,
    body: bytes = b"",
) -> HttpAnswer:
    """The same on the event loop."""
    answer = await _aanswer_to(endpoint, "POST" if body else "GET", path, body, headers, FetchWaits(deadline))
    try:
        read = await _aread(answer.pieces(), max_bytes, deadline)
        return HttpAnswer(answer.status, answer.headers, bytes(read), 0.0)
    finally:
        await answer.aclose()


class _Rejoined:
    """The pieces of a body, whose beginning has been read. No generator, which would have to be closed."""

    def __init__(self, begin: bytes, rest: AsyncIterator[bytes]) -> None:
        self._begin: bytes | None = begin
        self._rest = rest

    def __aiter__(self) -> _Rejoined:
        return self

    async def __anext__(self) -> bytes:
        begin, self._begin = self._begin, None
        return begin if begin is not None else await anext(self._rest)


def _read(pieces: Iterator[bytes], max_bytes: int, deadline: Deadline, *, cuts: bool = False) -> bytes | bytearray:
    """`cuts`: the rest of a longer body is left unread; it is refused otherwise."""
    body: bytes | bytearray = b""
    for data in pieces:
        deadline.remaining_s()
        left_bytes = max_bytes - len(body)
        body = _joined(body, data, max_bytes, cuts=cuts)
        if len(data) > left_bytes:
            break
    return body


async def _aread(
    pieces: AsyncIterator[bytes], max_bytes: int, deadline: Deadline, *, cuts: bool = False
) -> bytes | bytearray:
    body: bytes | bytearray = b""
    turn_bytes = _READ_TURN_BYTES
    async for data in pieces:
        deadline.remaining_s()
        left_bytes = max_bytes - len(body)
        body = _joined(body, data, max_bytes, cuts=cuts)
        if len(data) > left_bytes:
            break
        if len(body) > turn_bytes:
            turn_bytes = len(body) + _READ_TURN_BYTES
            await asyncio.sleep(0)
    return body


def _joined(body: bytes | bytearray, data: bytes, max_bytes: int, *, cuts: bool) -> bytes | bytearray:
    if len(body) + len(data) > max_bytes:
        if not cuts:
            raise InvalidResponseError(f"the answer exceeds {max_bytes >> 20} MiB; aborted")
        data = data[: max_bytes - len(body)]
    if not body:
        return data
    # Copied once: nearly all answers come in one piece.
    joined = body if isinstance(body, bytearray) else bytearray(body)
    joined += data
    return joined


def _parts(data: bytes) -> Iterable[bytes]:
    """What has come while the reader was slow, in parts that take as long as what comes in time."""
    if len(data) <= _TURN_BYTES:
        return (data,)
    return (data[start : start + _TURN_BYTES] for start in range(0, len(data), _TURN_BYTES))


def _completed(body: bytes) -> bytes:
    """The beginning of an error's body, as whole JSON where it is JSON."""
    try:
        return to_json(from_json(body, allow_partial="trailing-strings"))
    except ValueError:
        return body


async def _aside(work: Callable[[], T], exchange: Exchange) -> T:
    """Does it in a thread, while the event loop goes on. After the deadline it is not waited for."""
    ended = Event()
    results: list[T] = []
    failures: list[BaseException] = []
    is_waited_for = True

    def run() -> None:
        try:
            result = context.run(work)
            if is_waited_for:
                results.append(result)
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            if is_waited_for:
                failures.append(error)
        ended.set()

    context = copy_context()
    try:
        threading.Thread(target=run, name="llama-client-decode", daemon=True).start()
    except RuntimeError:
        # No thread is left.
        return work()
    facts = exchange.call.facts
    stop = facts.stop
    try:
        exchange.stop_by(ended.set)
        await await_event(ended, exchange.deadline.remaining_s())
        exchange.require_running()
        if failures:
            raise failures.pop()
        if not results:
            raise exchange.deadline.passed()
        return results.pop()
    finally:
        is_waited_for = False
        facts.stop = stop
        # A circle otherwise: an error refers to the thread's frame, which refers to these.
        failures.clear()
        results.clear()


def _stopped(http_status: int | None = None) -> APIConnectionError:
    return APIConnectionError("the client or the stream was closed", http_status=http_status)
