"""A GGUF model loaded in this process: loading, generation, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import queue
import re
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from llama_client.clock import Deadline
from llama_client.errors import APIConnectionError, MissingExtraError, ModelLoadError, OverloadedError
from llama_client.providers.base import AttemptFacts
from llama_client.providers.gguf.chat_template import ChatTemplate
from llama_client.providers.gguf.header import (
    GgufHeader,
    read_header,
    read_model,
    require_same_vocabulary,
    unusable,
)
from llama_client.providers.gguf.identity import ModelFile, files_of
from llama_client.providers.gguf.schemas.frames import frame_of
from llama_client.providers.gguf.slots import Slots
from llama_client.providers.gguf.threads import choose_threads
from llama_client.providers.gguf.tool_calling import UNPARSED
from llama_client.waiting import awaken

# The context without `n_ctx`: enough for a long chat, and 1 GiB of cache for an 8B model.
DEFAULT_CONTEXT_TOKENS = 8192
# A prompt can be stopped after each batch, when its progress is reported. On a CPU, batches of 256 tokens have 0.98 of
# the speed of the library's 512 (measured, 135M model) and end twice as soon; a GPU needs the larger ones.
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 256, 512
_DIAGNOSIS_TIMEOUT_S = 120.0
_SILENT, _ERRORS_ONLY = 0, 1
# A line of llama.cpp's log at level "error": `0.00.121.281 E llama_model_load: error loading model: ...`.
_LOG_ERROR = re.compile(r"^[\d.]+ E (?:\S+ +)*?\w+: (?:error loading model: |error: )?(?P<reason>.+)$")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    model_path: Path
    n_ctx: int | None = None
    n_parallel: int = 1
    n_gpu_layers: int | None = None
    n_threads: int | None = None
    mmproj: Path | None = None
    lora: tuple[tuple[Path, float], ...] = ()
    draft_model_path: Path | None = None
    draft_tokens: int = 3
    prompt_cache_mib: int = 0

    @property
    def deciding_files(self) -> list[Path]:
        """What decides the answers beside the model itself: not the draft model, which only proposes."""
        adapters = [path for path, _ in self.lora]
        return adapters if self.mmproj is None else [*adapters, self.mmproj]


def _load_server(options: EngineOptions, api_key: str) -> Any:
    xllamacpp = _library()
    header = read_model(options.model_path)
    _check_kinds(options, header)
    n_ctx = options.n_ctx or min(header.context_tokens or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)
    parameters = _parameters(xllamacpp, options, n_ctx, verbosity=_SILENT)
    parameters.api_keys = [api_key]
    try:
        with _TEXTS_OF_SLOTS:
            return xllamacpp.Server(parameters)
    except Exception as error:
        # The library's message is the same in all cases: "Failed to init server, please check the input params."
        reason = _diagnose(options, n_ctx) or "llama.cpp refused it without a reason"
        raise unusable(options.model_path, reason) from error


class _Variable:
    """A variable of the environment that the library, or what it loads, reads at one moment; set for that time."""

    def __init__(self, name: str, value: str, *others: str) -> None:
        """Where it or one of the others is set already, `value` is not used: that is the user's own choice."""
        self._name, self._value, self._others = name, value, others
        self._lock = threading.Lock()
        self._users = 0
        self._is_set = False

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0 and not any(os.environ.get(name) for name in (self._name, *self._others)):
                os.environ[self._name], self._is_set = self._value, True
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._is_set:
                os.environ.pop(self._name, None)
                self._is_set = False


# A server that is made with it tells what its slots have written, of which it has no other parameter.
_TEXTS_OF_SLOTS = _Variable("LLAMA_SERVER_SLOTS_DEBUG", "1")
# OpenMP's threads wait for each other by spinning, for milliseconds: where other programs want the cores, that takes
# them from the thread that is waited for. So shortly an idle machine is as fast as ever, and one with six busy programs
# on two cores six times as fast as with 30,000 (measured, 135M model).
_SHORT_SPINS = _Variable("GOMP_SPINCOUNT", "1000", "OMP_WAIT_POLICY")


