"""The provider `gguf`: GGUF files, run inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

from llama_client.clock import Clock, Deadline
from llama_client.config.schema import GgufProvider as GgufConfig
from llama_client.errors import InvalidRequestError, LlamaClientError, ModelNotFoundError
from llama_client.providers.base import Capabilities, ProviderCall
from llama_client.providers.gguf.codec import PARAMETERS, Decoder, bodies, capabilities, library_failure, require_values
from llama_client.providers.gguf.engine import Body, Engine, arun, run
from llama_client.providers.gguf.loaded import Lease, lease
from llama_client.providers.gguf.loading import EngineOptions
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.types.chunk import ChatCompletionChunk
from llama_client.validation import suggestion

DEFAULT_MODEL = "default"


class GgufProvider:
    """Runs GGUF files inside this process; a model is loaded at its first request and shared within the process."""

    is_local = True

    def __init__(self, config: GgufConfig, store: ModelStore, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._leases: dict[EngineOptions, Lease] = {}
        self._closed = False
        # Whoever drops a client without closing it gets the memory back all the same.
        weakref.finalize(self, _release_all, self._leases)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        """Answers, blocking. See `Provider`."""
        deadline = Deadline(call.timeout_s, self._clock)
        options, name = self._prepare(call)
        answer = _Answer(call, self._open(options), name, deadline, self._clock)
        with answer.translated_failures():
            for body, slots in answer.groups():
                with contextlib.closing(
                    run(answer.engine, body, slots=slots, owner=answer.lease, deadline=deadline)
                ) as raw_chunks:
                    for raw in raw_chunks:
                        chunk = answer.feed(raw)
                        if chunk is not None:
                            yield chunk
        yield from answer.ending()

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        """Answers, on the event loop. See `Provider`."""
        deadline = Deadline(call.timeout_s, self._clock)
        options, name = self._prepare(call)
        answer = _Answer(call, await self._aopen(options, deadline), name, deadline, self._clock)
        with answer.translated_failures():
            for body, slots in answer.groups():
                async with contextlib.aclosing(
                    arun(answer.engine, body, slots=slots, owner=answer.lease, deadline=deadline)
                ) as raw_chunks:
                    async for raw in raw_chunks:
                        chunk = answer.feed(raw)
                        if chunk is not None:
                            yield chunk
        for chunk in answer.ending():
            yield chunk

    def close(self) -> None:
        """Ends what runs and gives the models back; the last user of a model frees it."""
        with self._lock:
            self._closed = True
        _release_all(self._leases)

    async def aclose(self) -> None:
        """The same, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def _prepare(self, call: ProviderCall) -> tuple[EngineOptions, str]:
        """The engine for a request, and what its answers call the model, after the checks that need no loaded model."""
        Capabilities(PARAMETERS).require(call)
        config = self._config
        path = self._path_of(call.model)
        options = EngineOptions(
            model_path=path.resolve(),
            n_ctx=config.n_ctx,
            n_parallel=config.n_parallel,
            n_gpu_layers=config.n_gpu_layers,
            n_threads=config.n_threads,
            mmproj=config.mmproj.resolve() if config.mmproj else None,
            lora=tuple((adapter.path.resolve(), adapter.scale) for adapter in config.lora),
        )
        return options, path.stem if call.model == DEFAULT_MODEL else call.model

    def _path_of(self, model: str) -> Path:
        if model == DEFAULT_MODEL and self._config.model_path is not None:
            return self._config.model_path
        name = DEMO_NAME if model == DEFAULT_MODEL else model
        stored = self._store.find(name)
        if stored is None:
            raise ModelNotFoundError(
                f"no model named {name!r} has been pulled{suggestion(name, self._store.names())}: "
                f"run `llama-client pull {name}`"
            )
        return stored.path

    def _open(self, options: EngineOptions) -> Lease:
        with self._lock:
            known = self._leases.get(options)
            if known is not None and known.is_usable:
                return known
        new = lease(options, self._clock)
        with self._lock:
            known = self._leases.get(options)
            if self._closed or (known is not None and known.is_usable):
                new.release()
                if self._closed or known is None:
                    raise InvalidRequestError("the client was closed")
                return known
            self._leases[options] = new
            return new

    async def _aopen(self, options: EngineOptions, deadline: Deadline) -> Lease:
        known = self._leases.get(options)
        if known is not None and known.is_usable:
            return known
        try:
            # Where the wait is cut short the thread goes on, and the model is there for the next request.
            async with asyncio.timeout(deadline.remaining_s()):
                return await asyncio.to_thread(self._open, options)
        except TimeoutError:
            deadline.remaining_s()
            raise


class _Answer:
    """One request on a loaded engine: what the two colours of the provider share."""

    def __init__(self, call: ProviderCall, lease_: Lease, name: str, deadline: Deadline, clock: Clock) -> None:
        self.lease = lease_
        self.engine: Engine = lease_.engine
        self._call = call
        self._deadline = deadline
        self._clock = clock
        self._asked_at: float | None = None
        self._decoder = Decoder(call, name)
        call.facts.load_s = lease_.take_load_s()
        capabilities(self.engine.template_abilities).require(call)
        require_values(call, sees_images=self.engine.sees_images)

    def groups(self) -> Iterator[tuple[Body, int]]:
        first_index = 0
        for body, choices in bodies(self._call.request, self.engine.n_parallel):
            self._decoder.next_group(first_index)
            self._asked_at = self._clock.monotonic()
            yield body, choices
            first_index += choices

    def feed(self, raw: Body | None) -> ChatCompletionChunk | None:
        facts = self._call.facts
        if raw is None:
            facts.sent = True
            if facts.queue_s is None and self._asked_at is not None:
                facts.queue_s = self._clock.monotonic() - self._asked_at
            return None
        chunk = self._decoder.feed(raw)
        if chunk is not None and self._call.request.stream and chunk.has_content:
            self._deadline.lift()
        return chunk

    def ending(self) -> Iterator[ChatCompletionChunk]:
        usage = self._decoder.usage_chunk()
        if usage is not None:
            yield usage

    @contextlib.contextmanager
    def translated_failures(self) -> Iterator[None]:
        try:
            yield
        except (LlamaClientError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise library_failure(error) from error


def _release_all(leases: dict[EngineOptions, Lease]) -> None:
    while leases:
        leases.popitem()[1].release()
