"""Sends an encoded request and feeds the answer to its codec, sync and async. The only file that awaits a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import httpx

from llama_client.clock import Clock, Deadline
from llama_client.errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidResponseError,
    LlamaClientError,
    LocalOnlyError,
    ProviderError,
)
from llama_client.providers.base import Codec, HttpAnswer, HttpCall, ProviderCall, StreamDecoder
from llama_client.providers.http.error_mapping import failure_of, was_unsent
from llama_client.providers.http.transport import DynamicTimeout, DynamicTimeoutStream, shut
from llama_client.providers.wire.rate_limits import rate_limit
from llama_client.types.completion import ChatCompletionChunk

# A running server accepts a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# The longest answer, with log probabilities for each token, stays far below; an error's body is a page.
MAX_ANSWER_BYTES = 64 << 20
# How long a model may take to load; Ollama itself gives up after as long.
LOADING_S = 300.0
# A silent server gets its liveness check when a stream's first content is due, for a whole answer after this time, and
# in any case before this share of the attempt's timeout has passed, since its result decides how the attempt ends.
_LIVENESS_CHECK_AFTER_S = 30.0
_LIVENESS_CHECK_SHARE = 0.9
_LIVENESS_TIMEOUT_S = 2.0
# Limits that differ by less are the same.
_SAME_S = 0.05
# After the end of a stream its connection is read on for this long, so that it can be reused.
_ENDING_S = 0.2
# After the last finish reason only the usage can follow, and servers send it at once.
_AFTER_FINISH_S = 5.0
# The last one present counts.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "request-id", "x-request-id")

Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True, slots=True)
class Address:
    """A provider's URL, and the headers of each request to it (with the key, so never shown)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


class Endpoint(Generic[Client]):
    """An address and the HTTP client for it, with what all requests have in common."""

    def __init__(self, client: Client, address: Address) -> None:
        self.client: Client = client
        self._base = httpx.URL(address.url)
        self._urls: dict[str, httpx.URL] = {}
        # The headers that a user's own client adds to each request are kept.
        self._headers = httpx.Headers(client.headers)
        # Answers are small, and a compressing server may hold back the chunks of a stream.
        self._headers["accept-encoding"] = "identity"
        self._headers.update(address.headers)

    def request(self, method: str, encoded: HttpCall, timeouts: Mapping[str, float | None]) -> httpx.Request:
        """The HTTP request for a path below the address; a query of the address is kept."""
        path, headers = encoded.path, self._headers
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}")
        if encoded.headers:
            headers = headers.copy()
            headers.update(encoded.headers)
        return httpx.Request(method, url, headers=headers, content=encoded.body, extensions={"timeout": timeouts})


