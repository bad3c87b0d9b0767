"""What a call over HTTP costs beside a bare one, against one loopback server in a process of its own.

Prints medians of interleaved rounds and their ratios: a whole call, a chunk of a stream, and asynchronous calls with 1,
32 and 200 in flight. Bare means HTTPX (asynchronously HTTPX over aiohttp) and `json`; the official clients beside it.

    python benchmarks/http_calls.py [--rounds 200]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

MESSAGES: list[Any] = [{"role": "user", "content": "Why do llamas hum?"}]
CHUNKS = 500
IN_FLIGHT = (1, 32, 200)


def answers(number_of_chunks: int) -> tuple[bytes, bytes]:
    """A whole answer and a stream, as HTTP."""
    head = {"id": "chatcmpl-8d474e5d65cf992a", "created": 1780537909, "model": "some/model"}
    message = {"role": "assistant", "content": "They hum to tell each other how they are."}
    usage = {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}
    whole = json.dumps(
        head | {"object": "chat.completion", "usage": usage}
        | {"choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]}
    ).encode()  # fmt: skip

    def event(delta: dict[str, Any], reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return f"data: {json.dumps(head | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    # Different ones: LiteLLM takes a hundred equal chunks for a model that repeats itself.
    events = [event({"content": f" {number}"}, None) for number in range(number_of_chunks - 1)]
    events += [event({}, "stop"), "data: [DONE]\n\n", ""]
    # As servers send it: each event is a chunk of HTTP as well.
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each.encode()) for each in events)
    length = b"content-length: %d" % len(whole)
    return _http("application/json", length, whole), _http("text/event-stream", b"transfer-encoding: chunked", chunks)


def _http(kind: str, framing: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n%s" % (kind.encode(), framing, body)


def serve(listener: socket.socket, tls: ssl.SSLContext | None = None, number_of_chunks: int = CHUNKS) -> None:
    """Answers whatever is asked, a thread a connection."""
    whole, stream = answers(number_of_chunks)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection, tls, whole, stream), daemon=True).start()


def _answer(connection: socket.socket, tls: ssl.SSLContext | None, whole: bytes, stream: bytes) -> None:
    # A client may drop a stream.
    with contextlib.suppress(OSError):
        _answer_all(connection, tls, whole, stream)


def _answer_all(connection: socket.socket, tls: ssl.SSLContext | None, whole: bytes, stream: bytes) -> None:
    if tls is not None:
        connection = tls.wrap_socket(connection, server_side=True)
    held = b""
    while True:
        while b"\r\n\r\n" not in held:
            data = connection.recv(1 << 16)
            if not data:
                return
            held += data
        head, _, held = held.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(held) < length:
            held += connection.recv(1 << 16)
        body, held = held[:length], held[length:]
        connection.sendall(stream if b'"stream":true' in body else whole)


def report(title: str, times_s: dict[str, list[float]], unit: int = 1) -> None:
    """The medians, and how many times the first each is."""
    medians = {name: statistics.median(values) / unit * 1e6 for name, values in times_s.items()}
    first = next(iter(medians.values()))
    print(title)
    for name, median in medians.items():
        print(f"  {name:16} {median:9.1f} us  {median / first:5.2f} x")


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, in_turn: int) -> dict[str, list[float]]:
    """How long each way takes, all ways in turns, some calls in each turn, after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 5):
        for name, way in ways.items():
            for _ in range(in_turn):
                started = time.perf_counter()
                way()
                if turn >= 5:
                    times[name].append(time.perf_counter() - started)
    return times