def _library() -> Any:
    try:
        with _SHORT_SPINS:
            import xllamacpp
    except ImportError as error:
        raise MissingExtraError(
            'running GGUF files needs the "gguf" extra: pip install "llama-client[gguf]"', extra="gguf"
        ) from error
    return xllamacpp


def _check_kinds(options: EngineOptions, header: GgufHeader) -> None:
    if header.is_adapter:
        why = "it is a LoRA adapter, not a model; name the model in model_path and the adapter in lora"
        raise unusable(options.model_path, why)
    if options.mmproj is not None:
        read_header(options.mmproj)
    for path, _ in options.lora:
        if not read_header(path).is_adapter:
            raise ModelLoadError(f"cannot load {path} as a LoRA adapter: it is not one", path=str(path))
    if options.draft_model_path is not None:
        if read_model(options.draft_model_path).is_adapter:
            raise unusable(options.draft_model_path, "it is a LoRA adapter, not a model that could draft")
        require_same_vocabulary(options.model_path, options.draft_model_path)


def _parameters(xllamacpp: Any, options: EngineOptions, n_ctx: int, *, verbosity: int) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.verbosity = verbosity
    parameters.model.path = str(options.model_path)
    # The model's name in answers, which would otherwise be the file's path.
    parameters.model_alias = {options.model_path.stem}
    # The library divides its context among its slots; `n_ctx` is for one request.
    parameters.n_ctx = n_ctx * options.n_parallel
    parameters.n_parallel = options.n_parallel
    on_gpu = any("GPU" in device["type"].name for device in xllamacpp.get_device_info())
    parameters.n_batch = _GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS
    # Loads the model once without its weights to find out what fits on the devices. Without one nothing comes of it, as
    # the context is given, and it takes a third of the load (measured, 135M model: 0.3 of 1.0 s).
    parameters.fit_params = on_gpu
    # The default keeps up to 8 GiB of earlier prompts in memory; each slot still keeps its last one.
    parameters.cache_ram_mib = options.prompt_cache_mib
    # Those of slots that are about to be taken, not of all idle ones before each request.
    parameters.cache_idle_slots = False
    parameters.ui = False
    if options.n_gpu_layers is not None:
        parameters.n_gpu_layers = options.n_gpu_layers
    n_threads = choose_threads(options.n_threads).n_threads
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = n_threads
    if options.mmproj is not None:
        parameters.mmproj.path = str(options.mmproj)
    if options.lora:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), scale) for path, scale in options.lora]
    if options.draft_model_path is not None:
        _set_draft(xllamacpp, parameters, options)
    return parameters


def _set_draft(xllamacpp: Any, parameters: Any, options: EngineOptions) -> None:
    parameters.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    draft = parameters.speculative.draft
    draft.mparams.path = str(options.draft_model_path)
    draft.n_max = options.draft_tokens
    draft.n_gpu_layers = parameters.n_gpu_layers
    draft.cpuparams.n_threads = parameters.cpuparams.n_threads
    draft.cpuparams_batch.n_threads = parameters.cpuparams_batch.n_threads


def _diagnose(options: EngineOptions, n_ctx: int) -> str | None:
    """The library's reason for refusing a model, from the log of a child process that loads it again."""
    # Redirecting this process's own stderr would lose what other threads write meanwhile.
    if getattr(sys, "frozen", False) or not Path(sys.executable or "").stem.startswith("python"):
        return None
    code = f"from {__name__} import load_with_log; load_with_log()"
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter and this module
            [sys.executable, "-P", "-c", code],  # -P: import nothing from the working folder
            input=json.dumps(asdict(replace(options, n_ctx=n_ctx)), default=str),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DIAGNOSIS_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return reason_in_log(child.stderr)


def reason_in_log(log: str) -> str | None:
    """The first error in llama.cpp's log, without its prefix."""
    matches = (_LOG_ERROR.match(line) for line in log.splitlines())
    return next((match["reason"].strip() for match in matches if match), None)


