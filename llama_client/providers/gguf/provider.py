"""The provider `gguf`: GGUF files, run inside this process."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import math
import os
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llama_client.clock import Clock, Deadline
from llama_client.config.provider_tables import GgufConfig
from llama_client.errors import APITimeoutError, LlamaClientError, ModelNotFoundError, ProviderError
from llama_client.local_only import ConnectionGuard
from llama_client.providers.base import AttemptFacts, Capabilities, Provider, ProviderCall, ServedModel
from llama_client.providers.gguf.adapters import Chosen, base_of, chosen, problem_of, require_chosen_by_name, variants
from llama_client.providers.gguf.answer_grammar import answer_grammar, require_some_text, with_misfit
from llama_client.providers.gguf.codec import (
    PARAMETERS,
    Decoder,
    capabilities,
    is_refused_beginning,
    library_failure,
    require_messages,
    require_values,
)
from llama_client.providers.gguf.engine import POLL_S, Body, Engine, EngineOptions, Generation, arun, closed_error, run
from llama_client.providers.gguf.engine_registry import EngineLease, lease
from llama_client.providers.gguf.header import real_path, size_of, stem_of
from llama_client.providers.gguf.identity import files_of, identity_of, library_version
from llama_client.providers.gguf.prompt import Prompt
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore, not_pulled
from llama_client.providers.wire.openai_codec import has_remote_images
from llama_client.reaper import Hold, Reaper
from llama_client.types.completion import ChatCompletionChunk
from llama_client.waiting import Event, await_event, wait_for_event

DEFAULT_MODEL = "default"
_log = logging.getLogger("llama_client.progress")
# A prompt that takes an hour to read, and one of a second, are each told in so many parts.
_PARTS_TOLD = 10


class GgufProvider(Provider):
    """GGUF files; a model is loaded at its first request and shared within the process."""

    def __init__(
        self, config: GgufConfig, store: ModelStore, clock: Clock, *, guard: ConnectionGuard | None = None
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._guard = guard or ConnectionGuard()
        self._lock = threading.Lock()
        self._models = _Models()
        self._loading: dict[tuple[int, str], _Loading] = {}
        self._running: set[AttemptFacts] = set()
        self._closed = False
        # Frees the models of a client that is dropped without being closed.
        self._reaper = Reaper()
        self._reaper.leave_with(self)
        self._hold: Hold | None = None

    def is_free(self, model: str) -> bool:
        return True

    def served_models(self) -> Sequence[ServedModel]:
        default = self._config.model_path
        sizes = {DEFAULT_MODEL: _size(default)} if default is not None else {}
        sizes |= {stored.name: stored.bytes for stored in self._store.all()}
        return [
            ServedModel(id_, size_bytes=size, is_loaded=self._known(model) is not None)
            for model, size in sizes.items()
            for id_ in variants(model, self._config.lora)
        ]

    async def aserved_models(self) -> Sequence[ServedModel]:
        return await asyncio.to_thread(self.served_models)

    def require(self, call: ProviderCall) -> None:
        """Checks what is known before the model is loaded; `_Answer` checks what depends on its template."""
        if has_remote_images(call.request):
            self._guard.refuse("remote_image", "images behind addresses")
        Capabilities(PARAMETERS).require(call)
        require_messages(call)
        require_chosen_by_name(call)
        require_some_text(call, self._clock.wall())

    def continues(self, model: str) -> bool:
        return True

    def model_identity(self, model: str) -> str | None:
        """The files, adapters and context. None: a file is missing, or has changed since the model was loaded."""
        if problem_of(model, self._config.lora) is not None:
            return None
        wanted = chosen(model, self._config.lora)
        known = self._known(wanted.base)
        try:
            options = self._options(self._path_of(wanted.base))
            files = files_of(options.model_path, options.deciding_files)
        except (ModelNotFoundError, OSError):
            return None
        if known is not None and known.lease.engine.files != files:
            return None
        scales = wanted.fields or [each.scale for each in self._config.lora]
        return json.dumps([*map(identity_of, files), scales, options.n_ctx, library_version()])

    def counts_tokens(self, model: str) -> bool:
        return self._counting(model) is not None

    def count_tokens(self, call: ProviderCall) -> int | None:
        """By the model's own template and tokenizer, where it is loaded: it is not loaded for that."""
        model = self._counting(call.model)
        return None if model is None else Prompt(call, model.lease.engine).count()

    def _counting(self, model: str) -> _Model | None:
        """The loaded model that counts for an id; none for adapters that are not there, which no call takes."""
        return None if problem_of(model, self._config.lora) is not None else self._known(base_of(model))

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        try:
            self._running.add(call.facts)
            yield from self._chunks(call)
        finally:
            self._running.discard(call.facts)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        try:
            self._running.add(call.facts)
            async with contextlib.aclosing(self._achunks(call)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._running.discard(call.facts)

    def _chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        deadline = Deadline(call.timeout_s, self._clock, call.whole_timeout_s)
        wanted = chosen(call.model, self._config.lora)
        model = self._known(wanted.base)
        if model is None:
            with self._timed_loading(call):
                model = self._wait(self._load(wanted.base), deadline, call)
        answer = _Answer(call, model, wanted, deadline, self._clock)
        with answer.translated_failures():
            if answer.prompt.has_new_form:
                answer.prompt.learn()
            for body, slots in answer.groups():
                with contextlib.closing(answer.run(body, slots)) as raw_chunks:
                    for raw in raw_chunks:
                        chunk = answer.feed(raw)
                        if chunk is not None:
                            yield chunk
                            answer.next_requested()
        usage = answer.decoder.usage_chunk()
        if usage is not None:
            yield usage

    async def _achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        deadline = Deadline(call.timeout_s, self._clock, call.whole_timeout_s)
        wanted = chosen(call.model, self._config.lora)
        model = self._known(wanted.base)
        if model is None:
            with self._timed_loading(call):
                model = await self._await(self._load(wanted.base), deadline)
        answer = _Answer(call, model, wanted, deadline, self._clock)
        with answer.translated_failures():
            if answer.prompt.has_new_form:
                await asyncio.to_thread(answer.prompt.learn)
            for body, slots in answer.groups():
                async with contextlib.aclosing(answer.arun(body, slots)) as raw_chunks:
                    async for raw in raw_chunks:
                        chunk = answer.feed(raw)
                        if chunk is not None:
                            yield chunk
                            answer.next_requested()
        usage = answer.decoder.usage_chunk()
        if usage is not None:
            yield usage

    def close(self) -> None:
        """Stops running answers and releases the models; the last lease of a model frees it."""
        with self._lock:
            self._closed = True
        for facts in list(self._running):
            facts.cancel()
        self._models.end()
        if self._hold is not None:
            self._reaper.release(self._hold)
        self._reaper.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    @contextlib.contextmanager
    def _timed_loading(self, call: ProviderCall) -> Iterator[None]:
        started = self._clock.monotonic()
        call.facts.is_loading = True
        try:
            yield
        except APITimeoutError:  # still loading, which is not a failure of the target
            raise
        except ProviderError:
            call.facts.is_loading = False
            raise
        call.facts.is_loading = False
        call.facts.load_s = self._clock.monotonic() - started

    def _known(self, model: str) -> _Model | None:
        known = self._models.loaded.get(model)
        return known if known is not None and known.lease.is_usable else None

    def _load(self, model: str) -> _Loading:
        """Loads a model, once for all calls that wait for it."""
        # In a thread: an interrupt while the library loads could deadlock it; an interrupted wait leaves it loading.
        # A process forked during a load has the entry of that load, but not its thread.
        key = (os.getpid(), model)
        with self._lock:
            loading = self._loading.get(key)
            if loading is None:
                loading = _Loading()
                try:
                    self._loading[key] = loading
                    threading.Thread(target=self._load_now, args=(key, loading), name="llama-client-load").start()
                except BaseException:
                    # Interrupted, the thread may run all the same, and then finds that nothing waits for it.
                    self._loading.pop(key, None)
                    raise
            return loading

    def _load_now(self, key: tuple[int, str], loading: _Loading) -> None:
        with self._lock:
            if self._loading.get(key) is not loading:
                return
        try:
            loading.model = self._open(key[1])
        except BaseException as error:  # noqa: BLE001 - raised by each call that waits
            loading.failure = error
        with self._lock:
            del self._loading[key]
        loading.set()

    def _wait(self, loading: _Loading, deadline: Deadline, call: ProviderCall) -> _Model:
        while not loading.is_set:
            if call.facts.is_stopped:
                raise closed_error()
            left = deadline.remaining_s()
            wait_for_event(loading, POLL_S if left is None else min(POLL_S, left))
        return loading.result()

    async def _await(self, loading: _Loading, deadline: Deadline) -> _Model:
        while not loading.is_set:
            left = deadline.remaining_s()
            await await_event(loading, math.inf if left is None else left)
        return loading.result()

    def _open(self, model: str) -> _Model:
        path = self._path_of(model)
        new = lease(self._options(path))
        with self._lock:
            if not self._closed:
                opened = self._models.loaded[model] = _Model(new, stem_of(path) if model == DEFAULT_MODEL else model)
                if self._hold is None:
                    self._hold = self._reaper.hold(self, self._models)
                return opened
        new.release()
        raise closed_error()

    def _options(self, path: Path) -> EngineOptions:
        config = self._config
        return EngineOptions(
            model_path=real_path(path),
            n_ctx=config.n_ctx,
            n_parallel=config.n_parallel,
            n_gpu_layers=config.n_gpu_layers,
            n_threads=config.n_threads,
            mmproj=real_path(config.mmproj) if config.mmproj else None,
            # One with a name is off unless a request switches it on, so that all requests share the engine.
            lora=tuple((real_path(each.path), each.scale if each.name is None else 0.0) for each in config.lora),
            draft_model_path=real_path(config.draft_model_path) if config.draft_model_path else None,
            draft_tokens=config.draft_tokens,
            prompt_cache_mib=config.prompt_cache_mib,
        )

    def _path_of(self, model: str) -> Path:
        if model == DEFAULT_MODEL and self._config.model_path is not None:
            return self._config.model_path
        name = DEMO_NAME if model == DEFAULT_MODEL else model
        stored = self._store.find(name)
        if stored is None:
            raise ModelNotFoundError(": ".join(not_pulled(name, [DEFAULT_MODEL, *self._store.names()])))
        return stored.path


@dataclass(frozen=True, slots=True)
class _Model:
    lease: EngineLease
    name: str  # in answers


class _Loading(Event):
    """A model that is being loaded. The event is the end of that."""

    __slots__ = ("failure", "model")

    def __init__(self) -> None:
        super().__init__()
        self.model: _Model | None = None
        self.failure: BaseException | None = None

    def result(self) -> _Model:
        if self.model is None:
            assert self.failure is not None
            # Each call gets a copy of its own, to which its own attempts are added.
            raise copy.copy(self.failure) from self.failure
        return self.model


class _Answer:
    def __init__(self, call: ProviderCall, model: _Model, wanted: Chosen, deadline: Deadline, clock: Clock) -> None:
        self._lease = model.lease
        self._engine: Engine = model.lease.engine
        self._call = call
        self._deadline = deadline
        self._clock = clock
        self._asked_at: float | None = None
        self._generation: Generation | None = None
        self._has_content = False
        self._adapters = wanted.fields
        self._parts_told = 0
        self.decoder = Decoder(call, model.name + wanted.suffix)
        first_content_s, left = call.first_content_s, deadline.left_s()
        if first_content_s is not None and (left is None or first_content_s < left):
            # Only now: the whole attempt's time is available for loading the model.
            deadline.restart(first_content_s)
        capabilities(self._engine.template_abilities).require(call)
        require_values(call, sees_images=self._engine.sees_images)
        self.prompt = Prompt(call, self._engine)
        # Whether the answer was begun for the model, and whether llama.cpp did not take that.
        self._is_begun = self._cannot_begin = False

    def groups(self) -> Iterator[tuple[Body, int]]:
        first_index = 0
        messages = with_misfit(self._call, self.prompt.messages())
        form = answer_grammar(self._call, self._clock.wall(), self._engine.answer_frame)
        for body, choices in self.prompt.bodies:
            for begun in self._beginnings():
                self.decoder.begin_group(first_index, choices)
                self._asked_at = self._clock.monotonic()
                yield {**body, **form, **self._adapters, "messages": [*messages, *begun]}, choices
            first_index += choices

    def _beginnings(self) -> Iterator[list[Body]]:
        """With what the answer begins; again with nothing where llama.cpp does not take that."""
        begun = self.prompt.beginning()
        if begun:
            self._is_begun, self._cannot_begin = True, False
            yield begun
            self._is_begun = False
            if not self._cannot_begin:
                return
            self.prompt.forget_beginning()
        yield []

    def run(self, body: Body, slots: int) -> Generator[Body | Generation]:
        return run(self._engine, body, slots=slots, owner=self._lease, deadline=self._deadline, facts=self._call.facts)

    def arun(self, body: Body, slots: int) -> AsyncGenerator[Body | Generation]:
        return arun(self._engine, body, slots=slots, owner=self._lease, deadline=self._deadline, facts=self._call.facts)

    def feed(self, raw: Body | Generation) -> ChatCompletionChunk | None:
        if isinstance(raw, Generation):
            self._generation = raw
            facts = self._call.facts
            facts.sent = True
            if facts.queue_s is None and self._asked_at is not None:
                facts.queue_s = self._clock.monotonic() - self._asked_at
            return None
        if "prompt_progress" in raw:
            self._log_progress(raw["prompt_progress"])
        if self._is_begun and is_refused_beginning(raw):
            self._cannot_begin = True
            return None
        chunk = self.decoder.feed(raw)
        if self.decoder.is_holding or (chunk is not None and chunk.has_content):
            if self._call.request.stream:
                self._has_content = True
                # Of what is held the reader sees nothing, and so asks for nothing.
                self._deadline.restart(self._call.stall_s if chunk is None else None)
            elif self._generation is not None and self._generation.held_back is None:
                self._generation.held_back = []
        return chunk

    def _log_progress(self, progress: Body) -> None:
        """Logs each tenth of a prompt that is read, until all of it is."""
        total, done, cached = (progress.get(name) for name in ("total", "processed", "cache"))
        if not (isinstance(total, int) and isinstance(done, int) and done < total):
            return
        parts = done * _PARTS_TOLD // total
        # The first report is of what was read before.
        if parts > self._parts_told and done != cached:
            self._parts_told = parts
            shown = {"request_id": self._call.request_id, "target": self._call.target}
            extra = {**shown, "read_tokens": done, "prompt_tokens": total, "cached_tokens": cached}
            _log.debug("%s %s has read %d of %d tokens of the prompt", *shown.values(), done, total, extra=extra)

    def next_requested(self) -> None:
        """The reader asks for the next chunk: the stall timeout begins."""
        if self._has_content:
            self._deadline.restart(self._call.stall_s)

    @contextlib.contextmanager
    def translated_failures(self) -> Iterator[None]:
        try:
            yield
        except (LlamaClientError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise library_failure(error) from error


def _size(path: Path) -> int | None:
    try:
        return size_of(real_path(path))
    except OSError:
        return None


@dataclass(slots=True, eq=False)
class _Models:
    """A provider's models, which outlive it until they are freed."""

    loaded: dict[str, _Model] = field(default_factory=dict)

    def end(self) -> None:
        for name, model in list(self.loaded.items()):
            model.lease.release()
            self.loaded.pop(name, None)
