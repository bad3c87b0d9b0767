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

# A server that is there answers a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# The longest answer, with log probabilities for each token, stays far below; an error's body is a page.
MAX_ANSWER_BYTES = 64 << 20
# How long a model may take to be loaded, and when its silent server is first asked whether it is there, where a whole
# answer is waited for; a stream says when it wants its first content. Ollama gives up by itself after as long.
LOADING_S = 300.0
_ASK_S = 30.0
_ASKED_BEFORE = 0.9
_LIVENESS_S = 2.0
# Two limits that are no further apart are the same.
_NO_TIME_S = 0.05
# After the end of a stream its connection is read on for this long, so that it can be used again.
_ENDING_S = 0.2
# After the last finish reason only the usage can come, and servers send that at once.
_AFTER_FINISH_S = 5.0
# Of several, the last one holds.
_REQUEST_ID_HEADERS = ("x-amzn-requestid", "request-id", "x-request-id")


Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider is, and the headers of each request to it (with the key, so never shown)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


class Endpoint(Generic[Client]):
    """A provider's address, reached by an HTTP client. What is the same for every request is put together once."""

    def __init__(self, client: Client, address: Address) -> None:
        self.client: Client = client
        self._base = httpx.URL(address.url)
        self._urls: dict[str, httpx.URL] = {}
        # What a user's own client adds to each of its requests stays.
        self._headers = httpx.Headers(client.headers)
        # Answers are small, and streams must not be held back to be compressed.
        self._headers["accept-encoding"] = "identity"
        self._headers.update(address.headers)

    def request(
        self, method: str, path: str, timeouts: dict[str, float], sent: HttpCall | None = None
    ) -> httpx.Request:
        """The HTTP request for a path below the address; a query of the address stays."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/{path}")
        headers = self._headers
        if sent is not None and sent.headers:
            headers = headers.copy()
            headers.update(sent.headers)
        content = sent.body if sent is not None else None
        return httpx.Request(method, url, headers=headers, content=content, extensions={"timeout": timeouts})


class Exchange:
    """One request and its answer: what both colours share."""

    def __init__(
        self, call: ProviderCall, codec: Codec, clock: Clock, silence_s: float, *, asks_if_loading: bool = False
    ) -> None:
        self.call = call
        self.clock = clock
        self.silence_s = silence_s
        until_s = call.timeout_s if call.first_content_s is None else _earlier(call.timeout_s, call.first_content_s)
        self.deadline = Deadline(until_s, clock)
        self._loading: Deadline | None = None
        if asks_if_loading:
            # What holds while the model is being loaded.
            self._hard_deadline = Deadline(call.timeout_s, clock)
            # Of a whole answer nothing is expected by then; it is only asked whether the server is still there.
            first_ask_s = _earlier(call.first_content_s, _ASK_S)
            # Before the attempt is over in any case: its end is judged by what the server says.
            last_s = None if call.timeout_s is None else call.timeout_s * _ASKED_BEFORE
            self._loading = Deadline(_earlier(first_ask_s, last_s), clock)
        self._codec = codec
        # Whether the answer comes as a stream.
        self.is_stream = False
        self._stream: StreamDecoder | None = None
        self._head: HttpAnswer | None = None
        self._has_content = False
        self._patience: DynamicTimeout | None = None
        self._transport_s = silence_s

    def timeouts(self, goes_on: Callable[[], bool] | None = None) -> dict[str, float]:
        """For the request. A read's patience changes with the deadline, where the transport knows that."""
        wait_s = self.wait_s()
        longest_s = wait_s
        if goes_on is None or self._loading is not None:
            longest_s = min(self.deadline.remaining_s() or self.silence_s, self.silence_s)
        if goes_on is None:
            longest_s = max(longest_s, min(self.silence_s, self.call.stall_s or self.silence_s))
        self._transport_s = longest_s
        self._patience = DynamicTimeout.of(longest_s, self.wait_s, goes_on or bool)
        return {
            "connect": min(wait_s, CONNECT_TIMEOUT_S),
            "read": self._patience,
            "write": self._patience,
            "pool": wait_s,
        }

    def wait_s(self) -> float:
        """How long the next bytes may take."""
        if self.call.facts.is_stopped:
            raise _stopped()
        wait_s, at = self.silence_s, self.deadline.at
        if at is not None:
            wait_s = min(wait_s, at - self.clock.monotonic())
            if wait_s <= 0:
                raise self.deadline.passed()
        if self._loading is not None:
            # Not 0, which would mean not to wait at all.
            wait_s = min(wait_s, max(self._loading.left_s() or 0.0, _NO_TIME_S))
        return wait_s

    @property
    def ask_in_s(self) -> float | None:
        """When to ask whether a silent server is still there; None: never."""
        return None if self._loading is None else max(self._loading.left_s() or 0.0, 0.0)

    def heard(self, *, is_there: bool) -> bool:
        """A silent server was asked whether it is there; tells whether to wait on."""
        self._loading = None
        self.call.facts.is_loading = is_there
        left, until_content = self._hard_deadline.left_s(), self.deadline.left_s()
        if not self.call.request.stream:
            self.deadline.restart(left)
        elif is_there:
            self.deadline.restart(_earlier(left, LOADING_S))
        return is_there or until_content is None or until_content > _NO_TIME_S

    @property
    def asking_s(self) -> float:
        """How long a silent server may take to say that it is there."""
        left = self._hard_deadline.left_s()
        return _LIVENESS_S if left is None else max(min(_LIVENESS_S, left), _NO_TIME_S)

    def began(self, response: httpx.Response) -> None:
        """Takes in the head of the answer."""
        facts = self.call.facts
        headers = _plain(response.headers)
        facts.sent = True
        facts.http_status = response.status_code
        for name in _REQUEST_ID_HEADERS:
            facts.provider_request_id = headers.get(name, facts.provider_request_id)
        facts.rate_limit = rate_limit(headers)
        facts.is_loading, self._loading = False, None
        self._head = HttpAnswer(response.status_code, headers, b"", self.clock.wall())
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        # Servers that cannot stream answer as a whole, also where a stream was asked for.
        if response.is_success and self.call.request.stream and not is_json:
            self._stream, self.is_stream = self._codec.stream(self._head, self.call), True

    def whole(self, body: bytes) -> ChatCompletionChunk:
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
            # From now, since the time that the reader took between chunks is the reader's.
            self.deadline.restart(self.call.stall_s)
        if self._stream.is_done:
            self.silence_s = _ENDING_S
        elif self._stream.is_complete:
            self.silence_s = min(self.silence_s, _AFTER_FINISH_S)

    @property
    def is_done(self) -> bool:
        """Whether the provider said that nothing more comes."""
        return self._stream is not None and self._stream.is_done

    def end(self) -> Iterator[ChatCompletionChunk]:
        """What is left at the end of the bytes of a stream."""
        assert self._stream is not None
        return self._stream.end()

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, so that a connection that breaks now breaks nothing."""
        return self._stream is not None and self._stream.is_complete

    def stopped_by(self, wake: Callable[[], None]) -> None:
        """Lets others end this while it waits: `wake` makes the wait fail."""
        self.call.facts.stop = wake
        if self.call.facts.is_stopped:
            wake()

    def shut(self) -> None:
        """Closes the connection that is waited for, from elsewhere."""
        if self._patience is not None and self._patience.stream is not None:
            self._patience.stream.shut()

    def ended(self) -> None:
        """Nothing waits any more.

        HTTPX's answers hold themselves in a circle until the next garbage collection. This lets go of the exchange and
        with it of the prompt, which would else stay in memory with them.
        """
        self.call.facts.stop = None
        if self._patience is not None:
            self._patience.now_s, self._patience.goes_on = float, bool

    @property
    def is_pressed(self) -> bool:
        """Whether the next bytes must come sooner than the transport itself would wait for them."""
        return self.wait_s() < self._transport_s - _NO_TIME_S

    def failed(self, error: BaseException) -> BaseException:
        """What broke, as our error, or as it is; writes down whether the request may have gone out."""
        facts = self.call.facts
        if facts.is_stopped and isinstance(error, Exception):
            facts.sent = True
            return _stopped(facts.http_status)
        if isinstance(error, LlamaClientError):
            if isinstance(error, ProviderError) and error.http_status is None:
                error.http_status = facts.http_status
            # The server that redirects had the request.
            facts.sent = facts.sent or (isinstance(error, LocalOnlyError) and error.rule == "redirect")
            return error
        if not isinstance(error, Exception):
            # Interrupted, cancelled or closed early, perhaps while the request was on its way.
            facts.sent = True
            return error
        facts.sent = facts.sent or not was_unsent(error)
        if self._head is not None and isinstance(error, TypeError | ValueError | LookupError | AttributeError):
            # An answer of a shape that nobody foresaw.
            return InvalidResponseError(
                f"{self.call.target} sent what cannot be read ({type(error).__name__})", http_status=facts.http_status
            )
        failure = failure_of(error, waited_s=self.deadline.timeout_s)
        failure.http_status = facts.http_status
        return failure


def exchange(
    route: Endpoint[httpx.Client], sent: HttpCall, job: Exchange, is_there: Callable[[float], bool]
) -> Generator[ChatCompletionChunk]:
    """Sends a request and yields its answer's chunks, blocking. Closing it early closes the connection."""
    response = None

    def goes_on() -> bool:
        ask_s = job.ask_in_s
        return ask_s is not None and ask_s <= _NO_TIME_S and job.heard(is_there=is_there(job.asking_s))

    try:
        request = route.request("POST", sent.path, job.timeouts(goes_on), sent)
        job.stopped_by(job.shut)
        response = route.client.send(request, stream=True, follow_redirects=False)
        job.stopped_by(partial(_shut, response))
        job.began(response)
        if not job.is_stream:
            yield job.whole(_read(response, job))
            return
        knows_patience = isinstance(response.extensions.get("network_stream"), DynamicTimeoutStream)
        try:
            for data in _pieces(response):
                yield from job.feed(data)
                job.deadline.remaining_s()
                if job.is_done and not knows_patience:
                    # The user's own client would wait as long for the end of the connection as for an answer.
                    break
        except (httpx.TransportError, APITimeoutError):
            if not job.is_complete:
                raise
        yield from job.end()
    except BaseException as error:
        failure = job.failed(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        job.ended()
        if response is not None:
            response.close()


async def aexchange(
    route: Endpoint[httpx.AsyncClient], sent: HttpCall, job: Exchange, is_there: Callable[[float], Awaitable[bool]]
) -> AsyncGenerator[ChatCompletionChunk]:
    """The same on the event loop."""
    response = None
    try:
        request = route.request("POST", sent.path, job.timeouts(), sent)
        # One timer for the whole of a whole answer; the silence within it is the transport's own to watch.
        async with asyncio.timeout(None if job.ask_in_s is not None else job.deadline.remaining_s()) as timer:
            job.stopped_by(partial(_expire, timer))
            asking = asyncio.create_task(_ask(job, timer, is_there)) if job.ask_in_s is not None else None
            try:
                response = await route.client.send(request, stream=True, follow_redirects=False)
                job.began(response)
                pieces = _apieces(response)
                body = None if job.is_stream else await _aread(pieces)
            finally:
                if asking is not None:
                    asking.cancel()
        if body is not None:
            yield job.whole(body)
            return
        try:
            while (data := await _next(pieces, job)) is not None:
                for chunk in job.feed(data):
                    yield chunk
        except (httpx.TransportError, TimeoutError, APITimeoutError):
            if not job.is_complete:
                raise
        for chunk in job.end():
            yield chunk
    except BaseException as error:
        failure = job.failed(error)
        if failure is error:
            raise
        raise failure from error
    finally:
        job.ended()
        if response is not None:
            await response.aclose()


def fetch(client: httpx.Client, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    """A small whole answer to a request that is no chat: a list of models, an image."""
    response = client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
    try:
        body = bytearray()
        for data in response.iter_bytes():
            deadline.remaining_s()
            _extend(body, data, max_bytes)
        return HttpAnswer(response.status_code, _plain(response.headers), bytes(body), 0.0)
    finally:
        response.close()


async def afetch(client: httpx.AsyncClient, request: httpx.Request, max_bytes: int, deadline: Deadline) -> HttpAnswer:
    """The same on the event loop."""
    async with asyncio.timeout(deadline.remaining_s()):
        response = await client.send(request, stream=True, follow_redirects=False, auth=_auth_of(request))
        try:
            body = bytearray()
            async for data in response.aiter_bytes():
                _extend(body, data, max_bytes)
            return HttpAnswer(response.status_code, _plain(response.headers), bytes(body), 0.0)
        finally:
            await response.aclose()


def _auth_of(request: httpx.Request) -> Any:
    """What a user's own client would add: not where an image is, which is nobody's business but the image's."""
    return None if request.extensions.get("foreign") else httpx.USE_CLIENT_DEFAULT


def _read(response: httpx.Response, job: Exchange) -> bytes:
    body = bytearray()
    for data in _pieces(response):
        job.deadline.remaining_s()
        _extend(body, data, MAX_ANSWER_BYTES)
    return bytes(body)


async def _aread(pieces: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for data in pieces:
        _extend(body, data, MAX_ANSWER_BYTES)
    return bytes(body)


async def _next(pieces: AsyncIterator[bytes], job: Exchange) -> bytes | None:
    """The next bytes of a stream; None at its end."""
    # Without a limit of its own where the transport's is as near; the timer is also what a stop works by.
    async with asyncio.timeout(job.wait_s() if job.is_pressed else None) as timer:
        job.stopped_by(partial(_expire, timer))
        return await anext(pieces, None)


async def _ask(job: Exchange, timer: asyncio.Timeout, is_there: Callable[[float], Awaitable[bool]]) -> None:
    """Asks a silent server whether it is still there, and sets the timer by what comes of that."""
    await asyncio.sleep(job.ask_in_s or 0.0)
    if job.heard(is_there=await is_there(job.asking_s)):
        left = job.deadline.left_s()
        with contextlib.suppress(RuntimeError):  # it is over already
            timer.reschedule(None if left is None else asyncio.get_running_loop().time() + left)
    else:
        _expire(timer)


def _expire(timer: asyncio.Timeout) -> None:
    """Makes the wait under a timer fail now."""
    with contextlib.suppress(RuntimeError):  # it is over already
        timer.reschedule(0.0)


def _earlier(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else min(one, other)


def _stopped(http_status: int | None = None) -> APIConnectionError:
    return APIConnectionError("the client or the stream was closed", http_status=http_status)


def _shut(response: httpx.Response) -> None:
    """Makes a read that blocks in another thread fail now."""
    stream = response.extensions.get("network_stream")
    sock = stream.get_extra_info("socket") if stream is not None else None
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    """The body's bytes, straight from the transport where nothing has to be undone."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.SyncByteStream):
        return response.iter_bytes()
    return iter(response.stream)


def _apieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The same on the event loop."""
    if "content-encoding" in response.headers or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return aiter(response.stream)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """The headers by lower-case name; HTTPX's own way guesses an encoding for each anew."""
    plain = {}
    for name, value in headers.raw:
        plain[name.lower().decode("latin-1")] = value.decode("latin-1")
    return plain


def _extend(body: bytearray, data: bytes, max_bytes: int) -> None:
    if len(body) + len(data) > max_bytes:
        raise InvalidResponseError(f"the answer is longer than {max_bytes} bytes; reading it was given up")
    body += data