def load_with_log() -> None:
    """Loads the model whose options are on standard input, with the log on standard error. For `_diagnose`."""
    options = TypeAdapter(EngineOptions).validate_json(sys.stdin.read())
    assert options.n_ctx is not None
    xllamacpp = _library()
    try:
        _kept = xllamacpp.Server(_parameters(xllamacpp, options, options.n_ctx, verbosity=_ERRORS_ONLY))
    except RuntimeError:
        # By the usual end, as a thread of the library's writes its log, and is waited for there.
        sys.exit(1)
    # Without the server's destructor, which may wait for ever for a server that had no request.
    os._exit(0)


# With more requests waiting for a slot something is wrong, and a quick refusal is better than a long queue.
_MAX_WAITING = 1024
# Ctrl-C cannot interrupt the wait for a lock on Windows, so waits are done in steps.
POLL_S = 0.25
# How long `close` waits for generations to stop: one batch of a prompt on a slow machine.
_CLOSE_WAIT_S = 10.0
# Chunks that come more than twice as quickly reach the reader together, after so long: too soon for people to see.
_GATHERING_S = 0.03
_LOOPBACK_TIMEOUT_S = 10.0
# A parameter that has no effect here, as the context is never shifted. `/slots` tells it, and so which slot is whose.
_TAG = "n_discard"
_tags = itertools.count(1)

Body = dict[str, Any]


@dataclass(slots=True, eq=False)
class Generation:
    """One generation: it waits for its slots, runs in a thread, and stops soon after `Engine.cancel`."""

    body: Body
    slots: int
    owner: object
    deliver: Callable[[_Item], object]
    cancelled: bool = False
    # A list: all further chunks are delivered at the end, so that the reader of a whole answer wakes up once.
    held_back: list[Body] | None = None
    thread: threading.Thread | None = None
    # None: llama.cpp chooses it.
    slot: int | None = None


# What an inbox holds; None: the end of the chunks.
_Item = Body | list[Body] | Exception | Generation | None


def closed_error() -> APIConnectionError:
    return APIConnectionError("the client was closed before the answer was complete")


