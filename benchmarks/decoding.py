"""What long and hostile answers cost: the time, how long an event loop stands still, and the memory at its peak.

Each kind of answer is asked for twice, with half as much in it first, in a process of its own: what is linear takes
about twice as long. An event loop ticks meanwhile; beside its longest wait stands the longest pause of Python's garbage
collector.

    python benchmarks/decoding.py [--only KIND ...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_client import AsyncLlamaClient, LlamaClientError

MIB = 1 << 20
_MESSAGES = [{"role": "user", "content": "hi"}]
_TOPS = [{"token": f"t{place}", "logprob": -1.5, "bytes": [116]} for place in range(20)]
_TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": _TOPS}


def body(more: str = "", *, content: str = '"hi"', rest: str = "") -> str:
    """A whole answer with more fields of its own, of its choice, or another content."""
    choice = f'{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":{content}}}{rest}}}'
    return f'{{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{choice}]{more}}}'


def chunk(delta: str, more: str = "") -> str:
    """A chunk of a stream."""
    choice = f'{{"index":0,"delta":{delta}{more}}}'
    return f'{{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choice}]}}'


def events(chunks: list[str]) -> str:
    """A whole stream."""
    end = chunk("{}", ',"finish_reason":"stop"')
    return "".join(f"data: {each}\n\n" for each in [*chunks, end, "[DONE]"])


def _calls(count: int) -> str:
    each = '{{"index":{0},"id":"c{0}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}'
    return body(content=f'null,"tool_calls":[{",".join(each.format(place) for place in range(count))}]')


def _probabilities(count: int) -> str:
    return f',"logprobs":{{"content":{json.dumps([_TOKEN] * count)}}}'


def _named(count: int) -> str:
    names = ",".join(f'"k{place}":{place}' for place in range(count))
    return body(f',"more":{{{names}}}')


def _many(item: str) -> Callable[[int], str]:
    """An answer with a list of so many, which no codec reads."""
    return lambda count: body(f',"more":[{",".join([item] * count)}]')


def _repeated(delta: str, more: Callable[[int], str] | None = None) -> Callable[[int], str]:
    """A stream of so many chunks, or of one with so much more."""
    if more is not None:
        return lambda count: events([chunk(delta, more(count))])
    return lambda count: events([chunk(delta)] * count)


# How many of each, and the answer with so many.
WHOLE: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "text": (10 * MIB, lambda count: body(content=json.dumps("word, " * (count // 6)))),
    "escaped text": (2 * MIB, lambda count: body(content='"' + "\\u0101" * count + '"')),
    "tool calls": (4000, _calls),
    "too many tool calls": (400_000, _calls),
    "log probabilities": (4000, lambda count: body(rest=_probabilities(count))),
    "citations": (500_000, _many('"https://llamas.test/1"')),
    "lists": (2 * MIB, _many("[]")),
    "too many lists": (20 * MIB, _many("[]")),
    "objects": (MIB // 2, _many('{"a":1}')),
    "numbers": (MIB, _many("1.5")),
    "names": (MIB // 2, _named),
}
STREAMS: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "small chunks": (200_000, _repeated('{"content":"a"}')),
    "empty events": (1_000_000, lambda count: events(["{}"] * count)),
    "long chunks": (20, _repeated(f'{{"content":{json.dumps("word, " * 500_000)}}}')),
    "chunks of tool calls": (400, _repeated(f'{{"tool_calls":[{",".join(["{}"] * 2000)}]}}')),
    "a chunk of log probabilities": (4000, _repeated('{"content":"a"}', _probabilities)),
}
ERRORS: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "an error with lists": (20 * MIB, lambda count: f'{{"error":{{"message":"no"}},"more":[{"[]," * count}1]}}'),
    "an error with a text": (40 * MIB, lambda count: f'{{"error":{{"message":"{"no " * (count // 3)}"}}}}'),
}
KINDS = {**WHOLE, **STREAMS, **ERRORS}


def serve(listener: socket.socket, content: bytes, kind: str) -> None:
    """Answers the first request in short, so that all is imported, and every other one with the content."""
    status = "500 Error" if kind in ERRORS else "200 OK"
    form = "text/event-stream" if kind in STREAMS else "application/json"
    answers = [(body().encode(), "200 OK", "application/json")]
    while True:
        connection, _ = listener.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(1 << 16):
                pass
            sent, line, media = answers.pop() if answers else (content, status, form)
            head = (
                f"HTTP/1.1 {line}\r\nContent-Type: {media}\r\nContent-Length: {len(sent)}\r\nConnection: close\r\n\r\n"
            )
            # A client that has read enough hangs up.
            with suppress(ConnectionError):
                connection.sendall(head.encode() + sent)


def peak_mib() -> float:
    """The most memory that this process has had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def ask(url: str, kind: str) -> None:
    """Asks for it, and prints what it took as JSON."""
    table = {"kind": "openai", "base_url": url, "api_key": "some-key"}
    config = {
        "default_model": "x/m",
        "providers": {"x": table},
        "ledger": {"enabled": False},
        "routing": {"retries": 0},
    }
    pauses, waits, begun = [0.0], [0.0], 0.0

    def paused(phase: str, _: object) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.monotonic()
        else:
            pauses.append(time.monotonic() - begun)

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            waits.append(now - last)
            last = now

    async with AsyncLlamaClient(config) as client:
        await client.chat.completions.create(messages=_MESSAGES)
        gc.callbacks.append(paused)
        before, started = peak_mib(), time.monotonic()
        ticking = asyncio.create_task(tick())
        outcome = "answered"
        try:
            if kind in STREAMS:
                async with await client.chat.completions.create(messages=_MESSAGES, stream=True) as stream:
                    async for _ in stream:
                        pass
            else:
                await client.chat.completions.create(messages=_MESSAGES)
        except LlamaClientError as error:
            outcome = f"{type(error).__name__}: {error}"[:60]
        took_s = time.monotonic() - started
        await asyncio.sleep(0.01)
        ticking.cancel()
        figures = {"s": took_s, "still_ms": max(waits) * 1e3, "gc_ms": max(pauses) * 1e3, "mib": peak_mib() - before}
        print(json.dumps({**figures, "outcome": outcome}))


def measured(kind: str, content: bytes) -> dict[str, Any]:
    """What it takes in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, content, kind), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        run = [sys.executable, __file__, "--ask", url, "--only", kind]
        figures: dict[str, Any] = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
        return figures


def main() -> None:
    """Measures each kind, or asks for one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask is not None:
        asyncio.run(ask(arguments.ask, arguments.only[0]))
        return
    print(f"{'':29} {'MiB':>6} {'s':>7} {'/ half':>6} {'loop ms':>8} {'gc ms':>6} {'peak MiB':>8}")
    for kind in arguments.only:
        count, make = KINDS[kind]
        half, content = make(count // 2).encode(), make(count).encode()
        before, found = measured(kind, half), measured(kind, content)
        line = f"{kind:29} {len(content) / MIB:6.1f} {found['s']:7.3f} {found['s'] / before['s']:6.1f}"
        print(
            f"{line} {found['still_ms']:8.1f} {found['gc_ms']:6.1f} {found['mib']:8.1f}  {found['outcome']}", flush=True
        )


if __name__ == "__main__":
    main()
