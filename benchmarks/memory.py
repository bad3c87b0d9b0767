"""What a client keeps in memory: the process after 1,000 calls and after many more, each way in a process of its own.

The ways: whole answers, streams, whole answers with 32 in flight on an event loop, streams there, and answers that are
errors. Half of the streams are dropped after their first chunk.

    python benchmarks/memory.py [--calls 100000] [--only sync errors ...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psutil
from http_calls import MESSAGES, serve

from llama_client import AsyncLlamaClient, LlamaClient, LlamaClientError

IN_FLIGHT = 32
FIRST = 1_000
WAYS = ("sync", "streams", "async", "async streams", "errors", "async errors")


def config(url: str, folder: str) -> dict[str, Any]:
    """A route of two targets with prices, and a ledger."""
    table = {"kind": "openai", "base_url": url, "api_key": "key"}
    price = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.3}
    return {
        "providers": {"first": table, "second": table},
        "routes": {"chat": {"targets": ["first/m", "second/m"]}},
        "default_model": "chat",
        "prices": [{"target": f"{name}/m", **price} for name in ("first", "second")],
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "routing": {"retries": 0},
    }


def refuse(listener: socket.socket) -> None:
    """Answers every request with status 400, a thread a connection."""
    body = json.dumps({"error": {"message": "no such parameter", "type": "invalid_request_error"}}).encode()
    answer = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"

    def serve_one(connection: socket.socket) -> None:
        held = b""
        while data := connection.recv(1 << 16):
            held += data
            if held.endswith(b"}"):
                held = b""
                connection.sendall(answer % (len(body), body))

    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()


def resident_mb() -> float:
    """When the ledger has written, and without garbage."""
    time.sleep(1.0)
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def call_sync(client: LlamaClient, way: str, number: int) -> None:
    """One call."""
    if way == "errors":
        try:
            client.chat.completions.create(messages=MESSAGES, model="first/m")
        except LlamaClientError:
            return
        raise AssertionError("it was answered")
    if way == "sync":
        client.chat.completions.create(messages=MESSAGES)
        return
    stream = client.chat.completions.create(messages=MESSAGES, stream=True)
    for _ in stream:
        if number % 2:
            break


async def call_async(client: AsyncLlamaClient, way: str, number: int) -> None:
    """One call."""
    if way == "async errors":
        try:
            await client.chat.completions.create(messages=MESSAGES, model="first/m")
        except LlamaClientError:
            return
        raise AssertionError("it was answered")
    if way == "async":
        await client.chat.completions.create(messages=MESSAGES)
        return
    stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
    async for _ in stream:
        if number % 2:
            break


async def many(one: Callable[[int], Awaitable[None]], numbers: range) -> None:
    """All calls, some at once."""
    left = iter(numbers)

    async def work() -> None:
        for number in left:
            await one(number)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


def measure(way: str, url: str, calls: int) -> None:
    """Prints the growth of one way."""
    with tempfile.TemporaryDirectory() as folder:
        if not way.startswith("async"):
            with LlamaClient(config(url, folder)) as client:
                for number in range(FIRST):
                    call_sync(client, way, number)
                before = resident_mb()
                for number in range(FIRST, calls):
                    call_sync(client, way, number)
                after = resident_mb()
        else:
            before, after = asyncio.run(measured(way, url, calls, folder))
    print(f"  {way:14} {before:7.1f} MB after {FIRST:,}, {after - before:+5.1f} MB after {calls:,}", flush=True)


async def measured(way: str, url: str, calls: int, folder: str) -> tuple[float, float]:
    """The same on an event loop."""
    async with AsyncLlamaClient(config(url, folder)) as client:
        one = partial(call_async, client, way)
        await many(one, range(FIRST))
        before = resident_mb()
        await many(one, range(FIRST, calls))
        return before, resident_mb()


def main() -> None:
    """Starts the servers, and a process for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        listeners = [socket.create_server(("127.0.0.1", 0), backlog=1000) for _ in range(2)]
        print(json.dumps([listener.getsockname()[1] for listener in listeners]), flush=True)
        threading.Thread(target=refuse, args=(listeners[1],)).start()
        serve(listeners[0], number_of_chunks=20)
    elif arguments.way:
        measure(arguments.way, arguments.url, arguments.calls)
    else:
        server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            ports = json.loads(server.stdout.readline())
            for way in arguments.only:
                port = ports[way.endswith("errors")]
                own = ["--way", way, "--url", f"http://127.0.0.1:{port}/v1", "--calls", str(arguments.calls)]
                subprocess.run([sys.executable, __file__, *own], check=True)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