class Engine:
    def __init__(self, options: EngineOptions) -> None:
        self._api_key = secrets.token_urlsafe(32)
        # As they are when they are read: one may be replaced later. None: one is missing.
        self.files: Sequence[ModelFile] | None = None
        with contextlib.suppress(OSError):
            self.files = files_of(options.model_path, options.deciding_files)
        self._server: Any = _load_server(options, self._api_key)
        self.n_parallel = options.n_parallel
        self._lock = threading.Lock()
        self._waiting: deque[Generation] = deque()
        self._running: set[Generation] = set()
        self._slots = Slots(options.n_parallel)
        self._closed = False
        self._main_thread = threading.main_thread()
        # Destroying a server before its own loop runs deadlocks in the library (the stop signal is lost). This request
        # goes through that loop, so from here on closing is safe.
        self.request_server("GET", "/slots")
        properties = self.request_server("GET", "/props")
        self.n_ctx = int(properties["default_generation_settings"]["n_ctx"])
        self.template_abilities: dict[str, bool] = properties.get("chat_template_caps", {})
        self.sees_images = bool(properties.get("modalities", {}).get("vision"))
        render = partial(self.request_server, "POST", "/apply-template")
        self.template = ChatTemplate(render, self.template_abilities)
        made = render({"messages": [{"role": "user", "content": "."}]})
        self.answer_frame = frame_of(str(properties.get("chat_template")), str(made.get("prompt")))

    def request_server(self, method: str, path: str, body: Body | None = None) -> Any:
        """Requests what the library offers only through its loopback server; only this process has the key."""
        host, _, port = str(self._server.listening_address).removeprefix("http://").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_LOOPBACK_TIMEOUT_S)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            return json.loads(connection.getresponse().read())

    def count_tokens(self, body: Body) -> int | None:
        """The tokens of a body's prompt, by the model's own template and tokenizer; None: it is refused."""
        counted = self.request_server("POST", "/chat/completions/input_tokens", body)
        tokens = counted.get("input_tokens")
        return tokens if isinstance(tokens, int) else None

    def _written(self, tag: int) -> Body | None:
        """What the slot of a generation has written; None: unknown."""
        try:
            slots = self.request_server("GET", "/slots")
            # One that was never used has no parameters.
            slot = next(each for each in slots if each.get("params", {}).get(_TAG) == tag)
            tokens = slot["n_prompt_tokens"]
            return {"text": slot["generated"], "slot_tokens": tokens, "is_full": tokens + 1 >= slot["n_ctx"]}
        except (OSError, ValueError, AttributeError, LookupError, StopIteration, http.client.HTTPException):
            return None

    def start(self, generation: Generation) -> None:
        """Queues a generation; it starts when its slots are free, in the order of arrival."""
        with self._lock:
            if self._closed:
                raise closed_error()
            if len(self._waiting) >= _MAX_WAITING:
                raise OverloadedError(f"{_MAX_WAITING} requests are already waiting for this model")
            self._waiting.append(generation)
            self._start_waiting()

    def cancel(self, generation: Generation) -> None:
        """Stops a generation: at once if it waits, else after the current token or batch of the prompt."""
        generation.cancelled = True
        with self._lock:
            if generation in self._waiting:
                self._waiting.remove(generation)
                self._start_waiting()

    def abort(self, owner: object) -> None:
        """Stops all generations of one owner; their readers get an error."""
        with self._lock:
            waiting = [generation for generation in list(self._waiting) if generation.owner is owner]
            running = [generation for generation in list(self._running) if generation.owner is owner]
            for generation in waiting:
                self._waiting.remove(generation)
            self._start_waiting()
        for generation in waiting + running:
            generation.cancelled = True
            generation.deliver(closed_error())

    def close(self) -> None:
        """Frees the model. Call `abort` for all owners first."""
        with self._lock:
            self._closed = True
            threads = [generation.thread for generation in list(self._running)]
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join(_CLOSE_WAIT_S)
        # A thread that has not stopped yet holds the server until it does, and frees it then.
        self._server = None

    def _start_waiting(self) -> None:
        while self._waiting:
            generation = self._waiting[0]
            if generation.slots > self.n_parallel - sum(each.slots for each in self._running):
                return
            # llama.cpp works on requests with the same adapters only at once: the others would wait within it, out of
            # turn and of the time that they may take.
            if any(each.body.get("lora") != generation.body.get("lora") for each in self._running):
                return
            generation.slot = self._slots.choose(generation.body, {each.slot for each in self._running})
            # First, so that an interrupt finds it there, with or without a thread.
            self._running.add(generation)
            self._waiting.popleft()
            generation.thread = threading.Thread(
                target=self._run, args=(generation, self._server), name="llama-client-gguf", daemon=False
            )
            try:
                generation.thread.start()
            except BaseException as error:
                # Interrupted, the thread may run all the same, and then finds that it is not to.
                self._running.discard(generation)
                if not isinstance(error, RuntimeError):
                    raise
                # No more threads are available.
                generation.deliver(OverloadedError(f"cannot start a thread for the request: {error}"))

    def _run(self, generation: Generation, server: Any) -> None:
        tag, unparsed = next(_tags), list[Body]()

        def receive(chunk: Body) -> bool:
            if "error" in chunk and UNPARSED in str(chunk["error"].get("message")):
                unparsed.append(chunk)
                return True
            if "tools" in generation.body and _is_cut(chunk):
                chunk["written"] = self._written(tag)
            if generation.held_back is not None:
                generation.held_back.append(chunk)
            elif not generation.cancelled:
                generation.deliver(chunk)
            return generation.cancelled or not self._main_thread.is_alive()

        with self._lock:
            if generation not in self._running:
                return
        generation.deliver(generation)
        failure: Exception | None = None
        try:
            if not generation.cancelled:
                chosen = {} if generation.slot is None else {"id_slot": generation.slot}
                server.handle_chat_completions({**generation.body, **chosen, _TAG: tag}, receive)
        except Exception as error:  # noqa: BLE001 - raised in the reader's thread
            failure = error
        del server
        if generation.held_back:
            generation.deliver(generation.held_back)
        if unparsed and not generation.cancelled:
            # While the slot is still its own.
            written = self._written(tag)
            generation.deliver(unparsed[0] if written is None else {"unparsed": written})
        with self._lock:
            self._running.discard(generation)
            if not self._closed:
                self._start_waiting()
        if failure is not None:
            generation.deliver(failure)
        generation.deliver(None)


