"""A call or a stream that waits is ended from elsewhere; forked processes do not share connections."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import httpx
import pytest

from llama_client import APIConnectionError, AsyncLlamaClient, LlamaClient, StreamInterruptedError
from llama_client.testing.dialects import DIALECTS, OPENAI, Dialect
from llama_client.testing.loopback import WireServer, as_json, streamed
from tests.routing.asking import until
from tests.wire.asking import KEY, PLENTY_S, PROMPT, SOON_S

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": PROMPT}]
# The reader waits for more by then, as a rule; what is asserted holds anyway.
_SETTLED_S = 0.05
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=str)


def stalled(dialect: Dialect) -> Any:
    """A stream that says something and no more."""
    return dialect.answers(streamed([dialect.preamble(), dialect.text("Hel")], "stall", headers=dialect.stream_headers))


@each_dialect
def test_closing_a_stream_ends_the_wait_of_another_thread(dialect: Dialect) -> None:
    with WireServer(stalled(dialect)) as server, LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        texts: list[str] = []
        reader = threading.Thread(target=lambda: texts.extend(chunk.text for chunk in stream))
        reader.start()
        until(lambda: bool(texts))
        time.sleep(_SETTLED_S)
        stream.close()
        reader.join(PLENTY_S)
        assert not reader.is_alive()
        assert server.closed_early.wait(SOON_S)
    assert "".join(texts) == "Hel"
    assert [attempt.outcome for attempt in stream.partial.attempts] == ["cancelled"]


@each_dialect
def test_closing_a_stream_ends_the_wait_of_another_task(dialect: Dialect) -> None:
    async def run(url: str) -> list[str]:
        async with AsyncLlamaClient(dialect.config(url, api_key=KEY)) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True)

            async def read() -> list[str]:
                return [chunk.text async for chunk in stream]

            reading = asyncio.create_task(read())
            await asyncio.sleep(_SETTLED_S)
            await stream.aclose()
            return await asyncio.wait_for(reading, PLENTY_S)

    with WireServer(stalled(dialect)) as server:
        assert "".join(asyncio.run(run(server.url))) == "Hel"
        assert server.closed_early.wait(SOON_S)


@each_dialect
def test_closing_an_async_client_ends_what_waits(dialect: Dialect) -> None:
    async def run(url: str) -> BaseException | None:
        client = AsyncLlamaClient(dialect.config(url, api_key=KEY))
        stream = await client.chat.completions.create(messages=MESSAGES, stream=True)

        async def read() -> None:
            async for _ in stream:
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(_SETTLED_S)
        await client.aclose()
        done, _ = await asyncio.wait([reading], timeout=PLENTY_S)
        return next(iter(done)).exception() if done else None

    with WireServer(stalled(dialect)) as server:
        error = asyncio.run(run(server.url))
    assert isinstance(error, StreamInterruptedError)
    assert isinstance(error.__cause__, APIConnectionError)


@each_dialect
def test_closing_a_client_ends_a_thread_that_waits(dialect: Dialect) -> None:
    with WireServer(stalled(dialect)) as server:
        client = LlamaClient(dialect.config(server.url, api_key=KEY))
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        errors: list[BaseException] = []

        def read() -> None:
            try:
                list(stream)
            except StreamInterruptedError as error:
                errors.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(_SETTLED_S)
        client.close()
        reader.join(PLENTY_S)
        assert not reader.is_alive()
    assert [type(error) for error in errors] == [StreamInterruptedError]


def test_a_user_s_own_client_does_not_wait_for_the_end_of_a_connection() -> None:
    pieces = [OPENAI.preamble(), OPENAI.text("Hello"), *OPENAI.ending()]
    with WireServer(OPENAI.answers(streamed(pieces, "stall"))) as server, httpx.Client() as http:
        started = time.monotonic()
        with LlamaClient(OPENAI.config(server.url, api_key=KEY), http_client=http) as client:
            stream = client.chat.completions.create(messages=MESSAGES, stream=True)
            assert "".join(chunk.text for chunk in stream) == "Hello"
        assert time.monotonic() - started < PLENTY_S


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("wire", ["builtin", "httpx"])
def test_a_forked_process_that_closes_its_copies_ends_no_stream_of_its_parent(wire: str) -> None:
    pieces = [OPENAI.preamble(), *(OPENAI.text(word) for word in ["They", "hum", "softly"]), *OPENAI.ending()]
    answer = OPENAI.answers(streamed(pieces, delay_s=0.03))
    config = {"http": {"wire": wire}}
    with WireServer(answer) as server, LlamaClient(OPENAI.config(server.url, api_key=KEY) | config) as client:
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        child = os.fork()
        if child == 0:
            stream.close()
            client.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "".join(chunk.text for chunk in stream) == "Theyhumsoftly"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_process_gets_its_own_answers() -> None:
    def echo(request: Any) -> Any:
        return as_json(OPENAI.whole(request.json["messages"][0]["content"]))

    with WireServer(echo) as server, LlamaClient(OPENAI.config(server.url, api_key=KEY)) as client:
        client.ask("warm")
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                own = all(client.ask(f"child {number} {i}").text == f"child {number} {i}" for i in range(20))
                os._exit(0 if own else 1)
            children.append(child)
        ours = [client.ask(f"parent {i}").text for i in range(20)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ours == [f"parent {i}" for i in range(20)]
    assert codes == [0, 0, 0]


def test_a_reader_that_comes_while_another_thread_closes_the_stream_finds_its_end() -> None:
    closing, come = threading.Event(), threading.Event()

    class Slow:
        """Chunks that take their time to close."""

        def __init__(self, chunks: Any) -> None:
            self._chunks = chunks

        def __next__(self) -> Any:
            return next(self._chunks)

        def close(self) -> None:
            closing.set()
            come.wait(SOON_S)
            self._chunks.close()

    with WireServer(stalled(OPENAI)) as server, LlamaClient(OPENAI.config(server.url, api_key=KEY)) as client:
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        stream._open.chunks = Slow(stream._open.chunks)  # type: ignore[assignment]
        closer = threading.Thread(target=stream.close)
        closer.start()
        assert closing.wait(SOON_S)
        assert list(stream) == []
        come.set()
        closer.join(PLENTY_S)
        assert not closer.is_alive()
