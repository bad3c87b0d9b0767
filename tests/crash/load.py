"""What a client does while it is killed: many calls at once, to a server in a process of its own.

`python -m tests.crash.load` is that server: it writes its address, and ends with its input.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llama_client import LlamaClient, LlamaClientError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
THREADS = 4
_ROOT = Path(__file__).parents[2]
_POLL_S = 0.01
TICK_S = 0.01
# One request in so many is refused, so that there are calls of more than one row.
_REFUSED_EACH = 7


def configuration(url: str, file: Path) -> dict[str, Any]:
    """A route of two targets, both at the server, with prices and the ledger in a file."""
    targets = ("a/m", "b/m")
    return {
        "default_model": "chat",
        "providers": {name[0]: {"kind": "openai", "base_url": f"{url}/v1"} for name in targets},
        "routes": {"chat": {"targets": [*targets], "policy": "weighted"}},
        "routing": {"breaker_failures": 1_000_000},
        "prices": [
            {"target": name, "input_usd_per_mtok": price, "output_usd_per_mtok": 2 * price}
            for name, price in zip(targets, (0.15, 0.59), strict=True)
        ],
        "ledger": {"url": f"sqlite:///{file}"},
    }


def work(configuration: dict[str, Any], file: Path, pipe: int, pause_s: float) -> None:
    """Makes calls until it is killed, each thread with a pause after each, and writes to a pipe what came of them.

    A line holds the call's request id, the moment on the monotonic clock right after the call had returned, and the
    rows that the ledger should hold. A line of its own tells that the first of them are on disk. Others tell the time,
    again and again: where one is late, this machine had no time for the client.
    """
    began_us = round(time.time() * 1e6)

    def tell(**line: Any) -> None:
        # One write, of less than a pipe takes at once: never mixed with another thread's, never held back.
        os.write(pipe, json.dumps(line).encode() + b"\n")

    with LlamaClient(configuration) as client:

        def call_on() -> None:
            while True:
                try:
                    reply = client.chat.completions.create(messages=MESSAGES)
                except LlamaClientError as error:
                    # Refused at every try: rare, and such a call has no id.
                    if any(attempt.http_status != 429 for attempt in error.attempts):
                        tell(error=repr(error))
                else:
                    returned_at = time.monotonic()
                    rows = [
                        [
                            number,
                            attempt.target,
                            attempt.outcome,
                            attempt.http_status,
                            attempt.usage and attempt.usage.prompt_tokens,
                            attempt.usage and attempt.usage.completion_tokens,
                            attempt.cost and attempt.cost.usd is not None and int(attempt.cost.usd * 10**12),
                        ]
                        for number, attempt in enumerate(reply.attempts, 1)
                    ]
                    tell(id=reply.request_id, at=returned_at, rows=rows)
                if pause_s:
                    time.sleep(pause_s)

        def tick() -> None:
            while True:
                tell(tick=time.monotonic())
                time.sleep(TICK_S)

        for each in [tick, *[call_on] * THREADS]:
            threading.Thread(target=each, daemon=True).start()
        while not _has_rows(file, began_us):
            time.sleep(_POLL_S)
        tell(flushed=True)
        while True:
            signal.pause()


def _has_rows(file: Path, since_us: int) -> bool:
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file)) as connection:
            query = "SELECT 1 FROM llama_client_attempts WHERE at_us >= ? LIMIT 1"
            return connection.execute(query, [since_us]).fetchone() is not None
    except sqlite3.OperationalError:  # there is no such table yet
        return False


@contextmanager
def serving() -> Iterator[str]:
    """The server's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.load"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def _serve() -> None:
    numbers = itertools.count(1)

    def answer(request: Received) -> Answer:
        number = next(numbers)
        if number % _REFUSED_EACH == 0:
            return as_json({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "0"})
        prompt, completion = 1 + number % 977, 1 + number % 89
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return as_json(OPENAI.whole() | {"usage": usage})

    with WireServer(answer) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