def _is_cut(chunk: Body) -> bool:
    """Whether a chunk ends an answer at its longest: what might have become a call is not told then."""
    return any(choice.get("finish_reason") == "length" for choice in chunk.get("choices") or ())


class _Inbox:
    """Chunks on their way from the engine's thread to the reader, which takes quick ones several at a time."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        # Bounded by its content: at most one chunk for each token of the context.
        self._items: deque[_Item] = deque()
        # Whether the next chunk wakes the reader; everything else always does.
        self._is_awaited = False
        self._taken_at: float | None = None

    def put(self, item: _Item) -> None:
        self._items.append(item)
        if self._is_awaited or not isinstance(item, dict):
            self._is_awaited = False
            self._wake()

    def take(self) -> list[_Item]:
        items = [self._items.popleft() for _ in range(len(self._items))]
        # Set before the last look: a chunk that comes after it wakes the reader.
        self._is_awaited = not items
        return items or [self._items.popleft() for _ in range(len(self._items))]

    def pause_s(self, taken: int) -> float:
        """How long to let chunks gather: each wake of the reader takes time from the threads that compute."""
        now, before = time.monotonic(), self._taken_at
        self._taken_at = now
        return _GATHERING_S if before is not None and now - before < taken * _GATHERING_S / 2 else 0.0


def run(
    engine: Engine, body: Body, *, slots: int, owner: object, deadline: Deadline, facts: AttemptFacts
) -> Generator[Body | Generation]:
    """Runs one generation and yields the generation itself when it starts, then its chunks."""
    woken: queue.SimpleQueue[None] = queue.SimpleQueue()
    inbox = _Inbox(partial(woken.put, None))
    generation = Generation(body, slots, owner, inbox.put)
    try:
        engine.start(generation)
        facts.stop = partial(_stop, engine, generation)
        while True:
            left = deadline.remaining_s()
            _require_running(facts)
            items = inbox.take()
            for item in items:
                if item is None:
                    return
                for chunk in _chunks(item):
                    # The reader may be slow: what has gathered is not for one that was stopped meanwhile.
                    _require_running(facts)
                    yield chunk
            pause_s = inbox.pause_s(len(items)) if items else POLL_S if left is None else min(POLL_S, left)
            if pause_s:
                with contextlib.suppress(queue.Empty):
                    woken.get(timeout=pause_s)
    finally:
        facts.stop = None
        engine.cancel(generation)


async def arun(
    engine: Engine, body: Body, *, slots: int, owner: object, deadline: Deadline, facts: AttemptFacts
) -> AsyncGenerator[Body | Generation]:
    """`run` for an event loop, which it never blocks."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(awaken, woken)
        except RuntimeError:  # the loop is closed, so nothing reads the inbox
            generation.cancelled = True

    inbox = _Inbox(wake)
    generation = Generation(body, slots, owner, inbox.put)
    try:
        engine.start(generation)
        facts.stop = partial(_stop, engine, generation)
        while True:
            left = deadline.remaining_s()
            _require_running(facts)
            woken.clear()
            items, turn_at = inbox.take(), loop.time() + _GATHERING_S
            for item in items:
                if item is None:
                    return
                for chunk in _chunks(item):
                    _require_running(facts)
                    yield chunk
                    if loop.time() > turn_at:
                        # The reader's own work is slow; other tasks have theirs.
                        await asyncio.sleep(0)
                        turn_at = loop.time() + _GATHERING_S
            pause_s = inbox.pause_s(len(items)) if items else left
            if pause_s == 0:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await woken.wait()
    finally:
        facts.stop = None
        engine.cancel(generation)


def _require_running(facts: AttemptFacts) -> None:
    if facts.is_stopped:
        raise closed_error()


def _stop(engine: Engine, generation: Generation) -> None:
    """Stops a generation from another thread or task; its reader gets an error."""
    engine.cancel(generation)
    generation.deliver(closed_error())


def _chunks(item: Body | list[Body] | Exception | Generation) -> Sequence[Body | Generation]:
    if isinstance(item, Exception):
        raise item
    return item if isinstance(item, list) else (item,)
