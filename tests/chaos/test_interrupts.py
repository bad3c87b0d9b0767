"""The short form of `interrupts`, and coroutines that end at each of their awaits."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient
from llama_client.testing.loopback import WireServer
from llama_client.waiting import Event, await_event
from tests.chaos.dropped import MESSAGES
from tests.chaos.importing import HOW, KINDS
from tests.chaos.interrupts import SCENARIOS, config, good, run, slow
from tests.lengths import values

# Of some hundreds in each scenario; the long form takes all of them.
_PLACES = 10
_MOST_AWAITS = 40
ROOT = Path(__file__).parents[2]
_IN_SHORT = (
    "call",
    "stream",
    "stream that is dropped",
    "fallback",
    "hedge",
    "over httpx",
    "in a loop",
    "hedged in a loop",
)


@pytest.fixture(autouse=True)
def _with_a_ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    yield
    # What was cut off complains here, and not in another test.
    gc.collect()


# What an interrupt cuts off between two steps, Python tells of: sockets, and coroutines that nothing awaits.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", values(SCENARIOS, long=SCENARIOS.keys() - _IN_SHORT))
def test_an_interrupt_anywhere_leaves_nothing_in_flight_and_all_of_it_in_the_books(name: str) -> None:
    result = run(name, most=_PLACES)
    assert result.problems == []
    assert result.interrupted >= _PLACES // 2


class CutOff:
    """Awaits a coroutine up to one of its awaits, and ends it there.

    Args:
        work: The coroutine.
        at: The await.
        how: What is raised there; None: it is closed, as one that is collected.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, how: type[BaseException] | None) -> None:
        self._work = work
        self._at = at
        self._how = how
        self.is_whole = False

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            for _ in range(self._at):
                yield self._work.send(None)
            if self._how is None:
                self._work.close()
                return
            yield self._work.throw(self._how)
            while True:
                yield self._work.send(None)
        except StopIteration:
            self.is_whole = True
        except (asyncio.CancelledError, KeyboardInterrupt):
            return


async def _ask(client: AsyncLlamaClient, model: list[str]) -> None:
    await client.chat.completions.create(messages=MESSAGES, max_tokens=5, timeout=20, model=model)


async def _read(client: AsyncLlamaClient, model: list[str]) -> None:
    stream = await client.chat.completions.create(messages=MESSAGES, max_tokens=5, timeout=20, model=model, stream=True)
    async for _ in stream:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", values([asyncio.CancelledError, KeyboardInterrupt, None], long=[None]))
@pytest.mark.parametrize(
    ("work", "is_hedged"),
    [
        (_ask, True),
        (_read, False),
        pytest.param(_ask, False, marks=pytest.mark.long),
        pytest.param(_read, True, marks=pytest.mark.long),
    ],
)
def test_a_coroutine_that_ends_at_any_of_its_awaits_leaves_nothing(
    how: type[BaseException] | None, work: Any, is_hedged: bool, tmp_path: Path
) -> None:
    async def main(first: str, second: str) -> int:
        more = {"routing": {"hedge_after_s": 0.01}} if is_hedged else {}
        # What a closed coroutine leaves to the loop's generators, it may find running.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with AsyncLlamaClient(config([first, second], str(tmp_path), **more)) as client:
            model = ["a/m", "b/m"]
            await work(client, model)
            for at in range(_MOST_AWAITS):
                cut_off = CutOff(work(client, model), at, how)
                await cut_off
                gc.collect()
                await _until_nothing_is_in_flight(client, at)
                if cut_off.is_whole:
                    break
            for _ in range(200):
                budgets = await client.costs.budgets()
                if not budgets[0].reserved_usd:
                    return at
                await asyncio.sleep(0.05)
            raise AssertionError(f"{budgets} is still reserved")

    with WireServer(slow if is_hedged else good) as first, WireServer(good) as second:
        assert 2 < asyncio.run(main(first.url, second.url)) < _MOST_AWAITS - 1


async def _until_nothing_is_in_flight(client: AsyncLlamaClient, at: int) -> None:
    for _ in range(500):
        held = {name: each for name, each in client.health().items() if each.in_flight or each.queued}
        if not held:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"after the end at await {at}: {held}")


async def _wait_for_an_event(_client: AsyncLlamaClient, _model: list[str]) -> None:
    event = Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    await await_event(event, 10.0)


@pytest.mark.parametrize(
    ("work", "waker"), [(_wait_for_an_event, "Event.set"), (_ask, "_LoopConnection._wake")], ids=["event", "connection"]
)
def test_a_signal_that_cancels_a_task_while_it_is_woken_is_no_error_of_the_loop(
    work: Any, waker: str, tmp_path: Path
) -> None:
    complaints: list[dict[str, Any]] = []

    async def main(first: str, second: str) -> bool:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        cancelled = False
        async with AsyncLlamaClient(config([first, second], str(tmp_path))) as client:
            task = asyncio.create_task(work(client, ["a/m", "b/m"]))

            def at_each_step(frame: Any, event: str, function: Any) -> None:
                nonlocal cancelled
                has_looked = event == "c_return" and function.__name__ == "done"
                if has_looked and frame.f_code.co_qualname == waker and not cancelled:
                    # As a signal's handler does, between the look at who waits and its waking.
                    cancelled = task.cancel()

            sys.setprofile(at_each_step)
            try:
                await asyncio.wait([task])
            finally:
                sys.setprofile(None)
            return cancelled and task.cancelled()

    with WireServer(good) as first, WireServer(good) as second:
        assert asyncio.run(main(first.url, second.url))
    assert complaints == []


@pytest.mark.parametrize("kind", values(KINDS, long=["together", "openai"]))
@pytest.mark.parametrize("how", values(HOW, long=["fallback"]))
def test_the_main_thread_imports_nothing_where_an_interrupt_would_leave_the_import_half_done(
    kind: str, how: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.chaos.importing", kind, how]
    database = f"sqlite:///{tmp_path / 'ledger.db'}"
    environment = {**os.environ, "LLAMA_CLIENT_LEDGER__ENABLED": "true", "LLAMA_CLIENT_LEDGER__URL": database}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.split() == []


# A handler of logging is made under a lock that modules take for their loggers; a module may end its thread.
_IN_A_HANDLER = """
import logging.config
from llama_client import LlamaClient

class Handler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.client = LlamaClient({})

handlers = {"h": {"()": Handler}}
logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["h"]}})
"""
_AT_EXIT = """
import sys
from llama_client import LlamaClient

class Late:
    def __del__(self):
        try:
            LlamaClient({})
        except ImportError:
            pass

sys.late = Late()
"""
_ENDING = """
import sys
sys.path.insert(0, "")
open("ending.py", "w").write("raise SystemExit(3)")
from llama_client.imports import ready
ready("ending")
"""


@pytest.mark.parametrize("program", [_IN_A_HANDLER, _AT_EXIT, _ENDING], ids=["in a handler", "at exit", "that ends"])
def test_what_is_imported_for_a_call_is_waited_for_in_vain_nowhere(program: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