class Exchange:
    """The state of one request and its answer, for sync and async."""

    def __init__(
        self, call: ProviderCall, codec: Codec, clock: Clock, silence_s: float, *, checks_liveness: bool
    ) -> None:
        self.call = call
        self.clock = clock
        self.silence_s = silence_s
        until_s = call.timeout_s if call.first_content_s is None else _earlier(call.timeout_s, call.first_content_s)
        self.deadline = Deadline(until_s, clock)
        # When a silent server gets its liveness check; None: never, or it is done.
        self._liveness_check: Deadline | None = None
        if checks_liveness:
            # Applies while the model loads.
            self._hard_deadline = Deadline(call.timeout_s, clock)
            first_s = _earlier(call.first_content_s, _LIVENESS_CHECK_AFTER_S)
            last_s = None if call.timeout_s is None else call.timeout_s * _LIVENESS_CHECK_SHARE
            self._liveness_check = Deadline(_earlier(first_s, last_s), clock)
        self._codec = codec
        # The decoder of an answer that is a stream; None: the answer is whole.
        self.stream: StreamDecoder | None = None
        self._head: HttpAnswer | None = None
        self._has_content = False
        self._read_timeout: DynamicTimeout | None = None
        self.transport_timeout_s = silence_s
        self.encoded = codec.encode(call)

    def timeouts(self, keeps_waiting: Callable[[], bool] | None = None) -> dict[str, float]:
        """For the request. The read timeout follows the deadline where the transport supports that."""
        wait_s = self.wait_s()
        longest_s = wait_s
        if keeps_waiting is None or self._liveness_check is not None:
            longest_s = min(self.deadline.remaining_s() or self.silence_s, self.silence_s)
        if keeps_waiting is None:
            longest_s = max(longest_s, min(self.silence_s, self.call.stall_s or self.silence_s))
        self.transport_timeout_s = longest_s
        read = self._read_timeout = DynamicTimeout.of(longest_s, self.wait_s, keeps_waiting or bool)
        return {"connect": min(wait_s, CONNECT_TIMEOUT_S), "read": read, "write": read, "pool": wait_s}

    def wait_s(self) -> float:
        """How long the next bytes may take."""
        if self.call.facts.is_stopped:
            raise _stopped()
        wait_s, at = self.silence_s, self.deadline.at
        if at is not None:
            wait_s = min(wait_s, at - self.clock.monotonic())
            if wait_s <= 0:
                raise self.deadline.passed()
        if self._liveness_check is not None:
            # Not 0, which would mean not to wait at all.
            wait_s = min(wait_s, max(self._liveness_check.left_s() or 0.0, _SAME_S))
        return wait_s

    @property
    def liveness_check_in_s(self) -> float | None:
        return None if self._liveness_check is None else max(self._liveness_check.left_s() or 0.0, 0.0)

    @property
    def liveness_timeout_s(self) -> float:
        left = self._hard_deadline.left_s()
        return _LIVENESS_TIMEOUT_S if left is None else max(min(_LIVENESS_TIMEOUT_S, left), _SAME_S)

    def keeps_waiting(self, *, is_alive: bool) -> bool:
        """Takes the result of the liveness check, and decides whether to wait on."""
        self._liveness_check = None
        self.call.facts.is_loading = is_alive
        left, until_content = self._hard_deadline.left_s(), self.deadline.left_s()
        if not self.call.request.stream:
            self.deadline.restart(left)
        elif is_alive:
            self.deadline.restart(_earlier(left, LOADING_S))
        return is_alive or until_content is None or until_content > _SAME_S

    def receive_head(self, response: httpx.Response) -> None:
        facts = self.call.facts
        headers = _plain(response.headers)
        facts.sent = True
        facts.http_status = response.status_code
        for name in _REQUEST_ID_HEADERS:
            facts.provider_request_id = headers.get(name, facts.provider_request_id)
        facts.rate_limit = rate_limit(headers)
        facts.is_loading, self._liveness_check = False, None
        self._head = HttpAnswer(response.status_code, headers, b"", self.clock.wall())
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        # A server that cannot stream sends a whole answer, also where a stream was requested.
        if response.is_success and self.call.request.stream and not is_json:
            self.stream = self._codec.stream(self._head, self.call)

    def decode(self, body: bytes) -> ChatCompletionChunk:
        """A whole body as one chunk."""
        head = self._head
        assert head is not None
        answer = HttpAnswer(head.status, head.headers, body, head.received_at)
        if 200 <= answer.status < 300:
            return self._codec.decode(answer, self.call)
        outcome = self._codec.failure(answer, self.call)
        if isinstance(outcome, ProviderError):
            raise outcome
        return outcome

    def feed(self, data: bytes) -> Iterator[ChatCompletionChunk]:
        """The chunks that the next bytes of a stream complete."""
        stream = self.stream
        assert stream is not None
        if stream.is_done:
            return
        has_chunks = False
        for chunk in stream.feed(data):
            has_chunks = True
            if not self._has_content and chunk.has_content:
                self._has_content = True
                self.deadline.restart(None)
            yield chunk
        if self._has_content and has_chunks:
            # From now on, since the reader's time between chunks does not count.
            self.deadline.restart(self.call.stall_s)
        if stream.is_done:
            self.silence_s = _ENDING_S
        elif stream.is_complete:
            self.silence_s = min(self.silence_s, _AFTER_FINISH_S)

    def stop_by(self, wake: Callable[[], None]) -> None:
        """Sets how the attempt is stopped while it waits: `wake` makes the wait fail."""
        self.call.facts.stop = wake
        if self.call.facts.is_stopped:
            wake()

    def shut_connection(self) -> None:
        if self._read_timeout is not None:
            shut(self._read_timeout.stream)

    def release(self) -> None:
        """Lets go of the call, since HTTPX's responses are reference cycles, which would keep its prompt in memory."""
        self.call.facts.stop = None
        if self._read_timeout is not None:
            self._read_timeout.current_s, self._read_timeout.keeps_waiting = float, bool

    def error_for(self, error: BaseException) -> BaseException:
        """A failure as our error, or itself; records whether the request may have been sent."""
        facts = self.call.facts
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
        facts.sent = facts.sent or not was_unsent(error)
        if self._head is not None and isinstance(error, TypeError | ValueError | LookupError | AttributeError):
            # The codec met an answer of an unexpected shape.
            message = f"{self.call.target} sent an unexpected answer ({type(error).__name__})"
            return InvalidResponseError(message, http_status=facts.http_status)
        failure = failure_of(error, waited_s=self.deadline.timeout_s)
        failure.http_status = facts.http_status
        return failure


