"""A failed try leaves nothing that refers to its caller: an error has a traceback, and so the frames of the call."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, LlamaClientError
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.chaos.dropped import MESSAGES, WIRES, View, endless
from tests.routing.asking import config

_SOON_S = 10.0


def _first_fails(received: Received, seen: list[bool]) -> Answer:
    seen.append(True)
    return as_json({"error": {"message": "oh"}}, status=500) if len(seen) == 1 else endless()


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_that_is_dropped_after_a_failed_try_is_ended(wire: str) -> None:
    seen: list[bool] = []

    def drop(client: LlamaClient) -> None:
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        next(stream)
        View(stream)

    with WireServer(lambda received: _first_fails(received, seen)) as server:
        with LlamaClient(config(server, http={"wire": wire}, routing={"retries": 1})) as client:
            drop(client)
            gc.collect()
            assert (len(seen), client.health()["a/m"].in_flight) == (2, 0)


@pytest.mark.parametrize("wire", WIRES)
def test_an_async_stream_that_is_dropped_after_a_failed_try_is_ended(wire: str) -> None:
    seen: list[bool] = []

    async def drop(client: AsyncLlamaClient) -> None:
        stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
        await anext(stream)
        View(stream)

    async def main(server: WireServer) -> int:
        async with AsyncLlamaClient(config(server, http={"wire": wire}, routing={"retries": 1})) as client:
            await drop(client)
            gc.collect()
            until = time.monotonic() + _SOON_S
            while (left := client.health()["a/m"].in_flight) and time.monotonic() < until:
                await asyncio.sleep(0.01)
            return left

    with WireServer(lambda received: _first_fails(received, seen)) as server:
        assert asyncio.run(main(server)) == 0
    assert len(seen) == 2


def test_a_client_keeps_nothing_of_the_frames_of_a_failed_call() -> None:
    def call(client: LlamaClient) -> weakref.ref[View]:
        held = View(None)
        with pytest.raises(LlamaClientError):
            client.chat.completions.create(messages=MESSAGES)
        return weakref.ref(held)

    with WireServer(lambda _: as_json({"error": {"message": "oh"}}, status=500)) as server:
        with LlamaClient(config(server, routing={"retries": 0, "breaker_failures": 1})) as client:
            # The second is the half-open trial.
            held = [call(client), call(client)]
            gc.collect()
            assert client.health()["a/m"].last_error == "ServerError"
            assert [each() for each in held] == [None, None]
