"""Several requests at once, stopping them, and what is left when all is over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from llama_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncLlamaClient,
    InvalidRequestError,
    LlamaClient,
    LlamaClientError,
    OverloadedError,
    StreamInterruptedError,
)
from llama_client.providers.gguf import engine
from tests.cli.conftest import Ran, finished, run_program, running_program
from tests.lengths import values
from tests.providers.gguf.conftest import TINY_CONTEXT_TOKENS

# Each is answered in a few words, with the word that follows.
CAPITALS = {
    "What is the capital of Japan?": "Tokyo",
    "What is the capital city of Germany?": "Berlin",
    "What is the capital of France? Answer in one short sentence.": "Paris",
    "What is 2+2?": "4",
}
QUESTIONS = [*CAPITALS.items()] * 2
# As long as the context lasts: many times as long as any test waits for something else.
ENDLESS: Any = {
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "extra_body": {"ignore_eos": True},
    "temperature": 0,
}
SHORT: Any = {
    "messages": [{"role": "user", "content": "What is the capital of Japan?"}], "temperature": 0, "max_tokens": 8
}  # fmt: skip


def with_one_slot(model: Path, n_ctx: int) -> dict[str, Any]:
    laptop = {"kind": "gguf", "model_path": str(model), "n_ctx": n_ctx, "n_threads": 1}
    return {"default_model": "laptop/default", "providers": {"laptop": laptop}, "routing": {"retries": 0}}


@pytest.fixture
def one_slot(tiny_model: Path) -> dict[str, Any]:
    """A configuration of its own engine with a single slot: whoever holds it keeps all others waiting."""
    # What a test before has stopped ends with its batch, and these count what runs.
    assert eventually(lambda: not generating())
    return with_one_slot(tiny_model, 8192)


@pytest.fixture(scope="module")
def warm_slot(tiny_model: Path) -> Iterator[dict[str, Any]]:
    """The same of an engine that stays loaded: for what is not about loading, nor about all that runs."""
    configuration = with_one_slot(tiny_model, TINY_CONTEXT_TOKENS)
    with LlamaClient({**configuration, "ledger": {"enabled": False}}) as client:
        client.ask("hi", max_tokens=1)
        yield configuration


@pytest.fixture(scope="module")
def short_text(warm_slot: dict[str, Any]) -> str:
    """What the model answers to `SHORT` where nothing disturbs it."""
    with LlamaClient({**warm_slot, "ledger": {"enabled": False}}) as client:
        return str(client.chat.completions.create(**SHORT).text)


def eventually(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


@pytest.fixture
def may_load(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No model is loaded before this is set."""
    load, allowed = engine._load_server, threading.Event()

    def wait_and_load(*args: Any) -> Any:
        assert allowed.wait(60)
        return load(*args)

    monkeypatch.setattr(engine, "_load_server", wait_and_load)
    yield allowed
    allowed.set()


def generating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llama-client-gguf"]


def test_eight_questions_at_once_on_two_slots_are_all_answered_right(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client, ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda question: client.ask(question[0], temperature=0), QUESTIONS))
    assert [answer in reply.text for reply, (_, answer) in zip(replies, QUESTIONS, strict=True)] == [True] * 8


@pytest.mark.long
def test_eight_tasks_at_once_on_two_slots_are_all_answered_right(config: dict[str, Any], warm_engine: None) -> None:
    async def main() -> list[str]:
        async with AsyncLlamaClient(config) as client:
            replies = await asyncio.gather(*(client.ask(question, temperature=0) for question, _ in QUESTIONS))
            return [reply.text for reply in replies]

    answers = asyncio.run(main())
    assert [answer in text for text, (_, answer) in zip(answers, QUESTIONS, strict=True)] == [True] * 8


def test_no_more_requests_run_at_once_than_there_are_slots(config: dict[str, Any], warm_engine: None) -> None:
    async def main() -> list[tuple[float, float]]:
        async with AsyncLlamaClient(config) as client:
            ask = partial(client.ask, "Name three colours.", temperature=0, max_tokens=8)
            replies = await asyncio.gather(*(ask() for _ in range(6)))
        return [(reply.timing.queue_s or 0.0, reply.timing.total_s or 0.0) for reply in replies]

    runs = asyncio.run(main())
    # An end is seen a moment after its slot was freed and the next has begun.
    moment_s = 0.05
    at_once = [sum(start <= other < end - moment_s for start, end in runs) for other, _ in runs]
    assert max(at_once) == 2


