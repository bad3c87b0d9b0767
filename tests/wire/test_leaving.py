"""What becomes of connections: kept after a whole answer, closed at once where the caller leaves early."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, StreamInterruptedError
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.loopback import Answer, WireServer, as_json, endless, streamed, whole
from llama_client.testing.wire_format import JSON
from tests.wire.asking import KEY, PLENTY_S, PROMPT, SOON_S, fault_answer

pytestmark = pytest.mark.parametrize("dialect", DIALECTS, ids=str)


def test_a_connection_that_closed_between_two_calls_is_opened_anew(dialect: Dialect) -> None:
    body = json.dumps(dialect.whole()).encode()
    first, second = whole(body, headers=JSON, then="close"), as_json(dialect.whole())
    with WireServer(dialect.answers(first, second)) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            assert client.ask(PROMPT, timeout=PLENTY_S).text == "Hello"
            assert server.wait_until_idle()
            assert client.ask(PROMPT, timeout=PLENTY_S).text == "Hello"


def test_a_connection_that_closed_between_two_calls_is_opened_anew_by_an_async_client(dialect: Dialect) -> None:
    body = json.dumps(dialect.whole()).encode()
    first, second = whole(body, headers=JSON, then="close"), as_json(dialect.whole())

    async def twice(server: WireServer) -> list[str]:
        async with AsyncLlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            one = await client.ask(PROMPT, timeout=PLENTY_S)
            assert await asyncio.to_thread(server.wait_until_idle)
            return [one.text, (await client.ask(PROMPT, timeout=PLENTY_S)).text]

    with WireServer(dialect.answers(first, second)) as server:
        assert asyncio.run(twice(server)) == ["Hello", "Hello"]


def test_connections_are_kept_between_calls(dialect: Dialect) -> None:
    with WireServer(dialect.answers(*[as_json(dialect.whole())] * 3)) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            for _ in range(3):
                client.ask(PROMPT, timeout=PLENTY_S)
        assert server.accepted == 1
        assert server.wait_until_idle()


def test_a_stream_read_to_its_end_leaves_its_connection_to_the_next_call(dialect: Dialect) -> None:
    with WireServer(dialect.answers(dialect.good(streams=True), as_json(dialect.whole()))) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            for _ in client.chat.completions.create(messages=_messages(), stream=True):
                pass
            assert client.ask(PROMPT, timeout=PLENTY_S).text == "Hello"
        assert (server.accepted, server.early_closes) == (1, 0)


def _messages() -> list[dict[str, object]]:
    return [{"role": "user", "content": PROMPT}]


def generous(dialect: Dialect, end: str = "goes on") -> Answer:
    """A stream that is never over: it goes on, or says no more."""
    first = [dialect.preamble(), dialect.text("Hel")]
    if end == "stalls":
        return streamed(first, "stall", headers=dialect.stream_headers)
    return endless(dialect.text("la"), first=first, headers=dialect.stream_headers, delay_s=0.01)


def read_and_close(client: LlamaClient) -> None:
    stream = client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S)
    next(stream)
    stream.close()
    assert [(attempt.outcome, attempt.sent) for attempt in stream.partial.attempts] == [("cancelled", True)]


def close_at_once(client: LlamaClient) -> None:
    client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S).close()


def leave_the_block(client: LlamaClient) -> None:
    with client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S) as stream:
        for _ in stream:
            break


def fail_within_the_block(client: LlamaClient) -> None:
    def fail() -> None:
        with client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S) as stream:
            next(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def drop_the_stream(client: LlamaClient) -> None:
    next(client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S))


MANY = 20
LEAVING = [read_and_close, close_at_once, leave_the_block, fail_within_the_block, drop_the_stream]


@pytest.mark.parametrize("end", ["goes on", "stalls"])
@pytest.mark.parametrize("leave", LEAVING)
def test_leaving_a_stream_early_stops_the_server_and_the_client_works_on(
    dialect: Dialect, leave: Callable[[LlamaClient], None], end: str
) -> None:
    with WireServer(dialect.answers(generous(dialect, end), as_json(dialect.whole()))) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            leave(client)
            assert server.closed_early.wait(SOON_S)
            assert client.ask(PROMPT, timeout=PLENTY_S).text == "Hello"


def test_closing_a_client_ends_its_streams(dialect: Dialect) -> None:
    with WireServer(dialect.answers(generous(dialect))) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            stream = client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S)
            next(stream)
        assert server.closed_early.wait(SOON_S)
        with pytest.raises(StreamInterruptedError) as caught:
            for _ in stream:
                pass
        assert caught.value.partial is not None


def test_a_closed_clients_stream_gives_nothing_that_had_arrived(dialect: Dialect) -> None:
    pieces = [dialect.preamble(), b"".join(dialect.text(f"{number} ") for number in range(50)), *dialect.ending()]

    async def read(url: str) -> None:
        client = AsyncLlamaClient(dialect.config(url, api_key=KEY))
        stream = await _open(client)
        await anext(stream)
        await client.aclose()
        with pytest.raises(StreamInterruptedError, match="closed"):
            await anext(stream)

    answer = streamed(pieces, headers=dialect.stream_headers)
    with WireServer(dialect.answers(answer, answer)) as server:
        client = LlamaClient(dialect.config(server.url, api_key=KEY))
        stream = client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S)
        next(stream)
        client.close()
        with pytest.raises(StreamInterruptedError, match="closed"):
            next(stream)
        asyncio.run(read(server.url))


async def _open(client: AsyncLlamaClient) -> Any:
    return await client.chat.completions.create(messages=_messages(), stream=True, timeout=PLENTY_S)


async def read_and_aclose(client: AsyncLlamaClient) -> None:
    stream = await _open(client)
    await anext(stream)
    await stream.aclose()
    assert [(attempt.outcome, attempt.sent) for attempt in stream.partial.attempts] == [("cancelled", True)]


async def leave_the_async_block(client: AsyncLlamaClient) -> None:
    async with await _open(client) as stream:
        async for _ in stream:
            break


async def drop_the_async_stream(client: AsyncLlamaClient) -> None:
    await anext(await _open(client))


async def cancel_the_reader(client: AsyncLlamaClient) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async with await _open(client) as stream:
            async for _ in stream:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def run_out_of_time(client: AsyncLlamaClient) -> None:
    async def read() -> None:
        async with asyncio.timeout(None) as limit, await _open(client) as stream:
            limit.reschedule(asyncio.get_running_loop().time() + 0.05)
            async for _ in stream:
                pass

    with pytest.raises(TimeoutError):
        await read()


ASYNC_LEAVING = [
    read_and_aclose,
    leave_the_async_block,
    drop_the_async_stream,
    cancel_the_reader,
    run_out_of_time,
]


@pytest.mark.parametrize("end", ["goes on", "stalls"])
@pytest.mark.parametrize("leave", ASYNC_LEAVING)
def test_leaving_an_async_stream_early_stops_the_server_and_the_client_works_on(
    dialect: Dialect, leave: Callable[[AsyncLlamaClient], Any], end: str
) -> None:
    async def left(server: WireServer) -> str:
        async with AsyncLlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            await leave(client)
            assert await asyncio.to_thread(server.closed_early.wait, SOON_S)
            return (await client.ask(PROMPT, timeout=PLENTY_S)).text

    with WireServer(dialect.answers(generous(dialect, end), as_json(dialect.whole()))) as server:
        assert asyncio.run(left(server)) == "Hello"


@pytest.mark.parametrize("name", ["stall", "head-stall", "body-stall", "trickle"])
@pytest.mark.parametrize("streams", [False, True])
def test_cancelling_a_task_that_waits_for_its_answer_stops_the_server(
    dialect: Dialect, name: str, streams: bool
) -> None:
    async def cancelled(server: WireServer) -> str:
        async with AsyncLlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            create = client.chat.completions.create(messages=_messages(), stream=streams, timeout=PLENTY_S)
            task = asyncio.create_task(create)
            while not server.requests:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.closed_early.wait, SOON_S)
            return (await client.ask(PROMPT, timeout=PLENTY_S)).text

    with WireServer(dialect.answers(fault_answer(name, dialect, streams=streams), as_json(dialect.whole()))) as server:
        assert asyncio.run(cancelled(server)) == "Hello"


def test_many_streams_left_early_leave_no_connection(dialect: Dialect) -> None:
    with WireServer(dialect.answers(*[generous(dialect)] * MANY)) as server:
        with LlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            for _ in range(MANY):
                leave_the_block(client)
            assert server.wait_until_idle(SOON_S)
        assert server.early_closes == MANY


def test_many_async_streams_left_early_leave_no_connection(dialect: Dialect) -> None:
    async def leave_many(server: WireServer) -> None:
        async with AsyncLlamaClient(dialect.config(server.url, api_key=KEY)) as client:
            for _ in range(MANY):
                await leave_the_async_block(client)
            assert await asyncio.to_thread(server.wait_until_idle, SOON_S)

    with WireServer(dialect.answers(*[generous(dialect)] * MANY)) as server:
        asyncio.run(leave_many(server))
        assert server.early_closes == MANY


def test_many_async_streams_at_once_may_all_be_cancelled(dialect: Dialect) -> None:
    async def cancel_all(server: WireServer) -> None:
        async with AsyncLlamaClient(dialect.config(server.url, api_key=KEY)) as client:

            async def read() -> None:
                async with await _open(client) as stream:
                    async for _ in stream:
                        pass

            tasks = [asyncio.create_task(read()) for _ in range(20)]
            while len(server.requests) < 20:
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            assert all(
                isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
            )
            assert await asyncio.to_thread(server.wait_until_idle, SOON_S)

    with WireServer(dialect.answers(*[generous(dialect)] * 20)) as server:
        asyncio.run(cancel_all(server))
