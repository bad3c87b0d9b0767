"""Streams that are dropped in reference cycles, in many threads at once: none hangs, and all are in the books.

`python -m tests.chaos.dropped --streams 1000 --threads 8` is the long form of `test_dropped`.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_client import ChatStream, LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, WireServer, streamed

MESSAGES: list[dict[str, object]] = [{"role": "user", "content": "Why do llamas hum?"}]
WIRES = ("builtin", "httpx")
# Threads that wait for one another never end; slow machines take a while.
_HANGS_AFTER_S = 240.0
_SOON_S = 30.0
# The collector comes this often, and so at many places.
_ALLOCATIONS = 50


class View:
    """What a program keeps its stream in, with something that refers back to it."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.me = self


def _dropped(stream: ChatStream) -> None:
    next(stream)
    View(stream)


def _within_a_generator(stream: ChatStream) -> None:
    def words() -> Iterator[str]:
        with stream:
            for chunk in stream:
                yield chunk.text

    generator = words()
    next(generator)
    View(generator)


def _finally_closed(stream: ChatStream) -> None:
    class Owner(View):
        def __del__(self) -> None:
            stream.close()

    next(stream)
    Owner(stream)


WAYS: dict[str, Callable[[ChatStream], None]] = {
    "dropped": _dropped,
    "within a generator": _within_a_generator,
    "closed by a finaliser": _finally_closed,
}


def config(url: str, wire: str, folder: str, **more: Any) -> dict[str, Any]:
    price = {"target": "x/some/model", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    return {
        **OPENAI.config(url, api_key="k" * 20, max_concurrency=500),
        "http": {"wire": wire},
        "ledger": {"url": f"sqlite:///{Path(folder) / 'ledger.db'}"},
        "prices": [price],
        "budgets": [{"usd": 1_000_000, "window": "total"}],
        **more,
    }


def endless() -> Answer:
    """A stream that has begun, and whose server waits for its client to go."""
    return streamed([OPENAI.preamble(), OPENAI.text("Hel"), OPENAI.text("lo")], "stall", headers=OPENAI.stream_headers)


@contextmanager
def _frequent_collections() -> Iterator[None]:
    usual = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, 5, 5)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def run(streams: int, threads: int, wire: str, way: str) -> list[str]:
    """Opens and drops so many streams in each thread, and says what is wrong after it."""
    failures: list[str] = []

    def work(client: LlamaClient) -> None:
        try:
            for _ in range(streams):
                WAYS[way](client.chat.completions.create(messages=MESSAGES, stream=True, max_tokens=5, timeout=60))
        except BaseException as error:  # noqa: BLE001 - told by the caller
            failures.append(repr(error))

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        WireServer(lambda _: endless()) as server,
    ):
        client = LlamaClient(config(server.url, wire, folder))
        workers = [threading.Thread(target=work, args=(client,), daemon=True) for _ in range(threads)]
        with _frequent_collections():
            for worker in workers:
                worker.start()
            until = time.monotonic() + _HANGS_AFTER_S
            for worker in workers:
                worker.join(max(until - time.monotonic(), 0.0))
        hanging = sum(worker.is_alive() for worker in workers)
        if hanging:
            return [f"{hanging} of {threads} threads hang"]
        gc.collect()
        problems = failures + list(_of_the_books(client, streams * threads))
        client.close()
        if not server.wait_until_idle():
            problems.append("the server still has connections")
    return problems


def _of_the_books(client: LlamaClient, streams: int) -> Iterator[str]:
    report = client.costs.report()
    if (report.calls, report.unrecorded_calls) != (streams, 0):
        yield f"{report.calls} of {streams} streams are recorded, {report.unrecorded_calls} are not"
    for name, target in client.health().items():
        if target.in_flight or target.queued:
            yield f"{name} has {target.in_flight} attempts in flight and {target.queued} waiting"
    yield from of_budgets(client)


def of_budgets(client: LlamaClient) -> Iterator[str]:
    """What is still reserved after a while: what was dropped ends in a thread."""
    until = time.monotonic() + _SOON_S
    while (reserved := [budget.reserved_usd for budget in client.costs.budgets()]) != [0]:
        if time.monotonic() > until:
            yield f"{reserved} is still reserved"
            return
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.dropped", description=__doc__)
    parser.add_argument("--streams", type=int, default=1000, help="in each thread (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=8, help="at once (default: %(default)s)")
    parser.add_argument("--wire", choices=WIRES, action="append", help="only this one; may be repeated")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    problems = []
    for wire in options.wire or WIRES:
        for way in options.way or WAYS:
            started = time.monotonic()
            found = run(options.streams, options.threads, wire, way)
            taken_s = time.monotonic() - started
            print(
                f"{wire}, {way}: {options.streams * options.threads} streams in {taken_s:.1f} s, {found or 'all well'}"
            )
            problems += found
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
