"""Streams: answers that are read while they are generated."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, NoReturn

from llama_client.errors import InvalidRequestError, LlamaClientError, ProviderError, StreamInterruptedError
from llama_client.types.completion import (
    AsyncChunks,
    ChatCompletion,
    ChatCompletionChunk,
    Chunks,
    SyncChunks,
    beginning,
)

if TYPE_CHECKING:
    from llama_client.routing.drive import Call, OpenedStream
    from llama_client.routing.recorder import HeldCall


class OfThisProcess:
    """Base of what has connections and threads, and so can be neither pickled nor copied."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "clients and streams cannot be pickled or copied, since their connections and threads belong to this "
            "process: make one client in each process (of a pool, in its initializer), and hand over configurations "
            "and answers (stream.completion)"
        )


class _OpenStream(ABC, Generic[Chunks]):
    """What a stream has to end. It does not refer to the caller's stream, and so is left when that is dropped."""

    def __init__(self, opened: OpenedStream[Chunks], call: Call) -> None:
        self.chunks: Chunks = opened.rest
        self.attempt = opened.attempt
        self.call = call
        self.record = call.record
        self.arrived: deque[ChatCompletionChunk] = deque()
        self.is_ended = False

    def cancel(self) -> None:
        """Records the attempt, unless it has ended already."""
        self.is_ended = True
        self.record.cancelled(self.attempt)

    @property
    @abstractmethod
    def is_being_read(self) -> bool:
        """Whether its reader waits for a chunk."""

    @abstractmethod
    def end(self) -> None:
        """Called by the reaper, in its thread."""

    def close(self) -> None:
        """Queues it for the reaper, and waits for that."""
        if self.record.drop():
            self.record.reaper.settle()


class _Stream(OfThisProcess, Generic[Chunks]):
    """What sync and async streams share: which chunks the caller gets, and what is recorded at the end."""

    _open: _OpenStream[Chunks]

    def __init__(self, opened: OpenedStream[Chunks], call: Call, held: HeldCall) -> None:
        # Once this stream is dropped, the reaper ends the call.
        self._held = held
        self._record = call.record
        options = call.record.request.stream_options
        self._include_usage = options is not None and options.include_usage
        self._completion: ChatCompletion | None = None
        self._open.arrived.extend(chunk for chunk in opened.arrived if self._is_shown(chunk))
        self._record.stream = self._open

    def __repr__(self) -> str:
        if self._completion is not None:
            return repr(self._completion).replace(type(self._completion).__name__, type(self).__name__, 1)
        state = "closed" if self._open.is_ended else "open"
        return f"<{type(self).__name__} {self.target}: {beginning(self._open.attempt.answer.text)} so far, {state}>"

    @property
    def request_id(self) -> str:
        """Our id of the call, the same in logs and attempts."""
        return self._record.request_id

    @property
    def target(self) -> str:
        """The target that answers: `provider/model`."""
        return self._open.attempt.target.name

    @property
    def completion(self) -> ChatCompletion:
        """The complete answer, once the stream has been read to its end."""
        if self._completion is None:
            raise InvalidRequestError(
                "the stream has not been read to its end, so there is no whole answer; see partial"
            )
        return self._completion

    @property
    def partial(self) -> ChatCompletion:
        """What has arrived so far, complete or not, with the attempts that have ended."""
        return self._completion or self._record.completion(self._open.attempt)

    def _is_shown(self, chunk: ChatCompletionChunk) -> bool:
        return bool(chunk.choices) or self._include_usage

    def _finish(self) -> ProviderError | None:
        """Called after the last chunk; returns the error where the answer is incomplete."""
        attempt = self._open.attempt
        try:
            attempt.require_complete()
        except ProviderError as error:
            return error
        self._open.is_ended = True
        completion = self._record.won(attempt)
        # Else it was closed by other code first.
        if attempt.outcome in ("ok", "cached"):
            self._completion = completion
        return None

    def _following(self, error: Exception) -> Call | None:
        """The call that continues the answer; None: the error must be raised."""
        stream = self._open
        call = stream.call.after(stream.attempt) if not stream.is_ended else None
        if call is not None:
            self._record.failed(stream.attempt, _cause(error), outcome="interrupted")
        return call

    def _go_on(self, opened: OpenedStream[Chunks], call: Call) -> None:
        """Continues with another target; its chunks are closed by the reader if the stream was closed meanwhile."""
        stream = self._open
        stream.chunks, stream.attempt, stream.call = opened.rest, opened.attempt, call
        stream.arrived.extend(chunk for chunk in opened.arrived if self._is_shown(chunk))
        if stream.is_ended:
            self._record.cancelled(stream.attempt)

    def _interruption(self, error: Exception) -> StreamInterruptedError:
        """The one error for every failure after the first content; what caused it is its `__cause__`."""
        cause, attempt = _cause(error), self._open.attempt
        interruption = StreamInterruptedError(
            f"the stream broke off: {cause}",
            provider=attempt.target.provider_name,
            target=self.target,
            http_status=cause.http_status,
            provider_code=cause.provider_code,
            body=cause.body,
        )
        self._open.is_ended = True
        self._record.failed(attempt, interruption, outcome="interrupted")
        interruption.partial = self._record.completion(attempt)
        interruption.attempts = self._record.attempts
        return interruption


