"""Sends what a codec encoded and feeds it the response, sync and async. The only file that awaits a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
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
from llama_client.providers.http.transport import DynamicTimeout, DynamicTimeoutStream
from llama_client.providers.wire.rate_limits import rate_limit
from llama_client.types.completion import ChatCompletionChunk

# A running server accepts a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# The longest answer, with log probabilities for each token, stays far below; an error's body is a page.
MAX_ANSWER_BYTES = 64 << 20
# How long a model may load (Ollama's own limit), and when a silent server is first checked during a whole answer; for a
# stream `first_content_s` says when.
LOADING_S = 300.0
_CHECK_S = 30.0
_CHECK_BEFORE = 0.9
_CHECK_TIMEOUT_S = 2.0
# Limits closer together than this are the same.
_NO_TIME_S = 0.05
# How long the connection is read after the end of a stream, so that it can be reused.
_ENDING_S = 0.2
# After the last finish reason only the usage can follow, and servers send that at once.
_AFTER_FINISH_S = 5.0
# Of several, the last one holds.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "request-id", "x-request-id")


Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True, slots=True)
class Address:
    """A provider's URL, and the headers of each request to it (with the key, so never shown)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


class Endpoint(Generic[Client]):
    """An address and the HTTP client that reaches it. What all requests share is built once."""

    def __init__(self, client: Client, address: Address) -> None:
        self.client: Client = client
        self._base = httpx.URL(address.url)
        self._urls: dict[str, httpx.URL] = {}
        # With those of a user's own client.
        self._headers = httpx.Headers(client.headers)
        # Compression would delay the chunks of streams.
        self._headers["accept-encoding"] = "identity"
        self._headers.update(address.headers)

    def request(
        self, method: str, path: str, timeouts: dict[str, float], call: HttpCall | None = None
    ) -> httpx.Request:
        """The HTTP request for a path below the address, whose query stays."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}")
        headers = self._headers
        if call is not None and call.headers:
            headers = headers.copy()
            headers.update(call.headers)
        content = call.body if call is not None else None
        return httpx.Request(method, url, headers=headers, content=content, extensions={"timeout": timeouts})


class Exchange:
    """One request and its response: what sync and async share."""

    def __init__(
        self, call: ProviderCall, codec: Codec, clock: Clock, silence_s: float, *, checks_loading: bool = False
    ) -> None:
        self.call = call
        self.clock = clock
        self.silence_s = silence_s
        until_s = call.timeout_s if call.first_content_s is None else _earlier(call.timeout_s, call.first_content_s)
        self.deadline = Deadline(until_s, clock)
        self._loading: Deadline | None = None
        if checks_loading:
            # While the model loads, only this one holds.
            self._hard_deadline = Deadline(call.timeout_s, clock)
            first_check_s = _earlier(call.first_content_s, _CHECK_S)
            # Before the end of the attempt, which is judged by the outcome of the check.
            last_s = None if call.timeout_s is None else call.timeout_s * _CHECK_BEFORE
            self._loading = Deadline(_earlier(first_check_s, last_s), clock)
        self._codec = codec
        self.is_stream = False
        self._stream: StreamDecoder | None = None
        self._head: HttpAnswer | None = None
        self._has_content = False
        self._timeout: DynamicTimeout | None = None
        self._transport_s = silence_s

    def timeouts(self, keeps_waiting: Callable[[], bool] | None = None) -> dict[str, float]:
        """HTTPX's timeouts of the request: a read's follows the deadline if the transport knows `DynamicTimeout`."""
        wait_s = self.wait_s()
        longest_s = wait_s
        if keeps_waiting is None or self._loading is not None:
            longest_s = min(self.deadline.remaining_s() or self.silence_s, self.silence_s)
        if keeps_waiting is None:
            longest_s = max(longest_s, min(self.silence_s, self.call.stall_s or self.silence_s))
        self._transport_s = longest_s
        self._timeout = DynamicTimeout.of(longest_s, self.wait_s, keeps_waiting or bool)
        connect_s = min(wait_s, CONNECT_TIMEOUT_S)
        return {"connect": connect_s, "read": self._timeout, "write": self._timeout, "pool": wait_s}

    def wait_s(self) -> float:
        """How long the next bytes may take; raises once the deadline has passed or the attempt is cancelled."""
        if self.call.facts.is_stopped:
            raise _cancelled()
        wait_s, at = self.silence_s, self.deadline.at
        if at is not None:
            wait_s = min(wait_s, at - self.clock.monotonic())
            if wait_s <= 0:
                raise self.deadline.passed()
        if self._loading is not None:
            # Not 0, which would mean no wait at all.
            wait_s = min(wait_s, max(self._loading.left_s() or 0.0, _NO_TIME_S))
        return wait_s

    @property
    def check_in_s(self) -> float | None:
        """When to check whether a silent server is alive; None: never."""
        return None if self._loading is None else max(self._loading.left_s() or 0.0, 0.0)

    def checked(self, *, is_alive: bool) -> bool:
        """Takes the outcome of the check; returns whether to keep waiting."""
        self._loading = None
        self.call.facts.is_loading = is_alive
        left, until_content = self._hard_deadline.left_s(), self.deadline.left_s()
        if not self.call.request.stream:
            self.deadline.restart(left)
        elif is_alive:
            self.deadline.restart(_earlier(left, LOADING_S))
        return is_alive or until_content is None or until_content > _NO_TIME_S

    @property
    def check_timeout_s(self) -> float:
        left = self._hard_deadline.left_s()
        return _CHECK_TIMEOUT_S if left is None else max(min(_CHECK_TIMEOUT_S, left), _NO_TIME_S)

    def start(self, response: httpx.Response) -> None:
        """Takes the head of the response."""
        facts = self.call.facts
        headers = _plain_headers(response.headers)
        facts.sent = True
        facts.http_status = response.status_code
        for name in _REQUEST_ID_HEADERS:
            facts.provider_request_id = headers.get(name, facts.provider_request_id)
        facts.rate_limit = rate_limit(headers)
        facts.is_loading, self._loading = False, None
        self._head = HttpAnswer(response.status_code, headers, b"", self.clock.wall())
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        # Servers that cannot stream send a whole answer instead.
        if response.is_success and self.call.request.stream and not is_json:
            self._stream, self.is_stream = self._codec.stream(self._head, self.call), True

    def decode(self, body: bytes) -> ChatCompletionChunk:
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
        """The chunks completed by the next bytes of a stream."""
        assert self._stream is not None
        if self._stream.is_done:
            return
        is_quiet = True
        for chunk in self._stream.feed(data):
            is_quiet = False
            if not self._has_content and chunk.has_content:
                self._has_content = True
                self.deadline.restart(None)
            yield chunk
        if self._has_content and not is_quiet:
            # From now: the time that the reader takes between chunks does not count.
            self.deadline.restart(self.call.stall_s)
        if self._stream.is_done:
            self.silence_s = _ENDING_S
        elif self._stream.is_complete:
            self.silence_s = min(self.silence_s, _AFTER_FINISH_S)

    @property
    def is_done(self) -> bool:
        """Whether the provider has announced the end."""
        return self._stream is not None and self._stream.is_done

    def end(self) -> Iterator[ChatCompletionChunk]:
        """The chunks left at the end of the bytes of a stream."""
        assert self._stream is not None
        return self._stream.end()

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, so that a lost connection does not matter."""
        return self._stream is not None and self._stream.is_complete

    def on_cancel(self, wake: Callable[[], None]) -> None:
        """Sets what makes the current wait fail when the attempt is cancelled."""
        self.call.facts.stop = wake
        if self.call.facts.is_stopped:
            wake()

    def shut_connection(self) -> None:
        """Makes a blocked read fail, from another thread."""
        if self._timeout is not None and self._timeout.stream is not None:
            self._timeout.stream.shut()

    def close(self) -> None:
        # HTTPX's responses are reference cycles, which live until the next garbage collection: do not let them keep the
        # exchange, and so the prompt, in memory.
        self.call.facts.stop = None
        if self._timeout is not None:
            self._timeout.now_s, self._timeout.keeps_waiting = float, bool

    @property
    def needs_timer(self) -> bool:
        """Whether the next bytes must come before the transport's own timeout."""
        return self.wait_s() < self._transport_s - _NO_TIME_S

    def failed(self, error: BaseException) -> BaseException:
        """The failure as our error, or the exception as it is; notes whether the request may have been sent."""
        facts = self.call.facts
        if facts.is_stopped and isinstance(error, Exception):
            facts.sent = True
            return _cancelled(facts.http_status)
        if isinstance(error, LlamaClientError):
            if isinstance(error, ProviderError) and error.http_status is None:
                error.http_status = facts.http_status
            # A server that redirects has received the request.
            facts.sent = facts.sent or (isinstance(error, LocalOnlyError) and error.rule == "redirect")
            return error
        if not isinstance(error, Exception):
            # Interrupted, cancelled or closed early, perhaps after the request was sent.
            facts.sent = True
            return error
        facts.sent = facts.sent or not was_unsent(error)
        if self._head is not None and isinstance(error, TypeError | ValueError | LookupError | AttributeError):
            # A response of an unforeseen shape.
            message = f"{self.call.target} sent an unreadable response ({type(error).__name__})"
            return InvalidResponseError(message, http_status=facts.http_status)
        failure = failure_of(error, waited_s=self.deadline.timeout_s)
        failure.http_status = facts.http_status
        return failure


