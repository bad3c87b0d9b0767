"""A GGUF model that runs inside this process: generations wait for slots, run, and are stopped.

Each generation has a thread of its own, as the library's call blocks, and hands its chunks to an inbox: a plain queue
for synchronous callers, a loop's queue for asynchronous ones. The generators that read the inboxes are at the end.

What was measured about xllamacpp and shapes this file: its call ends when the callback returns True; a Ctrl-C inside
the callback is swallowed, so callers never run it themselves; a call without a callback cannot be stopped, so every
call has one; daemon threads abort the interpreter at exit, so ours are not, and stop once the main thread has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import queue
import secrets
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from functools import partial
from typing import Any

from llama_client.clock import Deadline
from llama_client.errors import APIConnectionError, OverloadedError
from llama_client.providers.base import AttemptFacts
from llama_client.providers.gguf.loading import EngineOptions, load_server

# More callers than this wait for a slot: something is wrong, and a quick refusal is better than a long queue.
_MAX_WAITING = 1024
# A lock's wait cannot be interrupted by Ctrl-C on Windows; so wait in steps.
POLL_S = 0.25
# How long closing waits for generations to notice: one batch of a prompt on a slow machine.
_CLOSE_WAIT_S = 10.0
_LOOPBACK_TIMEOUT_S = 10.0

Body = dict[str, Any]


class _Ended:
    """What an inbox gets after the last chunk."""


_ENDED = _Ended()


class Generation:
    """One run: it waits for its slots, runs in a thread, and stops soon after `Engine.cancel`."""

    def __init__(self, body: Body, slots: int, owner: object, deliver: Callable[[_Item], object]) -> None:
        self.body = body
        self.slots = slots
        self.owner = owner
        self.deliver = deliver
        self.cancelled = False
        self.held_back: list[Body] | None = None
        self.thread: threading.Thread | None = None

    def hold_back(self) -> None:
        """From here on hands everything over at the end: who reads a whole answer need not be woken at each word."""
        if self.held_back is None:
            self.held_back = []


_Item = Body | list[Body] | Exception | Generation | _Ended


def closed_error() -> APIConnectionError:
    """What who reads an answer gets when its client is closed."""
    return APIConnectionError("the client was closed before the answer was complete")


class Engine:
    """A loaded model. Made by `lease`, never directly."""

    def __init__(self, options: EngineOptions) -> None:
        self._api_key = secrets.token_urlsafe(32)
        self._server: Any = load_server(options, self._api_key)
        self.n_parallel = options.n_parallel
        # Re-entrant: the garbage collector may drop a client, and so come back here, at any allocation.
        self._lock = threading.RLock()
        self._free_slots = options.n_parallel
        self._waiting: deque[Generation] = deque()
        self._running: set[Generation] = set()
        self._closed = False
        self._main_thread = threading.main_thread()
        # Destroying a server whose own loop has not begun deadlocks in the library (it loses the order to stop). This
        # goes through that loop, so from here on closing is safe.
        self.ask_server("GET", "/slots")
        properties = self.ask_server("GET", "/props")
        self.n_ctx = int(properties["default_generation_settings"]["n_ctx"])
        self.template_abilities: dict[str, bool] = properties.get("chat_template_caps", {})
        self.sees_images = bool(properties.get("modalities", {}).get("vision"))

    def ask_server(self, method: str, path: str, body: Body | None = None) -> Any:
        """What the library offers only through the loopback server that it opens; its key is known to nobody else."""
        host, _, port = str(self._server.listening_address).removeprefix("http://").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_LOOPBACK_TIMEOUT_S)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            return json.loads(connection.getresponse().read())

    def start(self, generation: Generation) -> None:
        """Queues a generation; it starts as soon as its slots are free, in the order of arrival.

        Raises:
            OverloadedError: Too many are waiting already.
            APIConnectionError: The engine was closed.
        """
        with self._lock:
            if self._closed:
                raise closed_error()
            if len(self._waiting) >= _MAX_WAITING:
                raise OverloadedError(f"{_MAX_WAITING} requests are waiting for this model already")
            self._waiting.append(generation)
            self._start_waiting()

    def cancel(self, generation: Generation) -> None:
        """Stops a generation: at once where it waits, else within a token or a batch of the prompt."""
        generation.cancelled = True
        with self._lock:
            if generation in self._waiting:
                self._waiting.remove(generation)
                self._start_waiting()

    def abort(self, owner: object) -> None:
        """Stops all generations of one owner; who reads them gets an error."""
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
        """Frees the model. Its owners have aborted what they had running."""
        with self._lock:
            self._closed = True
            threads = [generation.thread for generation in list(self._running)]
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join(_CLOSE_WAIT_S)
        # A thread that did not notice in time holds the server until it does; then it is freed there.
        self._server = None

    def _start_waiting(self) -> None:
        while self._waiting and self._waiting[0].slots <= self._free_slots:
            generation = self._waiting.popleft()
            thread = threading.Thread(
                target=self._run, args=(generation, self._server), name="llama-client-gguf", daemon=False
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left
                generation.deliver(OverloadedError(f"no thread can be started for the request: {error}"))
                continue
            generation.thread = thread
            self._free_slots -= generation.slots
            self._running.add(generation)

    def _run(self, generation: Generation, server: Any) -> None:
        def receive(chunk: Body) -> bool:
            if generation.held_back is not None:
                generation.held_back.append(chunk)
            elif not generation.cancelled:
                generation.deliver(chunk)
            return generation.cancelled or not self._main_thread.is_alive()

        generation.deliver(generation)
        failure: Exception | None = None
        try:
            if not generation.cancelled:
                server.handle_chat_completions(generation.body, receive)
        except Exception as error:  # noqa: BLE001 - it is handed to the caller's thread, which raises it
            failure = error
        del server
        if generation.held_back:
            generation.deliver(generation.held_back)
        with self._lock:
            self._free_slots += generation.slots
            self._running.discard(generation)
            if not self._closed:
                self._start_waiting()
        if failure is not None:
            generation.deliver(failure)
        generation.deliver(_ENDED)


def run(
    engine: Engine, body: Body, *, slots: int, owner: object, deadline: Deadline, facts: AttemptFacts
) -> Generator[Body | Generation]:
    """Runs one generation and yields its chunks; the generation itself first, when it starts.

    Args:
        engine: The loaded model.
        body: What llama.cpp gets.
        slots: How many of the engine's slots it takes.
        owner: On whose behalf, for `Engine.abort`.
        deadline: When to give up.
        facts: Where others find how to stop it.

    Raises:
        APITimeoutError: The deadline has passed.
        OverloadedError: Too many are waiting.
        Exception: What the library raised, as it is.
    """
    inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    generation = Generation(body, slots, owner, inbox.put)
    engine.start(generation)
    facts.stop = partial(_stop, engine, generation)
    try:
        while True:
            left = deadline.remaining_s()
            if facts.is_stopped:
                raise closed_error()
            try:
                item = inbox.get(timeout=POLL_S if left is None else min(POLL_S, left))
            except queue.Empty:
                continue
            if isinstance(item, _Ended):
                return
            yield from _chunks(item)
    finally:
        facts.stop = None
        engine.cancel(generation)


async def arun(
    engine: Engine, body: Body, *, slots: int, owner: object, deadline: Deadline, facts: AttemptFacts
) -> AsyncGenerator[Body | Generation]:
    """`run` for an event loop, which it never blocks."""
    loop = asyncio.get_running_loop()
    # Bounded by what it holds: at most one chunk for each token of the context.
    inbox: asyncio.Queue[_Item] = asyncio.Queue()

    def deliver(item: _Item) -> None:
        try:
            loop.call_soon_threadsafe(inbox.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody will ever read this
            generation.cancelled = True

    generation = Generation(body, slots, owner, deliver)
    engine.start(generation)
    facts.stop = partial(_stop, engine, generation)
    try:
        while True:
            left = deadline.remaining_s()
            try:
                async with asyncio.timeout(left):
                    item = await inbox.get()
            except TimeoutError:
                continue
            if isinstance(item, _Ended):
                return
            for chunk in _chunks(item):
                yield chunk
    finally:
        facts.stop = None
        engine.cancel(generation)


def _stop(engine: Engine, generation: Generation) -> None:
    """Ends a generation from elsewhere: who reads it gets an error."""
    engine.cancel(generation)
    generation.deliver(closed_error())


def _chunks(item: Body | list[Body] | Exception | Generation) -> Sequence[Body | Generation]:
    if isinstance(item, Exception):
        raise item
    return item if isinstance(item, list) else (item,)
