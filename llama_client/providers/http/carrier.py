"""Sends what a codec encoded and feeds it what comes back, in two colours. The only file that awaits a socket.

It reads the raw answer over the HTTP client itself: the official clients' own ways of sending cost up to three times a
bare call and lose errors inside streams. Everything that goes wrong below leaves here as a `ProviderError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
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
    ProviderError,
)
from llama_client.providers.base import Codec, HttpAnswer, HttpCall, ProviderCall, StreamDecoder
from llama_client.providers.http.failures import failure_of, was_unsent
from llama_client.providers.http.transports import Patience, PatientStream
from llama_client.providers.wire.waits import rate_limit
from llama_client.types.chunk import ChatCompletionChunk

# A server that is there answers a connection at once, also while it loads a model.
CONNECT_TIMEOUT_S = 5.0
# The longest answer, with log probabilities for each token, stays far below; an error's body is a page.
MAX_ANSWER_BYTES = 64 << 20
# After the end of a stream its connection is read on for this long, so that it can be used again.
_ENDING_S = 0.2
# After the last finish reason only the usage can come, and servers send that at once.
_AFTER_FINISH_S = 5.0
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid")


Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a provider is, and the headers of each request to it (with the key, so never shown)."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


class Route(Generic[Client]):
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

    def __init__(self, call: ProviderCall, codec: Codec, clock: Clock, silence_s: float) -> None:
        self.call = call
        self.clock = clock
        self.deadline = Deadline(call.timeout_s, clock)
        self._codec = codec
        self.silence_s = silence_s
        self._stream: StreamDecoder | None = None
        self._head: HttpAnswer | None = None
        self._has_content = False
        self._is_stopped = False
        self._patience: Patience | None = None

    def timeouts(self, longest_read_s: float) -> dict[str, float]:
        """For the request. A read's patience changes with the deadline, where the transport knows that."""
        wait_s = self.wait_s()
        self._patience = Patience.of(longest_read_s, self.wait_s)
        return {"connect": min(wait_s, CONNECT_TIMEOUT_S), "read": self._patience, "write": wait_s, "pool": wait_s}

    def wait_s(self) -> float:
        """How long the next bytes may take."""
        left = self.deadline.remaining_s()
        return self.silence_s if left is None else min(left, self.silence_s)

    def began(self, response: httpx.Response) -> None:
        """Takes in the head of the answer."""
        facts = self.call.facts
        headers = _plain(response.headers)
        facts.sent = True
        facts.http_status = response.status_code
        facts.provider_request_id = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)
        facts.rate_limit = rate_limit(headers)
        self._head = HttpAnswer(response.status_code, headers, b"", self.clock.wall())
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        # Servers that cannot stream answer as a whole, also where a stream was asked for.
        if response.is_success and self.call.request.stream and not is_json:
            self._stream = self._codec.stream(self._head, self.call)

    @property
    def is_stream(self) -> bool:
        """Whether the answer comes as a stream."""
        return self._stream is not None

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
        if self._has_content:
            yield from self._stream.feed(data)
        else:
            yield from self._until_content(self._stream.feed(data))
        if self._stream.is_done:
            self.silence_s = _ENDING_S
        elif self._stream.is_complete:
            self.silence_s = min(self.silence_s, _AFTER_FINISH_S)

    def _until_content(self, chunks: Iterator[ChatCompletionChunk]) -> Iterator[ChatCompletionChunk]:
        for chunk in chunks:
            if not self._has_content and chunk.has_content:
                self._has_content = True
                self.deadline.lift()
            yield chunk

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

        def stop() -> None:
            self._is_stopped = True
            wake()

        self.call.facts.stop = stop

    def ended(self) -> None:
        """Nothing waits any more.

        HTTPX's answers hold themselves in a circle until the next garbage collection. This lets go of the exchange and
        with it of the prompt, which would else stay in memory with them.
        """
        self.call.facts.stop = None
        if self._patience is not None:
            self._patience.now_s = float

    @property
    def is_pressed(self) -> bool:
        """Whether the next bytes must come sooner than the transport itself would wait for them."""
        return self.silence_s <= _AFTER_FINISH_S or self.deadline.remaining_s() is not None

    def failed(self, error: BaseException) -> BaseException:
        """What broke, as our error, or as it is; writes down whether the request may have gone out."""
        facts = self.call.facts
        if self._is_stopped and isinstance(error, Exception):
            facts.sent = True
            return APIConnectionError("the client or the stream was closed", http_status=facts.http_status)
        if isinstance(error, LlamaClientError):
            if isinstance(error, ProviderError) and error.http_status is None:
                error.http_status = facts.http_status
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
        failure = failure_of(error, waited_s=self.call.timeout_s)
        failure.http_status = facts.http_status
        return failure


def exchange(route: Route[httpx.Client], sent: HttpCall, job: Exchange) -> Generator[ChatCompletionChunk]:
    """Sends a request and yields its answer's chunks, blocking. Closing it early closes the connection."""
    response = None
    try:
        request = route.request("POST", sent.path, job.timeouts(job.wait_s()), sent)
        response = route.client.send(request, stream=True, follow_redirects=False)
        job.stopped_by(partial(_shut, response))
        job.began(response)
        if not job.is_stream:
            yield job.whole(_read(response, job))
            return
        knows_patience = isinstance(response.extensions.get("network_stream"), PatientStream)
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
    route: Route[httpx.AsyncClient], sent: HttpCall, job: Exchange
) -> AsyncGenerator[ChatCompletionChunk]:
    """The same on the event loop."""
    response = None
    try:
        # One timer for the whole of a whole answer; the silence within it is the transport's own to watch.
        async with asyncio.timeout(job.deadline.remaining_s()) as timer:
            job.stopped_by(partial(_expire, timer))
            request = route.request("POST", sent.path, job.timeouts(job.silence_s), sent)
            response = await route.client.send(request, stream=True, follow_redirects=False)
            job.began(response)
            pieces = _apieces(response)
            body = None if job.is_stream else await _aread(pieces)
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


def _expire(timer: asyncio.Timeout) -> None:
    """Makes the wait under a timer fail now."""
    with contextlib.suppress(RuntimeError):  # it is over already
        timer.reschedule(0.0)


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
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in headers.raw}


def _extend(body: bytearray, data: bytes, max_bytes: int) -> None:
    if len(body) + len(data) > max_bytes:
        raise InvalidResponseError(f"the answer is longer than {max_bytes} bytes; reading it was given up")
    body += data