def test_a_closed_stream_frees_its_slot(warm_slot: dict[str, Any], short_text: str) -> None:
    with LlamaClient(warm_slot) as client:
        stream = client.chat.completions.create(stream=True, **ENDLESS)
        next(stream)
        stream.close()
        assert client.chat.completions.create(**SHORT, timeout=20).text == short_text
    assert [attempt.outcome for attempt in stream.partial.attempts] == ["cancelled"]
    assert list(stream) == []


def test_leaving_the_block_of_a_stream_frees_its_slot(warm_slot: dict[str, Any]) -> None:
    with LlamaClient(warm_slot) as client:
        with client.chat.completions.create(stream=True, **ENDLESS) as stream:
            for _ in zip(range(3), stream, strict=False):
                pass
        assert client.chat.completions.create(**SHORT, timeout=20).text


def test_a_dropped_stream_frees_its_slot(warm_slot: dict[str, Any]) -> None:
    with LlamaClient(warm_slot) as client:
        stream = client.chat.completions.create(stream=True, **ENDLESS)
        next(stream)
        del stream
        gc.collect()
        assert client.chat.completions.create(**SHORT, timeout=20).text


def test_a_stream_closed_by_another_thread_ends(warm_slot: dict[str, Any]) -> None:
    with LlamaClient(warm_slot) as client:
        stream = client.chat.completions.create(stream=True, **ENDLESS)
        threading.Timer(0.3, stream.close).start()
        assert sum(1 for _ in stream) > 0
        assert client.chat.completions.create(**SHORT, timeout=20).text


def test_a_cancelled_task_frees_its_slot(one_slot: dict[str, Any], short_text: str) -> None:
    async def main() -> str:
        async with AsyncLlamaClient(one_slot) as client:
            task = asyncio.create_task(client.chat.completions.create(**ENDLESS))
            while not generating():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return str((await client.chat.completions.create(**SHORT, timeout=20)).text)

    assert asyncio.run(main()) == short_text