def _cause(error: Exception) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    # Not imported with the package: the routing code is only needed once a call was made.
    from llama_client.routing.drive import wrapped

    return wrapped(error)


class _OpenChatStream(_OpenStream[SyncChunks]):
    def __init__(self, opened: OpenedStream[SyncChunks], call: Call) -> None:
        self.reading = threading.Lock()
        super().__init__(opened, call)

    @property
    def is_being_read(self) -> bool:
        return self.reading.locked()

    def end(self) -> None:
        self.cancel()
        if self.reading.acquire(blocking=False):
            try:
                self.arrived.clear()
                self.chunks.close()
            finally:
                self.reading.release()
        else:
            # Wakes the reader that waits for a chunk; it finds the stream ended and closes it.
            self.record.stop()


class ChatStream(_Stream[SyncChunks]):
    """An answer while it is generated: iterate over its chunks, then read `completion`.

    Close it (or leave its `with` block) to stop the model early; dropping it does the same.

    Example:
        messages = [{"role": "user", "content": "What is the capital of Japan?"}]
        with client.chat.completions.create(messages=messages, stream=True) as stream:
            for chunk in stream:
                print(chunk.text, end="")
        print(stream.completion.usage)
    """

    _open: _OpenChatStream

    def __init__(self, opened: OpenedStream[SyncChunks], call: Call, held: HeldCall) -> None:
        self._open = _OpenChatStream(opened, call)
        super().__init__(opened, call, held)

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> ChatCompletionChunk:
        stream = self._open
        if stream.reading.locked():
            if stream.is_ended:
                # It is being closed, from another thread.
                raise StopIteration
            raise InvalidRequestError("another thread is reading this stream")
        with stream.reading:
            try:
                return self._read()
            except BaseException:
                # The end, a failure, or such as KeyboardInterrupt; a stream that has ended stays as it is. It may have
                # been closed by another thread while this one waited for the chunk.
                stream.cancel()
                stream.chunks.close()
                # Of a target that was to continue the answer.
                stream.record.end_attempts()
                stream.record.release()
                raise

    def _read(self) -> ChatCompletionChunk:
        stream = self._open
        while not stream.is_ended:
            if stream.arrived and not stream.attempt.facts.is_stopped:
                return stream.arrived.popleft()
            broken: Exception | None = None
            try:
                chunk = next(stream.chunks)
                stream.attempt.add(chunk)
            except StopIteration:
                broken = self._finish()
            except Exception as error:  # noqa: BLE001 - raised below, unless another target continues
                broken = error
            else:
                if self._is_shown(chunk) and not stream.is_ended:
                    return chunk
            # If it has ended, it was closed by other code while this waited.
            if broken is not None and not stream.is_ended:
                self._continued(broken)
        raise StopIteration

    def _continued(self, error: Exception) -> None:
        """Continues with another target, or raises the error."""
        call = self._following(error)
        if call is not None:
            self._open.chunks.close()
            try:
                self._go_on(call.drive(), call)
                return
            except LlamaClientError:
                if self._open.is_ended:
                    # Closed by other code while this looked for a target.
                    return
                # Its failure is in the attempts; the reader gets the interruption.
        raise self._interruption(error) from error

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the model and frees its slot. Safe at any time, from any thread, and more than once."""
        # By the reaper, as the caller may be a finaliser too: that of a generator, which then does not wait for it.
        if sys.exc_info()[0] is GeneratorExit:
            self._record.drop()
        else:
            self._open.close()


class _AsyncOpenChatStream(_OpenStream[AsyncChunks]):
    is_being_read = False

    def end(self) -> None:
        # The event loop closes the generator, once nothing refers to it.
        self.cancel()


class AsyncChatStream(_Stream[AsyncChunks]):
    """`ChatStream` for an event loop: `async with await client.chat.completions.create(..., stream=True) as stream`.

    Its chunks come by `async for`; `await stream.aclose()` closes it.
    """

    _open: _AsyncOpenChatStream

    def __init__(self, opened: OpenedStream[AsyncChunks], call: Call, held: HeldCall) -> None:
        self._open = _AsyncOpenChatStream(opened, call)
        super().__init__(opened, call, held)

    def __aiter__(self) -> AsyncChatStream:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        stream = self._open
        if stream.is_being_read:
            raise InvalidRequestError("another task is reading this stream")
        stream.is_being_read = True
        try:
            return await self._read()
        except GeneratorExit:
            # The coroutine is collected, which is a finaliser; the stream will be dropped.
            raise
        except BaseException:
            # The end, a failure, or such as CancelledError; a stream that has ended stays as it is.
            stream.cancel()
            # Of a target that was to continue the answer.
            self._record.end_attempts()
            self._record.release()
            raise
        finally:
            stream.is_being_read = False

    async def _read(self) -> ChatCompletionChunk:
        stream = self._open
        while not stream.is_ended:
            if stream.arrived and not stream.attempt.facts.is_stopped:
                return stream.arrived.popleft()
            broken: Exception | None = None
            try:
                chunk = await anext(stream.chunks)
                stream.attempt.add(chunk)
            except StopAsyncIteration:
                broken = self._finish()
            except Exception as error:  # noqa: BLE001 - raised below, unless another target continues
                broken = error
            else:
                if self._is_shown(chunk) and not stream.is_ended:
                    return chunk
            # If it has ended, it was closed by other code while this waited.
            if broken is not None and not stream.is_ended:
                await self._acontinued(broken)
        # Also where another task closed the stream while this one waited for the chunk.
        await stream.chunks.aclose()
        raise StopAsyncIteration

    async def _acontinued(self, error: Exception) -> None:
        """Continues with another target, or raises the error."""
        call = self._following(error)
        if call is not None:
            await self._open.chunks.aclose()
            try:
                self._go_on(await call.adrive(), call)
                return
            except LlamaClientError:
                if self._open.is_ended:
                    # Closed by other code while this looked for a target.
                    return
                # Its failure is in the attempts; the reader gets the interruption.
        raise self._interruption(error) from error

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """`ChatStream.close`, awaited. Safe from any task."""
        stream = self._open
        if not stream.is_ended:
            await self._cancelled()
        if stream.is_being_read:
            # Wakes the reader that waits for a chunk; it finds the stream ended and closes it.
            self._record.stop()
        else:
            stream.arrived.clear()
            await stream.chunks.aclose()
            self._record.release()

    async def _cancelled(self) -> None:
        import asyncio

        try:
            # A coroutine that is collected cannot wait, and so ends here; its stream will be dropped.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._open.cancel()
            raise
        self._open.cancel()
