"""The provider `gguf`: GGUF files, run inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import dataclass
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
        self._models: dict[str, _Model] = {}
        self._loading: dict[str, asyncio.Task[_Model]] = {}
        self._closed = False
        # Whoever drops a client without closing it gets the memory back all the same.
        weakref.finalize(self, _release_all, self._models)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        """Answers, blocking. See `Provider`."""
        Capabilities(PARAMETERS).require(call)
        deadline = Deadline(call.timeout_s, self._clock)
        model = self._known(call.model)
        if model is None:
            with self._timed_loading(call):
                model = self._open(call.model)
        answer = _Answer(call, model, deadline, self._clock)
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
        Capabilities(PARAMETERS).require(call)
        deadline = Deadline(call.timeout_s, self._clock)
        model = self._known(call.model)
        if model is None:
            with self._timed_loading(call):
                model = await self._aopen(call.model, deadline)
        answer = _Answer(call, model, deadline, self._clock)
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
        _release_all(self._models)

    async def aclose(self) -> None:
        """The same, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    @contextlib.contextmanager
    def _timed_loading(self, call: ProviderCall) -> Iterator[None]:
        started = self._clock.monotonic()
        yield
        call.facts.load_s = self._clock.monotonic() - started

    def _known(self, model: str) -> _Model | None:
        known = self._models.get(model)
        return known if known is not None and known.lease.is_usable else None

    def _open(self, model: str) -> _Model:
        """Finds and loads a model, or shares it where it is loaded; once for each name. Blocks."""
        path = self._path_of(model)
        new = lease(self._options(path))
        with self._lock:
            known = self._known(model)
            if known is None and not self._closed:
                known = self._models[model] = _Model(new, path.stem if model == DEFAULT_MODEL else model)
                return known
        new.release()
        if known is None:
            raise InvalidRequestError("the client was closed")
        return known

    async def _aopen(self, model: str, deadline: Deadline) -> _Model:
        loading = self._loading.get(model)
        if loading is None:
            # One thread for all who wait, as the loop's threads are few and others need them too.
            loading = self._loading[model] = asyncio.create_task(asyncio.to_thread(self._open, model))
            loading.add_done_callback(lambda task: self._loaded(model, task))
        try:
            # Where one wait is cut short the others' goes on, and the model is there for the next request.
            async with asyncio.timeout(deadline.remaining_s()):
                return await asyncio.shield(loading)
        except TimeoutError:
            deadline.remaining_s()
            raise

    def _loaded(self, model: str, task: asyncio.Task[_Model]) -> None:
        del self._loading[model]
        if not task.cancelled():
            task.exception()  # seen here, or asyncio complains where nobody waits any more

    def _options(self, path: Path) -> EngineOptions:
        config = self._config
        return EngineOptions(
            model_path=path.resolve(),
            n_ctx=config.n_ctx,
            n_parallel=config.n_parallel,
            n_gpu_layers=config.n_gpu_layers,
            n_threads=config.n_threads,
            mmproj=config.mmproj.resolve() if config.mmproj else None,
            lora=tuple((adapter.path.resolve(), adapter.scale) for adapter in config.lora),
        )

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


@dataclass(frozen=True, slots=True)
class _Model:
    """A loaded model, and what its answers call it."""

    lease: Lease
    name: str


class _Answer:
    """One request on a loaded engine: what the two colours of the provider share."""

    def __init__(self, call: ProviderCall, model: _Model, deadline: Deadline, clock: Clock) -> None:
        self.lease = model.lease
        self.engine: Engine = model.lease.engine
        self._call = call
        self._deadline = deadline
        self._clock = clock
        self._asked_at: float | None = None
        self._decoder = Decoder(call, model.name)
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


def _release_all(models: dict[str, _Model]) -> None:
    while models:
        models.popitem()[1].lease.release()
