"""What is dropped without being closed: a finaliser may run at any allocation, also where its thread holds a lock."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncChatStream, AsyncLlamaClient, ChatStream, LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, streamed
from tests.chaos.dropped import MESSAGES, WAYS, WIRES, View, config, endless

_HANGS_AFTER_S = 60.0
_OURS = ("llama_client", "httpcore")
_Lock, _RLock = threading.Lock, threading.RLock


def answer(received: Received) -> Answer:
    return endless() if received.json.get("stream") else OPENAI.good(streams=False)


class Collector:
    """Makes each lock of the client a place where the garbage collector comes, with a dropped stream in the garbage."""

    def __init__(self, way: str) -> None:
        self.streams: list[ChatStream] = []
        self.places: set[str] = set()
        self._way = way
        self._inside = threading.local()

    def come(self) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename in (__file__, threading.__file__):
            frame = frame.f_back
        file = Path(frame.f_code.co_filename)
        place = f"{file.parent.name}/{file.name}:{frame.f_lineno}"
        is_ours = any(f"/{name}/" in file.as_posix() for name in _OURS)
        if not is_ours or place in self.places or not self.streams or getattr(self._inside, "is_so", False):
            return
        self.places.add(place)
        self._inside.is_so = True
        try:
            WAYS[self._way](self.streams.pop())
            gc.collect()
        finally:
            self._inside.is_so = False

    def made(self, make: Any) -> Any:
        """A lock that lets the collector come each time it is held."""
        collector = self

        class CollectingLock:
            def __init__(self) -> None:
                self._lock = make()

            def acquire(self, *args: Any, **kwargs: Any) -> bool:
                is_held = self._lock.acquire(*args, **kwargs)
                if is_held:
                    collector.come()
                return bool(is_held)

            def __enter__(self) -> bool:
                return self.acquire()

            def __exit__(self, *_: object) -> None:
                self._lock.release()

            def __getattr__(self, name: str) -> Any:
                return getattr(self._lock, name)

        return CollectingLock

    @contextmanager
    def locks(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "Lock", self.made(_Lock))
            patch.setattr(threading, "RLock", self.made(_RLock))
            yield


def in_time(work: Any) -> None:
    """Runs it in a thread, since what hangs would never end."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_HANGS_AFTER_S)
    assert not thread.is_alive(), "it hangs"
    for failure in failures:
        raise failure


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wire", ["builtin", pytest.param("httpx", marks=pytest.mark.long)])
def test_a_stream_that_is_collected_where_a_lock_is_held_hangs_nothing(
    wire: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    collector, streams = Collector(way), 60
    with WireServer(answer) as server:

        def work() -> None:
            with LlamaClient(config(server.url, wire, str(tmp_path))) as client:
                ask: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 5}
                collector.streams = [client.chat.completions.create(stream=True, **ask) for _ in range(streams)]
                client.ask("hi", max_tokens=5)
                with client.chat.completions.create(messages=MESSAGES, stream=True, max_tokens=5) as stream:
                    next(stream)
                client.health()
                client.costs.report()
                for _ in range(3):
                    client.ask("hi", max_tokens=5)
                dropped = streams - len(collector.streams)
                assert client.costs.report().calls == dropped + 5
                assert client.health()["x/some/model"].in_flight == len(collector.streams)
                collector.streams.clear()

        with collector.locks():
            in_time(work)
    files = {place.partition(":")[0] for place in collector.places}
    assert {"routing/health.py", "routing/recorder.py"} <= files
    assert ("http/sync_wire.py" in files) == (wire == "builtin")


# aiohttp keeps a task alive for as long as its answer is open.
@pytest.mark.own_wire
# A block of `async with` cannot wait in a coroutine that is collected, and Python says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_is_collected_with_its_stream_and_its_loop_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    opened: list[AsyncChatStream] = []

    async def read(client: AsyncLlamaClient) -> None:
        async with await client.chat.completions.create(messages=MESSAGES, stream=True, max_tokens=5) as stream:
            opened.append(stream)
            await asyncio.Event().wait()

    async def leave(client: AsyncLlamaClient) -> None:
        task = asyncio.ensure_future(read(client))
        while not opened:
            await asyncio.sleep(0.01)
        opened.clear()
        # Nothing refers to the task any more but itself.
        View(task)

    async def main(url: str) -> int:
        async with AsyncLlamaClient(config(url, "builtin", str(tmp_path))) as client:
            await leave(client)
            gc.collect()
            report = await client.costs.report()
            assert client.health()["x/some/model"].in_flight == 0
            return report.calls

    with WireServer(answer) as server:
        assert asyncio.run(main(server.url)) == 1


_EXITS_WITHIN_A_STREAM = """
import json, sys
from llama_client import LlamaClient
client = LlamaClient(json.loads(sys.argv[1]))
stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=5)
next(stream)
"""


def outcomes(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return [outcome for (outcome,) in connection.execute("SELECT outcome FROM llama_client_attempts")]


def test_a_program_that_exits_within_a_stream_has_it_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    with WireServer(answer) as server:
        given = json.dumps(config(server.url, "builtin", str(tmp_path)))
        subprocess.run([sys.executable, "-c", _EXITS_WITHIN_A_STREAM, given], check=True, timeout=60)
    assert outcomes(tmp_path) == ["cancelled"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("wire", WIRES)
def test_a_forked_process_that_drops_its_copy_records_nothing_and_cuts_nothing(
    wire: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    pieces = [OPENAI.preamble(), *(OPENAI.text(word) for word in ["They", "hum", "softly"]), *OPENAI.ending()]
    slow = streamed(pieces, delay_s=0.1, headers=OPENAI.stream_headers)
    with (
        WireServer(lambda _: slow) as server,
        LlamaClient(config(server.url, wire, str(tmp_path))) as client,
    ):
        stream = client.chat.completions.create(messages=MESSAGES, stream=True, max_tokens=5)
        child = os.fork()
        if child == 0:
            View(stream)
            del stream
            gc.collect()
            client.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "".join(chunk.text for chunk in stream) == "Theyhumsoftly"
    assert outcomes(tmp_path) == ["ok"]