def synchronous(url: str, rounds: int) -> None:
    """Whole calls and streams, one at a time."""
    import groq
    import httpx
    import openai

    from llama_client import LlamaClient

    target, headers = f"{url}/v1/chat/completions", {"authorization": "Bearer key"}
    bare = httpx.Client()
    client = LlamaClient(config(url))
    official = groq.Groq(api_key="key", base_url=url)
    other = openai.OpenAI(api_key="key", base_url=f"{url}/v1")

    def bare_stream() -> None:
        body = {"model": "m", "messages": MESSAGES, "stream": True}
        content = json.dumps(body, separators=(",", ":")).encode()
        with bare.stream("POST", target, content=content, headers=headers) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    json.loads(line[6:])

    def read(stream: Any) -> None:
        for _ in stream:
            pass

    asked: dict[str, Any] = {"messages": MESSAGES, "temperature": 0.7}
    call_ways: dict[str, Callable[[], object]] = {
        "bare httpx": lambda: bare.post(target, json={"model": "m", **asked}, headers=headers).json(),
        "llama_client": lambda: client.chat.completions.create(model=["groq/m", "openai/m"], **asked),
        "groq": lambda: official.chat.completions.create(model="m", **asked),
        "openai": lambda: other.chat.completions.create(model="m", **asked),
    }
    stream_ways: dict[str, Callable[[], object]] = {
        "bare httpx": bare_stream,
        "llama_client": lambda: read(client.chat.completions.create(model="groq/m", messages=MESSAGES, stream=True)),
        "groq": lambda: read(official.chat.completions.create(model="m", messages=MESSAGES, stream=True)),
        "openai": lambda: read(other.chat.completions.create(model="m", messages=MESSAGES, stream=True)),
    }
    report("a whole call", interleaved(call_ways, max(rounds // 10, 5), 10))
    report("a chunk of a stream", interleaved(stream_ways, max(rounds // 10, 5), 1), CHUNKS)
    client.close()
    bare.close()
    official.close()
    other.close()


async def asynchronous(url: str, rounds: int) -> None:
    """Whole calls, many in flight."""
    import groq
    import httpx
    from httpx_aiohttp import AiohttpTransport

    from llama_client import AsyncLlamaClient

    limits = httpx.Limits(max_connections=1000)
    bare = httpx.AsyncClient(transport=AiohttpTransport(limits=limits))
    client = AsyncLlamaClient(config(url))
    official = groq.AsyncGroq(api_key="key", base_url=url)
    target, headers = f"{url}/v1/chat/completions", {"authorization": "Bearer key"}
    asked: dict[str, Any] = {"messages": MESSAGES, "temperature": 0.7}

    async def ask_bare() -> None:
        (await bare.post(target, json={"model": "m", **asked}, headers=headers)).json()

    async def ask_ours() -> None:
        await client.chat.completions.create(model=["groq/m", "openai/m"], **asked)

    async def ask_groq() -> None:
        await official.chat.completions.create(model="m", **asked)

    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "bare aiohttp": ask_bare,
        "llama_client": ask_ours,
        "groq": ask_groq,
    }
    for in_flight in IN_FLIGHT:
        calls = max(100, in_flight * 2)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(max(rounds // 25, 4) + 1):
            for name, way in ways.items():
                started = time.perf_counter()
                await _many(way, calls, in_flight)
                if turn:
                    times[name].append(time.perf_counter() - started)
        report(f"an asynchronous call, {in_flight} in flight", times, calls)
    await client.aclose()
    await bare.aclose()
    await official.close()


async def _many(way: Callable[[], Awaitable[None]], calls: int, in_flight: int) -> None:
    free = asyncio.Semaphore(in_flight)

    async def one() -> None:
        async with free:
            await way()

    await asyncio.gather(*(one() for _ in range(calls)))


def config(url: str) -> dict[str, Any]:
    """Two providers, both that server."""
    return {
        "providers": {
            "groq": {"api_key": "some-key", "base_url": url},
            "openai": {"api_key": "some-key", "base_url": f"{url}/v1"},
        }
    }


def main() -> None:
    """Measures, with the server in a child."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
            print(listener.getsockname()[1], flush=True)
            serve(listener)
    child = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        synchronous(url, arguments.rounds)
        asyncio.run(asynchronous(url, arguments.rounds))
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