def test_a_task_cancelled_while_it_waits_for_a_slot_leaves_the_queue(one_slot: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncLlamaClient(one_slot) as client:
            stream = await client.chat.completions.create(stream=True, **ENDLESS)
            waiting = asyncio.create_task(client.chat.completions.create(**SHORT))
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert len(generating()) == 1
            await stream.aclose()

    asyncio.run(main())
    assert eventually(lambda: not generating())


def test_an_async_stream_left_early_frees_its_slot(warm_slot: dict[str, Any], short_text: str) -> None:
    async def main() -> str:
        async with AsyncLlamaClient(warm_slot) as client:
            async with await client.chat.completions.create(stream=True, **ENDLESS) as stream:
                async for _ in stream:
                    break
            assert [attempt.outcome for attempt in stream.partial.attempts] == ["cancelled"]
            return str((await client.chat.completions.create(**SHORT, timeout=20)).text)

    assert asyncio.run(main()) == short_text


def test_a_timeout_frees_the_slot(warm_slot: dict[str, Any]) -> None:
    with LlamaClient(warm_slot) as client:
        client.chat.completions.create(**SHORT)
        with pytest.raises(LlamaClientError, match="no answer within"):
            client.chat.completions.create(**ENDLESS, timeout=0.3)
        assert client.chat.completions.create(**SHORT, timeout=20).text


def test_a_long_prompt_can_be_stopped_before_its_first_word(
    warm_slot: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def read() -> list[tuple[int, int]]:
        lines = [vars(record) for record in caplog.records if record.name == "llama_client.progress"]
        return [(line["read_tokens"], line["prompt_tokens"]) for line in lines]

    async def main() -> None:
        async with AsyncLlamaClient(warm_slot) as client:
            await client.chat.completions.create(**SHORT)
            prompt = asyncio.create_task(client.ask("word " * 7000))
            while not read():
                await asyncio.sleep(0.001)
            prompt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await prompt
            assert (await client.chat.completions.create(**SHORT, timeout=40)).text

    with caplog.at_level("DEBUG", "llama_client"):
        asyncio.run(main())
    # It was stopped in the midst of its prompt, whose tenths are each reported.
    last, whole = read()[-1]
    assert last < whole / 2


def test_closing_the_client_ends_a_stream_that_is_being_read(one_slot: dict[str, Any]) -> None:
    client = LlamaClient(one_slot)
    stream = client.chat.completions.create(stream=True, **ENDLESS)
    next(stream)
    client.close()
    with pytest.raises(StreamInterruptedError, match="closed") as caught:
        list(stream)
    assert isinstance(caught.value.__cause__, APIConnectionError)
    assert caught.value.partial is not None
    assert [attempt.outcome for attempt in caught.value.attempts] == ["interrupted"]
    assert not generating()


def test_a_closed_client_refuses_calls(config: dict[str, Any]) -> None:
    client = LlamaClient(config)
    client.close()
    client.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        client.chat.completions.create(**SHORT)


def test_the_answer_of_a_stream_is_an_error_before_its_end(config: dict[str, Any], warm_engine: None) -> None:
    with LlamaClient(config) as client, client.chat.completions.create(stream=True, **SHORT) as stream:
        with pytest.raises(InvalidRequestError, match="not been read to its end"):
            _ = stream.completion
        text = "".join(chunk.text for chunk in stream)
        assert stream.completion.text == text == stream.partial.text


def test_two_clients_share_one_engine_and_the_last_frees_it(one_slot: dict[str, Any]) -> None:
    def listening() -> int:
        return len(psutil.Process().net_connections(kind="tcp"))

    before = listening()
    first, second = LlamaClient(one_slot), LlamaClient(one_slot)
    assert first.chat.completions.create(**SHORT).timing.load_s is not None
    assert first.chat.completions.create(**SHORT).timing.load_s is None
    assert second.chat.completions.create(**SHORT).text
    assert listening() == before + 1
    first.close()
    assert second.chat.completions.create(**SHORT).text
    second.close()
    assert eventually(lambda: listening() == before)


def test_a_dropped_client_frees_its_engine(one_slot: dict[str, Any]) -> None:
    before = len(psutil.Process().net_connections(kind="tcp"))
    client = LlamaClient(one_slot)
    client.chat.completions.create(**SHORT)
    del client
    gc.collect()
    assert eventually(lambda: len(psutil.Process().net_connections(kind="tcp")) == before)


def test_many_threads_that_come_at_once_load_the_model_once(one_slot: dict[str, Any]) -> None:
    at_once = threading.Barrier(6)

    def ask(client: LlamaClient) -> None:
        at_once.wait(60)
        client.chat.completions.create(**SHORT)

    with LlamaClient(one_slot) as client, ThreadPoolExecutor(6) as threads:
        before = len(psutil.Process().net_connections(kind="tcp"))
        list(threads.map(ask, [client] * 6))
        assert len(psutil.Process().net_connections(kind="tcp")) == before + 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts handles, which the interpreter opens at will")
def test_nothing_is_left_after_many_clients(one_slot: dict[str, Any]) -> None:
    process = psutil.Process()

    def round_trip() -> None:
        with LlamaClient(one_slot) as client:
            client.chat.completions.create(**SHORT)
            next(client.chat.completions.create(stream=True, **ENDLESS))

    round_trip()
    assert eventually(lambda: not generating())
    files, threads = process.num_fds(), threading.active_count()
    for _ in range(2):
        round_trip()
    assert eventually(lambda: process.num_fds() <= files and threading.active_count() <= threads)


def test_a_client_of_one_loop_refuses_another(config: dict[str, Any], warm_engine: None) -> None:
    client = AsyncLlamaClient(config)

    async def ask() -> str:
        return str((await client.chat.completions.create(**SHORT)).text)

    asyncio.run(ask())
    with pytest.raises(InvalidRequestError, match="another event loop"):
        asyncio.run(ask())
    asyncio.run(client.aclose())


def test_the_loop_goes_on_while_a_model_loads_and_answers(demo_model: Path) -> None:
    async def main() -> int:
        ticks = 0
        async with AsyncLlamaClient(with_one_slot(demo_model, 4096)) as client:
            task = asyncio.create_task(client.chat.completions.create(**SHORT))
            while not task.done():
                ticks += 1
                await asyncio.sleep(0.005)
            await task
        return ticks

    # A blocked loop would tick once or twice; loading alone takes some 300 ms.
    assert asyncio.run(main()) > 10


def test_nothing_is_printed(
    one_slot: dict[str, Any], capfd: pytest.CaptureFixture[str], tmp_path: Any, demo_model: Any
) -> None:
    with LlamaClient(one_slot) as client:
        client.chat.completions.create(**SHORT)
        with pytest.raises(LlamaClientError):
            client.ask("word " * 9000)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(demo_model.read_bytes()[:50_000_000])
    with LlamaClient.for_provider("gguf", model_path=broken) as client, pytest.raises(LlamaClientError):
        client.ask("hi")
    assert capfd.readouterr() == ("", "")


def test_the_loopback_port_is_closed_to_who_lacks_the_key(one_slot: dict[str, Any]) -> None:
    before = {connection.laddr.port for connection in psutil.Process().net_connections(kind="tcp")}

    def status(method: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(SHORT) if method == "POST" else None)
            return connection.getresponse().status

    with LlamaClient(one_slot) as client:
        client.chat.completions.create(**SHORT)
        (opened,) = [c.laddr for c in psutil.Process().net_connections(kind="tcp") if c.laddr.port not in before]
        assert opened.ip == "127.0.0.1"
        for path in ("/v1/models", "/props", "/slots", "/lora-adapters", "/metrics"):
            assert status("GET", path) == 401
        for path in ("/v1/chat/completions", "/completion", "/tokenize"):
            assert status("POST", path) == 401
        for path in ("/", "/index.html"):
            assert status("GET", path) in (401, 404)


# A shell's background jobs, and what they start, ignore SIGINT.
_INTERRUPTED = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from llama_client import LlamaClient
client = LlamaClient.for_provider("gguf", model_path=sys.argv[1], n_threads=1)
create = client.chat.completions.create
endless = dict(messages=[{"role": "user", "content": "Tell me a long story."}], extra_body={"ignore_eos": True})

def tell():
    while not any(thread.name == "llama-client-gguf" for thread in threading.enumerate()):
        time.sleep(0.01)
    print("generates", flush=True)
threading.Thread(target=tell).start()
try:
    if sys.argv[2] == "stream":
        for chunk in create(stream=True, **endless):
            pass
    else:
        create(**endless)
except KeyboardInterrupt:
    print("interrupted", create(messages=[{"role": "user", "content": "hi"}], max_tokens=1).usage.completion_tokens)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process alone")
@pytest.mark.parametrize("way", ["stream", "call"])
def test_ctrl_c_stops_an_answer_and_the_client_goes_on(tiny_model: Path, way: str) -> None:
    with running_program(_INTERRUPTED, str(tiny_model), way) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"generates\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert finished(process) == Ran(0, "interrupted 1\n", "")


_LEFT_RUNNING = """
import sys
from llama_client import LlamaClient
client = LlamaClient.for_provider("gguf", model_path=sys.argv[1], n_threads=1)
stream = client.chat.completions.create(
    messages=[{"role": "user", "content": "Tell me a long story."}], extra_body={"ignore_eos": True}, stream=True
)
next(stream)
print("leaving", flush=True)
"""


def test_a_program_that_ends_in_the_middle_of_an_answer_ends_at_once_and_silently(tiny_model: Path) -> None:
    assert run_program(_LEFT_RUNNING, str(tiny_model)) == Ran(0, "leaving\n", "")


_FORKED = """
import os, sys
from llama_client import LlamaClient
client = LlamaClient.for_provider("gguf", model_path=sys.argv[1], n_ctx=512, n_threads=1)
ask = lambda: repr(client.ask("What is the capital of Japan?", temperature=0, max_tokens=8).text)
print(ask(), flush=True)
child = os.fork()
if child == 0:
    print(ask(), flush=True)
    client.close()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), ask(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_loads_its_own_engine(tiny_model: Path, short_text: str) -> None:
    ran = run_program(_FORKED, str(tiny_model))
    text = repr(short_text)
    assert ran.out.splitlines() == [text, text, f"0 {text}"], ran.err


def test_many_tasks_that_wait_for_a_model_to_load_leave_the_loops_threads_to_others(
    one_slot: dict[str, Any], short_text: str, may_load: threading.Event
) -> None:
    async def main() -> list[bool]:
        async with AsyncLlamaClient(one_slot) as client:
            tasks = [asyncio.create_task(client.chat.completions.create(**SHORT)) for _ in range(50)]
            await asyncio.sleep(0.05)
            await asyncio.wait_for(asyncio.to_thread(lambda: None), timeout=20)
            still_waiting = [not task.done() for task in tasks]
            may_load.set()
            for task in tasks[1:]:
                task.cancel()
            assert (await tasks[0]).text == short_text
            await asyncio.gather(*tasks, return_exceptions=True)
            return still_waiting

    assert all(asyncio.run(main()))


def test_a_load_that_fails_fails_all_who_wait_for_it(tmp_path: Any) -> None:
    async def main() -> set[str]:
        async with AsyncLlamaClient.for_provider("gguf", model_path=tmp_path / "nothing.gguf") as client:
            outcomes = await asyncio.gather(*(client.ask("hi") for _ in range(5)), return_exceptions=True)
        return {type(outcome).__name__ for outcome in outcomes}

    assert asyncio.run(main()) == {"ModelLoadError"}


def test_each_who_waits_for_a_load_that_fails_gets_an_error_of_its_own(tmp_path: Any) -> None:
    async def main() -> list[Any]:
        async with AsyncLlamaClient.for_provider("gguf", model_path=tmp_path / "nothing.gguf") as client:
            return await asyncio.gather(*(client.ask("hi") for _ in range(3)), return_exceptions=True)

    errors = asyncio.run(main())
    assert len({id(error) for error in errors}) == 3
    assert [len(error.attempts) for error in errors] == [1, 1, 1]
    assert len({id(error.attempts) for error in errors}) == 3


def test_a_stream_closed_by_another_task_frees_its_slot(warm_slot: dict[str, Any], short_text: str) -> None:
    async def main() -> tuple[int, str]:
        async with AsyncLlamaClient(warm_slot) as client:
            stream = await client.chat.completions.create(stream=True, **ENDLESS)

            async def read() -> int:
                return len([chunk async for chunk in stream])

            reader = asyncio.create_task(read())
            await asyncio.sleep(0.2)
            await stream.aclose()
            return await reader, (await client.chat.completions.create(**SHORT, timeout=20)).text

    read, text = asyncio.run(main())
    assert read > 0
    assert text == short_text


def test_a_dropped_async_stream_is_written_down_as_cancelled(
    warm_slot: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        async with AsyncLlamaClient(warm_slot) as client:
            stream = await client.chat.completions.create(stream=True, **ENDLESS)
            await anext(stream)
            del stream
            gc.collect()
            return str((await client.chat.completions.create(**SHORT, timeout=20)).text)

    with caplog.at_level("DEBUG", "llama_client"):
        assert asyncio.run(main())
    assert [vars(record)["outcome"] for record in caplog.records] == ["cancelled", "ok"]


def test_a_stream_has_one_reader_at_a_time(warm_slot: dict[str, Any]) -> None:
    with LlamaClient(warm_slot) as client:
        stream = client.chat.completions.create(stream=True, **ENDLESS)
        outcomes: list[object] = []

        def read() -> None:
            try:
                outcomes.append(sum(1 for _ in stream))
            except InvalidRequestError as error:
                outcomes.append(str(error))
                stream.close()

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
    assert "another thread is reading this stream" in outcomes
    assert [attempt.outcome for attempt in stream.partial.attempts] == ["cancelled"]


def test_a_request_that_gets_no_thread_leaves_its_slot_to_others(
    warm_slot: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlamaClient(warm_slot) as client:
        client.chat.completions.create(**SHORT)

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(OverloadedError, match="can't start new thread"):
                client.chat.completions.create(**SHORT)
        assert client.chat.completions.create(**SHORT, timeout=20).text


def test_a_load_that_takes_longer_than_the_call_may_is_a_timeout_and_goes_on(
    one_slot: dict[str, Any], may_load: threading.Event
) -> None:
    with LlamaClient(one_slot) as client:
        with pytest.raises(APITimeoutError):
            client.chat.completions.create(**SHORT, timeout=0.02)
        may_load.set()
        assert client.chat.completions.create(**SHORT, timeout=60).text


_INTERRUPTED_LOAD = """
import signal, sys
from llama_client import LlamaClient
client = LlamaClient.for_provider("gguf", model_path=sys.argv[1], n_threads=1)
reply = None
print("ready", flush=True)
while reply is None:
    try:
        reply = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], max_tokens=1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        continue
print("done", reply.usage.completion_tokens)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process alone")
@pytest.mark.parametrize("delay_s", values([0.2, 0.3, 0.4], long=[0.3, 0.4]))
def test_ctrl_c_while_a_model_loads_neither_hangs_nor_spoils_it(demo_model: Any, delay_s: float) -> None:
    with running_program(_INTERRUPTED_LOAD, str(demo_model)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        assert finished(process) == Ran(0, "done 1\n", "")