def send(
    endpoint: Endpoint[httpx.Client], call: HttpCall, exchange: Exchange, is_alive: Callable[[float], bool]
) -> Generator[ChatCompletionChunk]:
    """Sends a request and yields the chunks of its answer, sync. Closing it early closes the connection."""
    response = None

    def keeps_waiting() -> bool:
        check_in_s = exchange.check_in_s
        is_due = check_in_s is not None and check_in_s <= _NO_TIME_S
        return is_due and exchange.checked(is_alive=is_alive(exchange.check_timeout_s))

    try:
        request = endpoint.request("POST", call.path, exchange.timeouts(keeps_waiting), call)
        exchange.on_cancel(exchange.shut_connection)
        response = endpoint.client.send(request, stream=True, follow_redirects=False)
        exchange.on_cancel(partial(_shut, response))
        exchange.start(response)
        if not exchange.is_stream:
            yield exchange.decode(_read(response, exchange))
            return
        has_dynamic_timeout = isinstance(response.extensions.get("network_stream"), DynamicTimeoutStream)
        try:
            for data in _body(response):
                yield from exchange.feed(data)
                exchange.deadline.remaining_s()
                if exchange.is_done and not has_dynamic_timeout:
                    # A user's own client would wait for the end of the connection as long as for an answer.
                    break
        except (httpx.TransportError, APITimeoutError):
            if not exchange.is_complete:
                raise
        yield from exchange.end()
    except BaseException as error:
        failure = exchange.failed(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        exchange.close()
        if response is not None:
            response.close()


async def asend(
    endpoint: Endpoint[httpx.AsyncClient],
    call: HttpCall,
    exchange: Exchange,
    is_alive: Callable[[float], Awaitable[bool]],
) -> AsyncGenerator[ChatCompletionChunk]:
    """The same, async."""
    response = None
    try:
        request = endpoint.request("POST", call.path, exchange.timeouts(), call)
        checks = exchange.check_in_s is not None
        # One timer for a whole answer; the transport watches the silence within it.
        async with asyncio.timeout(None if checks else exchange.deadline.remaining_s()) as timer:
            exchange.on_cancel(partial(_expire, timer))
            check = asyncio.create_task(_check(exchange, timer, is_alive)) if checks else None
            try:
                response = await endpoint.client.send(request, stream=True, follow_redirects=False)
                exchange.start(response)
                pieces = _abody(response)
                body = None if exchange.is_stream else await _aread(pieces)
            finally:
                if check is not None:
                    check.cancel()
        if body is not None:
            yield exchange.decode(body)
            return
        try:
            while (data := await _next(pieces, exchange)) is not None:
                for chunk in exchange.feed(data):
                    yield chunk
        except (httpx.TransportError, TimeoutError, APITimeoutError):
            if not exchange.is_complete:
                raise
        for chunk in exchange.end():
            yield chunk
    except BaseException as error:
        failure = exchange.failed(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        exchange.close()
        if response is not None:
            await response.aclose()


def fetch(client: httpx.Client, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    """A small whole response: a list of models, an image."""
    response = client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
    try:
        body = bytearray()
        for data in response.iter_bytes():
            deadline.remaining_s()
            _extend(body, data, max_bytes)
        return HttpAnswer(response.status_code, _plain_headers(response.headers), bytes(body), 0.0)
    finally:
        response.close()


async def afetch(client: httpx.AsyncClient, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    async with asyncio.timeout(deadline.remaining_s()):
        response = await client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
        try:
            body = bytearray()
            async for data in response.aiter_bytes():
                _extend(body, data, max_bytes)
            return HttpAnswer(response.status_code, _plain_headers(response.headers), bytes(body), 0.0)
        finally:
            await response.aclose()


def _auth_of(request: httpx.Request) -> Any:
    # The authentication of a user's own client must not go to the server of an image.
    return None if request.extensions.get("foreign") else httpx.USE_CLIENT_DEFAULT


def _read(response: httpx.Response, exchange: Exchange) -> bytes:
    body = bytearray()
    for data in _body(response):
        exchange.deadline.remaining_s()
        _extend(body, data, MAX_ANSWER_BYTES)
    return bytes(body)


async def _aread(pieces: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for data in pieces:
        _extend(body, data, MAX_ANSWER_BYTES)
    return bytes(body)


async def _next(pieces: AsyncIterator[bytes], exchange: Exchange) -> bytes | None:
    """The next bytes of a stream; None: its end."""
    # The timer has no limit if the transport's is as near; cancelling works through it too.
    async with asyncio.timeout(exchange.wait_s() if exchange.needs_timer else None) as timer:
        exchange.on_cancel(partial(_expire, timer))
        return await anext(pieces, None)


async def _check(exchange: Exchange, timer: asyncio.Timeout, is_alive: Callable[[float], Awaitable[bool]]) -> None:
    """Checks whether a silent server is alive, and sets the timer by the outcome."""
    await asyncio.sleep(exchange.check_in_s or 0.0)
    if exchange.checked(is_alive=await is_alive(exchange.check_timeout_s)):
        left = exchange.deadline.left_s()
        with contextlib.suppress(RuntimeError):  # the timer has ended
            timer.reschedule(None if left is None else asyncio.get_running_loop().time() + left)
    else:
        _expire(timer)


def _expire(timer: asyncio.Timeout) -> None:
    """Makes the wait under a timer fail now."""
    with contextlib.suppress(RuntimeError):  # the timer has ended
        timer.reschedule(0.0)


def _earlier(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else min(one, other)


def _cancelled(http_status: int | None = None) -> APIConnectionError:
    return APIConnectionError("the client or the stream was closed", http_status=http_status)


def _shut(response: httpx.Response) -> None:
    """Makes a read that blocks in another thread fail."""
    stream = response.extensions.get("network_stream")
    sock = stream.get_extra_info("socket") if stream is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _body(response: httpx.Response) -> Iterator[bytes]:
    """The bytes of the body, straight from the transport if they are not compressed."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.SyncByteStream):
        return response.iter_bytes()
    return iter(response.stream)


def _abody(response: httpx.Response) -> AsyncIterator[bytes]:
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(response.stream)


def _plain_headers(headers: httpx.Headers) -> dict[str, str]:
    # HTTPX's own mapping guesses an encoding for each response.
    plain = {}
    for name, value in headers.raw:
        plain[name.lower().decode("latin-1")] = value.decode("latin-1")
    return plain


def _extend(body: bytearray, data: bytes, max_bytes: int) -> None:
    if len(body) + len(data) > max_bytes:
        raise InvalidResponseError(f"response exceeds {max_bytes >> 20} MiB; aborted")
    body += data
