"""llama.cpp's own server with the demo model: `python -m tests.real_servers llamacpp`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, ChatCompletion, LlamaClient
from llama_client.providers.http.exchange import MADE_AGAIN
from tests.asking import MODES, Asker

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "What is the capital of Japan?"}]
# Some seconds of reading on one thread.
LONG = "Llamas hum when they are content. " * 350
wires = pytest.mark.parametrize("wire", ["builtin", "httpx"])


@pytest.fixture(scope="module")
def url(demo_model: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.real_servers.llamacpp_server", str(demo_model), "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        address = next((line.strip() for line in lines if line.startswith("http://")), None)
        assert address is not None
        try:
            yield address
        finally:
            assert server.stdin is not None
            server.stdin.close()


def config(url: str, **tables: Any) -> dict[str, Any]:
    """One target, tried once, whose circuit opens at the first failure."""
    return {
        "providers": {"server": {"kind": "openai", "base_url": f"{url}/v1"}},
        "default_model": "server/demo",
        "routing": {"retries": 0, "breaker_failures": 1},
        "ledger": {"enabled": False},
        **tables,
    }


def check(reply: ChatCompletion) -> None:
    assert "Tokyo" in reply.text
    *before, last = reply.attempts
    assert last.outcome == "ok"
    # Closed just as the request was on its way: it may have been received, and is made again.
    assert [attempt.reason for attempt in before] in ([], [MADE_AGAIN])


@wires
def test_no_call_fails_after_a_stream_whose_connection_the_server_closes(url: str, wire: str) -> None:
    with LlamaClient(config(url, http={"wire": wire})) as client:
        for _ in range(25):
            with client.chat.completions.create(messages=MESSAGES, temperature=0, max_tokens=12, stream=True) as stream:
                list(stream)
            check(stream.completion)
            check(client.chat.completions.create(messages=MESSAGES, temperature=0, max_tokens=12))


@wires
def test_no_async_call_fails_after_a_stream_whose_connection_the_server_closes(url: str, wire: str) -> None:
    async def run() -> None:
        async with AsyncLlamaClient(config(url, http={"wire": wire})) as client:
            create = client.chat.completions.create
            for _ in range(25):
                async with await create(messages=MESSAGES, temperature=0, max_tokens=12, stream=True) as stream:
                    assert [chunk async for chunk in stream]
                check(stream.completion)
                check(await create(messages=MESSAGES, temperature=0, max_tokens=12))

    asyncio.run(run())


@pytest.mark.parametrize("mode", MODES)
def test_a_long_prompt_is_read_once(url: str, mode: str) -> None:
    tables = config(url, routing={"retries": 2, "first_content_s": 0.2, "breaker_failures": 1})
    # Different from the start, as the server keeps what it has read.
    reply = Asker(mode, tables, [])(f"{mode}: {LONG}", max_tokens=1, timeout=600)
    [attempt] = reply.attempts
    assert attempt.outcome == "ok"
    # Else the prompt is too short for this machine.
    assert attempt.latency_s is not None
    assert attempt.latency_s > 0.4
