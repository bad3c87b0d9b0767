"""A server of chat completions in a process of its own that remembers what it handed out: each answer has a number.

`python -m tests.bulk.served --faults 0.3` writes its address, and ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bulk.connections import JsonConnection

_ROOT = Path(__file__).parents[2]
# No 429: a job that is rate limited goes slower, as it should.
_FAULTS = ("500", "503", "hangup", "cut")
COMPLETION_TOKENS = 2
REFUSED = "what no model may answer"
"""A prompt that gets a 400."""


@dataclass(slots=True)
class Books:
    """What was handed out, as a whole: the answers' numbers, by prompt."""

    faults: float
    delay_s: float
    chance: random.Random
    asked: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    answers: dict[str, list[int]] = field(default_factory=dict)

    def number(self, prompt: str) -> int:
        """Of the next answer, which its usage tells: no two are alike."""
        self.asked += 1
        self.answers.setdefault(prompt, []).append(self.asked)
        return self.asked


class _Connection(JsonConnection):
    def __init__(self, books: Books) -> None:
        super().__init__()
        self._books = books

    def requested(self, head: bytes, body: bytes) -> None:
        books = self._books
        if head.startswith(b"GET"):
            self.reply(200, {"asked": books.asked, "most": books.most_in_flight, "answers": books.answers})
            return
        books.in_flight += 1
        books.most_in_flight = max(books.most_in_flight, books.in_flight)
        asyncio.get_running_loop().call_later(books.delay_s, self._answer, json.loads(body))

    def _answer(self, asked: dict[str, Any]) -> None:
        books, prompt = self._books, asked["messages"][-1]["content"]
        books.in_flight -= 1
        if not self.is_open:
            return
        fault = books.chance.choice(_FAULTS) if books.chance.random() < books.faults else None
        if prompt == REFUSED:
            self.reply(400, {"error": {"message": "not this"}})
        elif fault == "hangup":
            self.hang_up()
        elif fault in ("500", "503"):
            self.reply(int(fault), {"error": {"message": "not now"}})
        else:
            self.reply(200, _completion(prompt, 0 if fault else books.number(prompt)), is_cut=fault is not None)


def _completion(prompt: str, number: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"answer to {prompt}"}
    return {
        "id": f"chat-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": number,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": number + COMPLETION_TOKENS,
        },
    }


async def _serve(books: Books) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(books), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def serving(*, faults: float = 0.0, delay_s: float = 0.0, seed: int = 0) -> Iterator[str]:
    """The server's address."""
    command = [sys.executable, "-m", "tests.bulk.served", "--faults", str(faults), "--delay-s", str(delay_s)]
    command += ["--seed", str(seed)]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def handed_out(url: str) -> dict[str, Any]:
    """How many requests there were, the most in flight, and the numbers of whole answers by prompt."""
    with urllib.request.urlopen(f"{url}/books") as answer:
        books: dict[str, Any] = json.load(answer)
    return books


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(_serve(Books(given.faults, given.delay_s, random.Random(given.seed))))
