"""Answers that are read while they are made."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from llama_client.errors import InvalidRequestError, LlamaClientError, ProviderError, StreamInterruptedError
from llama_client.types.completion import AsyncChunks, ChatCompletion, ChatCompletionChunk, Chunks, SyncChunks

if TYPE_CHECKING:
    from llama_client.routing.drive import Call, OpenedStream


class _Stream(Generic[Chunks]):
    """What both colours share: which chunks are handed on, and what is written down when a stream ends."""

    _chunks: Chunks

    def __init__(self, opened: OpenedStream[Chunks], call: Call) -> None:
        self._chunks = opened.rest
        self._trial = opened.attempt
        self._call = call
        self._record = call.record
        options = call.record.request.stream_options
        self._include_usage = options is not None and options.include_usage
        self._arrived = deque(chunk for chunk in opened.arrived if self._is_shown(chunk))
        self._completion: ChatCompletion | None = None
        self._ended = False
        self._ending = threading.Lock()

    @property
    def request_id(self) -> str:
        """Our id of the call, the same in logs and attempts."""
        return self._record.request_id

    @property
    def target(self) -> str:
        """Who answers: `provider/model`."""
        return self._trial.target.name

    @property
    def completion(self) -> ChatCompletion:
        """The whole answer, once the stream has been read to its end."""
        if self._completion is None:
            raise InvalidRequestError(
                "the stream has not been read to its end, so there is no whole answer; see partial"
            )
        return self._completion

    @property
    def partial(self) -> ChatCompletion:
        """What has arrived so far, whole or not, with the attempts that have ended."""
        return self._completion or self._record.completion(self._trial)

    def _is_shown(self, chunk: ChatCompletionChunk) -> bool:
        return bool(chunk.choices) or self._include_usage

    def _take(self, chunk: ChatCompletionChunk) -> bool:
        """Takes in a chunk; tells whether to hand it on."""
        self._trial.add(chunk)
        return self._is_shown(chunk)

    def _end(self) -> bool:
        """Marks the end; True for the first who does, who alone writes the attempt down."""
        with self._ending:
            first, self._ended = not self._ended, True
        return first

    def _finish(self) -> ProviderError | None:
        """Called at the end of the chunks; returns what is wrong with that end."""
        try:
            self._trial.require_complete()
        except ProviderError as error:
            return error
        if self._end():
            self._completion = self._record.won(self._trial)
        return None

    def _following(self, error: Exception) -> Call | None:
        """The call that goes on from here; None: the break has to be raised."""
        call = self._call.after(self._trial) if not self._ended else None
        if call is not None:
            self._record.failed(self._trial, _cause(error), outcome="interrupted")
        return call

    def _go_on(self, opened: OpenedStream[Chunks], call: Call) -> bool:
        """Reads on from another target; False where the stream was closed meanwhile."""
        self._chunks, self._trial, self._call = opened.rest, opened.attempt, call
        self._arrived.extend(chunk for chunk in opened.arrived if self._is_shown(chunk))
        if self._ended:
            self._record.cancelled(self._trial)
        return not self._ended

    def _interruption(self, error: Exception) -> StreamInterruptedError:
        """The one error for every failure after the first content; what caused it is its `__cause__`."""
        cause = _cause(error)
        interruption = StreamInterruptedError(
            f"the stream broke off: {cause}",
            provider=self._trial.target.provider_name,
            target=self.target,
            http_status=cause.http_status,
            provider_code=cause.provider_code,
            body=cause.body,
        )
        if self._end():
            self._record.failed(self._trial, interruption, outcome="interrupted")
        interruption.partial = self._record.completion(self._trial)
        interruption.attempts = self._record.attempts
        return interruption

    def _cancel(self) -> None:
        if self._end():
            self._record.cancelled(self._trial)

    def _wake_reader(self) -> None:
        """Ends the wait of whoever is reading, who then sees that the stream has ended, and closes."""
        self._record.stop()


def _cause(error: Exception) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    # Only a call that was made can fail; the package is imported without what makes it.
    from llama_client.routing.drive import wrapped

    return wrapped(error)


class ChatStream(_Stream[SyncChunks]):
    """An answer while it is made: iterate over its chunks, then read `completion`.

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
            except Exception as error:  # noqa: BLE001 - raised below, where nobody goes on from here
                broken = error
            except BaseException:
                self._cancel()
                raise
            else:
                if self._take(chunk) and not self._ended:
                    return chunk
            # Where it has ended, it was closed from elsewhere while this waited.
            if broken is not None and not self._ended:
                self._continued(broken)
        # Also where another thread closed the stream while this one waited for the chunk.
        self._chunks.close()
        raise StopIteration

    def _continued(self, error: Exception) -> None:
        """Goes on elsewhere, or raises the break."""
        call = self._following(error)
        if call is not None:
            self._chunks.close()
            try:
                if not self._go_on(call.drive(), call):
                    self._chunks.close()
                return
            except LlamaClientError:
                if self._ended:
                    # Closed from elsewhere while this looked for somebody.
                    return
                # What became of it is in the attempts; what the reader must know is that the stream broke.
            except BaseException:
                self._cancel()
                raise
        raise self._interruption(error) from error

    def __enter__(self) -> ChatStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            self._wake_reader()


class AsyncChatStream(_Stream[AsyncChunks]):
    """`ChatStream` for an event loop: `async for`, `async with`, `await stream.aclose()`.

    Example:
        messages = [{"role": "user", "content": "What is the capital of Japan?"}]
        async with AsyncLlamaClient() as client:
            async with await client.chat.completions.create(messages=messages, stream=True) as stream:
                async for chunk in stream:
                    print(chunk.text, end="")
            print(stream.completion.usage)
    """

    def __init__(self, opened: OpenedStream[AsyncChunks], call: Call) -> None:
        super().__init__(opened, call)
        self._reading = False

    def __aiter__(self) -> AsyncChatStream:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        if self._reading:
            raise InvalidRequestError("another task is reading this stream")
        self._reading = True
        try:
            return await self._read()
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
            except Exception as error:  # noqa: BLE001 - raised below, where nobody goes on from here
                broken = error
            except BaseException:
                self._cancel()
                raise
            else:
                if self._take(chunk) and not self._ended:
                    return chunk
            # Where it has ended, it was closed from elsewhere while this waited.
            if broken is not None and not self._ended:
                await self._acontinued(broken)
        # Also where another task closed the stream while this one waited for the chunk.
        await self._chunks.aclose()
        raise StopAsyncIteration

    async def _acontinued(self, error: Exception) -> None:
        """Goes on elsewhere, or raises the break."""
        call = self._following(error)
        if call is not None:
            await self._chunks.aclose()
            try:
                if not self._go_on(await call.adrive(), call):
                    await self._chunks.aclose()
                return
            except LlamaClientError:
                if self._ended:
                    # Closed from elsewhere while this looked for somebody.
                    return
                # What became of it is in the attempts; what the reader must know is that the stream broke.
            except BaseException:
                self._cancel()
                raise
        raise self._interruption(error) from error

    async def __aenter__(self) -> AsyncChatStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The event loop closes the generator by itself; what is left to do is to write the attempt down.
        if not getattr(self, "_ended", True):
            self._cancel()

    async def aclose(self) -> None:
        """Stops the model and frees its slot. Safe at any time, from any task, and more than once."""
        self._cancel()
        if self._reading:
            self._wake_reader()
        else:
            self._arrived.clear()
            await self._chunks.aclose()
