"""Streams: answers that are read while they are generated."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic

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


class _Stream(Generic[Chunks]):
    """What sync and async streams share: which chunks the caller gets, and what is recorded at the end."""

    _chunks: Chunks

    def __init__(self, opened: OpenedStream[Chunks], call: Call) -> None:
        self._chunks = opened.rest
        self._attempt = opened.attempt
        self._call = call
        self._record = call.record
        options = call.record.request.stream_options
        self._include_usage = options is not None and options.include_usage
        self._arrived = deque(chunk for chunk in opened.arrived if self._is_shown(chunk))
        self._completion: ChatCompletion | None = None
        self._ended = False
        self._ending = threading.Lock()

    def __repr__(self) -> str:
        if self._completion is not None:
            return repr(self._completion).replace(type(self._completion).__name__, type(self).__name__, 1)
        state = "closed" if self._ended else "open"
        return f"<{type(self).__name__} {self.target}: {beginning(self._attempt.answer.text)} so far, {state}>"

    @property
    def request_id(self) -> str:
        """Our id of the call, the same in logs and attempts."""
        return self._record.request_id

    @property
    def target(self) -> str:
        """The target that answers: `provider/model`."""
        return self._attempt.target.name

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
        return self._completion or self._record.completion(self._attempt)

    def _is_shown(self, chunk: ChatCompletionChunk) -> bool:
        return bool(chunk.choices) or self._include_usage

    def _end(self) -> bool:
        """Marks the end; True only for the first call, which then records the attempt."""
        with self._ending:
            first, self._ended = not self._ended, True
        return first

    def _finish(self) -> ProviderError | None:
        """Called after the last chunk; returns the error where the answer is incomplete."""
        try:
            self._attempt.require_complete()
        except ProviderError as error:
            return error
        if self._end():
            self._completion = self._record.won(self._attempt)
        return None

    def _following(self, error: Exception) -> Call | None:
        """The call that continues the answer; None: the error must be raised."""
        call = self._call.after(self._attempt) if not self._ended else None
        if call is not None:
            self._record.failed(self._attempt, _cause(error), outcome="interrupted")
        return call

    def _go_on(self, opened: OpenedStream[Chunks], call: Call) -> None:
        """Continues with another target; its chunks are closed by the reader if the stream was closed meanwhile."""
        self._chunks, self._attempt, self._call = opened.rest, opened.attempt, call
        self._arrived.extend(chunk for chunk in opened.arrived if self._is_shown(chunk))
        if self._ended:
            self._record.cancelled(self._attempt)

    def _interruption(self, error: Exception) -> StreamInterruptedError:
        """The one error for every failure after the first content; what caused it is its `__cause__`."""
        cause = _cause(error)
        interruption = StreamInterruptedError(
            f"the stream broke off: {cause}",
            provider=self._attempt.target.provider_name,
            target=self.target,
            http_status=cause.http_status,
            provider_code=cause.provider_code,
            body=cause.body,
        )
        if self._end():
            self._record.failed(self._attempt, interruption, outcome="interrupted")
        interruption.partial = self._record.completion(self._attempt)
        interruption.attempts = self._record.attempts
        return interruption

    def _cancel(self) -> None:
        if self._end():
            self._record.cancelled(self._attempt)


def _cause(error: Exception) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    # Not imported with the package: the routing code is only needed once a call was made.
    from llama_client.routing.drive import wrapped

    return wrapped(error)


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

    def __init__(self, opened: OpenedStream[SyncChunks], call: Call) -> None:
        super().__init__(opened, call)
        self._reading = threading.Lock()

    def __iter__(self) -> ChatStream:
        return self

    def __next__(self) -> ChatCompletionChunk:
        if not self._reading.acquire(False):
            raise InvalidRequestError("another thread is reading this stream")
        try:
            return self._read()
        except BaseException:
            # Such as KeyboardInterrupt; a stream that has ended stays as it is.
            self._cancel()
            raise
        finally:
            self._reading.release()

    def _read(self) -> ChatCompletionChunk:
        while not self._ended:
            if self._arrived:
                return self._arrived.popleft()
            broken: Exception | None = None
            try:
                chunk = next(self._chunks)
            except StopIteration:
                broken = self._finish()
            except Exception as error:  # noqa: BLE001 - raised below, unless another target continues
                broken = error
            else:
                self._attempt.add(chunk)
                if self._is_shown(chunk) and not self._ended:
                    return chunk
            # If it has ended, it was closed by other code while this waited.
            if broken is not None and not self._ended:
                self._continued(broken)
        # Also where another thread closed the stream while this one waited for the chunk.
        self._chunks.close()
        raise StopIteration

    def _continued(self, error: Exception) -> None:
        """Continues with another target, or raises the error."""
        call = self._following(error)
        if call is not None:
            self._chunks.close()
            try:
                self._go_on(call.drive(), call)
                return
            except LlamaClientError:
                if self._ended:
                    # Closed by other code while this looked for a target.
                    return
                # Its failure is in the attempts; the reader gets the interruption.
        raise self._interruption(error) from error

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self.close()

    def close(self) -> None:
        """Stops the model and frees its slot. Safe at any time, from any thread, and more than once."""
        self._cancel()
        if self._reading.acquire(blocking=False):
            try:
                self._arrived.clear()
                self._chunks.close()
            finally:
                self._reading.release()
        else:
            # Wakes the reader that waits for a chunk; it finds the stream ended and closes it.
            self._record.stop()


class AsyncChatStream(_Stream[AsyncChunks]):
    """`ChatStream` for an event loop: `async with await client.chat.completions.create(..., stream=True) as stream`.

    Its chunks come by `async for`; `await stream.aclose()` closes it.
    """

    _reading = False

    def __aiter__(self) -> AsyncChatStream:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        if self._reading:
            raise InvalidRequestError("another task is reading this stream")
        self._reading = True
        try:
            return await self._read()
        except BaseException:
            # Such as CancelledError; a stream that has ended stays as it is.
            self._cancel()
            raise
        finally:
            self._reading = False

    async def _read(self) -> ChatCompletionChunk:
        while not self._ended:
            if self._arrived:
                return self._arrived.popleft()
            broken: Exception | None = None
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                broken = self._finish()
            except Exception as error:  # noqa: BLE001 - raised below, unless another target continues
                broken = error
            else:
                self._attempt.add(chunk)
                if self._is_shown(chunk) and not self._ended:
                    return chunk
            # If it has ended, it was closed by other code while this waited.
            if broken is not None and not self._ended:
                await self._acontinued(broken)
        # Also where another task closed the stream while this one waited for the chunk.
        await self._chunks.aclose()
        raise StopAsyncIteration

    async def _acontinued(self, error: Exception) -> None:
        """Continues with another target, or raises the error."""
        call = self._following(error)
        if call is not None:
            await self._chunks.aclose()
            try:
                self._go_on(await call.adrive(), call)
                return
            except LlamaClientError:
                if self._ended:
                    # Closed by other code while this looked for a target.
                    return
                # Its failure is in the attempts; the reader gets the interruption.
        raise self._interruption(error) from error

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The event loop closes the generator by itself; the attempt must be recorded here.
        if not getattr(self, "_ended", True):
            self._cancel()

    async def aclose(self) -> None:
        """`ChatStream.close`, awaited. Safe from any task."""
        self._cancel()
        if self._reading:
            # Wakes the reader that waits for a chunk; it finds the stream ended and closes it.
            self._record.stop()
        else:
            self._arrived.clear()
            await self._chunks.aclose()
