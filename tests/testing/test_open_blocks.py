"""What is put into clients while a block is open: those that were opened before, other blocks, and what comes after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, errors
from llama_client.client import Seams, _BaseClient
from llama_client.testing import FakeClock, FakeProvider, ScriptError, using
from llama_client.testing.loopback import WireServer, as_json

GROQ = "groq/openai/gpt-oss-20b"
TOGETHER = "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"


HOW: dict[str, Callable[[LlamaClient], Any]] = {
    "ask": lambda client: client.ask("hi"),
    "sdk": lambda client: client.sdk("paid"),
    "stream": lambda client: client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True),
}


def real(server: WireServer) -> dict[str, Any]:
    providers = {"paid": {"kind": "openai", "base_url": f"{server.url}/v1", "api_key": "k"}}
    return {"default_model": "paid/m", "providers": providers, "routing": {"retries": 0}}


def answered(server: WireServer) -> None:
    server.always(as_json({"choices": [{"message": {"role": "assistant", "content": "for money"}}]}))


@pytest.mark.parametrize("is_warm", [False, True], ids=["first call", "warm"])
@pytest.mark.parametrize("how", HOW)
def test_a_client_that_was_opened_before_the_block_raises_and_asks_nobody(how: str, *, is_warm: bool) -> None:
    with WireServer() as server:
        answered(server)
        with LlamaClient(real(server)) as client:
            if is_warm:
                client.ask("hi")
            asked = len(server.requests)
            fake = FakeProvider().always("played")
            with pytest.raises(ScriptError, match="opened before the block"), fake:
                # As apps do, whose tests would pass by it.
                with pytest.raises(errors.LlamaClientError):
                    HOW[how](client)
            assert len(server.requests) == asked
            assert client.ask("hi").text == "for money"


def test_an_async_client_that_was_opened_before_the_block_raises() -> None:
    async def main(server: WireServer) -> None:
        async with AsyncLlamaClient(real(server)) as client:
            await client.ask("hi")
            with FakeProvider() as fake:
                with pytest.raises(ScriptError, match="opened before the block"):
                    await client.ask("hi")
                fake.faults.clear()

    with WireServer() as server:
        answered(server)
        asyncio.run(main(server))
        assert len(server.requests) == 1


def test_two_blocks_that_would_answer_are_refused() -> None:
    before = _BaseClient._seams
    with FakeProvider() as fake:
        with pytest.raises(RuntimeError, match="exclude each other"), FakeProvider():
            pass
        with pytest.raises(RuntimeError, match="is open already"), fake:
            pass
        with LlamaClient(fake.says("still here").config()) as client:
            assert client.ask("hi").text == "still here"
    assert _BaseClient._seams == before


@pytest.mark.parametrize("first_ends_first", [False, True])
def test_blocks_may_end_in_any_order(*, first_ends_first: bool) -> None:
    before = _BaseClient._seams
    clock, other = FakeClock(), FakeClock()
    first, second = using(clock=clock), using(clock=other, chance=random.SystemRandom)
    first.__enter__()
    second.__enter__()
    assert _BaseClient._seams == Seams(other.clock, random.SystemRandom, before.interceptor, before.ledger_url)
    ending, staying = (first, second) if first_ends_first else (second, first)
    ending.__exit__(None, None, None)
    assert _BaseClient._seams.clock is (other.clock if first_ends_first else clock.clock)
    staying.__exit__(None, None, None)
    assert _BaseClient._seams == before


def test_a_fake_that_is_used_again_has_forgotten_its_faults() -> None:
    fake = FakeProvider()
    with pytest.raises(ScriptError), fake, LlamaClient(fake.config()) as client:
        client.ask("hi")
    with fake, LlamaClient(fake.says("Hello").config()) as client:
        assert client.ask("hi").text == "Hello"


def test_an_expected_request_without_a_reply_is_taken_out() -> None:
    with FakeProvider() as fake, LlamaClient(fake.config()) as client:
        with pytest.raises(ScriptError):
            client.ask("hi")
        fault = fake.faults.pop()
        assert fault.asked is not None
        assert fault.asked.text == "hi"


@pytest.mark.parametrize("clock", [FakeClock, None], ids=["clock", "real time"])
def test_which_target_is_asked_again_is_the_same_each_time(clock: type[FakeClock] | None) -> None:
    seen = []
    for _ in range(2 if clock is None else 20):
        with (
            FakeProvider(clock=None if clock is None else clock()) as fake,
            LlamaClient(fake.config(GROQ, TOGETHER)) as client,
        ):
            fake.on("groq").fails(errors.ServerError, times=1).says("Hello")
            fake.on("together").fails(errors.ServerError).says("never asked")
            seen.append(client.ask("hi").provider)
    assert set(seen) == {"groq"}


@pytest.mark.parametrize("name", ["openai/gpt-oss-20b", "Groq"])
def test_a_script_that_waits_for_a_name_that_is_none_is_named(name: str) -> None:
    with FakeProvider() as fake, LlamaClient(fake.config(GROQ)) as client:
        fake.on(name).says("never")
        with pytest.raises(ScriptError, match=rf"there are replies for on\('{name}'\)"):
            client.ask("hi")
        fake.faults.clear()


def test_what_is_scripted_over_a_socket_is_told_there() -> None:
    fake = FakeProvider()
    fake.on("paid").fails(errors.APIConnectionError).says("Hello")
    with WireServer(fake.play, provider="paid") as server, LlamaClient(real(server)) as client:
        with pytest.raises(errors.APIConnectionError):
            client.ask("hi")
        assert client.ask("hi").text == "Hello"
        with pytest.raises(errors.ServerError, match="no reply is scripted for request 3 to paid/m"):
            client.ask("hi")