def send(
    endpoint: Endpoint[httpx.Client], exchange: Exchange, is_alive: Callable[[float], bool]
) -> Generator[ChatCompletionChunk]:
    """Sends a request and yields its answer's chunks, blocking. Closing it early closes the connection."""
    response = None

    def keeps_waiting() -> bool:
        check_in_s = exchange.liveness_check_in_s
        if check_in_s is None or check_in_s > _SAME_S:
            return False
        return exchange.keeps_waiting(is_alive=is_alive(exchange.liveness_timeout_s))

    try:
        request = endpoint.request("POST", exchange.encoded, exchange.timeouts(keeps_waiting))
        exchange.stop_by(exchange.shut_connection)
        response = endpoint.client.send(request, stream=True, follow_redirects=False)
        connection = response.extensions.get("network_stream")
        exchange.stop_by(partial(shut, connection))
        exchange.receive_head(response)
        stream = exchange.stream
        if stream is None:
            yield exchange.decode(_read(response, MAX_ANSWER_BYTES, exchange.deadline))
            return
        try:
            for data in _pieces(response):
                yield from exchange.feed(data)
                exchange.deadline.remaining_s()
                if stream.is_done and not isinstance(connection, DynamicTimeoutStream):
                    # A user's own client would wait as long for the end of the connection as for an answer.
                    break
        except (httpx.TransportError, APITimeoutError):
            if not stream.is_complete:
                raise
        yield from stream.end()
    except BaseException as error:
        failure = exchange.error_for(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        exchange.release()
        if response is not None:
            response.close()


async def asend(
    endpoint: Endpoint[httpx.AsyncClient], exchange: Exchange, is_alive: Callable[[float], Awaitable[bool]]
) -> AsyncGenerator[ChatCompletionChunk]:
    """The same on the event loop."""
    response = None
    try:
        request = endpoint.request("POST", exchange.encoded, exchange.timeouts())
        check_in_s = exchange.liveness_check_in_s
        # One timer for the whole of a whole answer; the transport itself limits the silence within it.
        async with asyncio.timeout(exchange.deadline.remaining_s() if check_in_s is None else None) as timer:
            exchange.stop_by(partial(_expire, timer))
            check = None if check_in_s is None else asyncio.create_task(_check_liveness(exchange, timer, is_alive))
            try:
                response = await endpoint.client.send(request, stream=True, follow_redirects=False)
                exchange.receive_head(response)
                stream = exchange.stream
                body = await _aread(response, MAX_ANSWER_BYTES) if stream is None else b""
            finally:
                if check is not None:
                    check.cancel()
        if stream is None:
            yield exchange.decode(body)
            return
        try:
            pieces = _apieces(response)
            while (data := await _next(pieces, exchange)) is not None:
                for chunk in exchange.feed(data):
                    yield chunk
        except (httpx.TransportError, TimeoutError, APITimeoutError):
            if not stream.is_complete:
                raise
        for chunk in stream.end():
            yield chunk
    except BaseException as error:
        failure = exchange.error_for(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        exchange.release()
        if response is not None:
            await response.aclose()


def fetch(client: httpx.Client, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    """The whole answer to a request that is no chat: a list of models, an image."""
    response = client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
    with contextlib.closing(response):
        return HttpAnswer(response.status_code, _plain(response.headers), _read(response, max_bytes, deadline), 0.0)


async def afetch(client: httpx.AsyncClient, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    """The same on the event loop."""
    async with asyncio.timeout(deadline.remaining_s()):
        response = await client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
        async with contextlib.aclosing(response):
            return HttpAnswer(response.status_code, _plain(response.headers), await _aread(response, max_bytes), 0.0)


def _auth_of(request: httpx.Request) -> Any:
    """The authentication of a user's own client, but none for an image, which is on another server."""
    return None if request.extensions.get("foreign") else httpx.USE_CLIENT_DEFAULT


def _read(response: httpx.Response, max_bytes: int, deadline: Deadline) -> bytes:
    body = bytearray()
    for data in _pieces(response):
        deadline.remaining_s()
        _extend(body, data, max_bytes)
    return bytes(body)


async def _aread(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for data in _apieces(response):
        _extend(body, data, max_bytes)
    return bytes(body)


def _extend(body: bytearray, data: bytes, max_bytes: int) -> None:
    if len(body) + len(data) > max_bytes:
        raise InvalidResponseError(f"the answer exceeds {max_bytes >> 20} MiB; aborted")
    body += data


async def _next(pieces: AsyncIterator[bytes], exchange: Exchange) -> bytes | None:
    """The next bytes of a stream; None at its end."""
    wait_s = exchange.wait_s()
    # No timeout where the transport's own is as near; the timer is needed in any case, to stop the attempt.
    async with asyncio.timeout(wait_s if wait_s < exchange.transport_timeout_s - _SAME_S else None) as timer:
        exchange.stop_by(partial(_expire, timer))
        return await anext(pieces, None)


async def _check_liveness(
    exchange: Exchange, timer: asyncio.Timeout, is_alive: Callable[[float], Awaitable[bool]]
) -> None:
    """Waits until a silent server's liveness check is due, and sets the timer by its result."""
    await asyncio.sleep(exchange.liveness_check_in_s or 0.0)
    if exchange.keeps_waiting(is_alive=await is_alive(exchange.liveness_timeout_s)):
        left = exchange.deadline.left_s()
        with contextlib.suppress(RuntimeError):  # the timer's block has ended
            timer.reschedule(None if left is None else asyncio.get_running_loop().time() + left)
    else:
        _expire(timer)


def _expire(timer: asyncio.Timeout) -> None:
    """Makes the wait under a timer fail now."""
    with contextlib.suppress(RuntimeError):  # the timer's block has ended
        timer.reschedule(0.0)


def _earlier(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else min(one, other)


def _stopped(http_status: int | None = None) -> APIConnectionError:
    return APIConnectionError("the client or the stream was closed", http_status=http_status)


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    """The body's bytes, straight from the transport unless they are compressed."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.SyncByteStream):
        return response.iter_bytes()
    return iter(response.stream)


def _apieces(response: httpx.Response) -> AsyncIterator[bytes]:
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(response.stream)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """The headers by lower-case name. HTTPX's own conversion guesses the encoding of each, which is slow."""
    plain = {}
    for name, value in headers.raw:
        plain[name.lower().decode("latin-1")] = value.decode("latin-1")
    return plain
