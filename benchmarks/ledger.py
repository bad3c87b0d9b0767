"""What the ledger costs: a call's own path, its writer, its reports, and memory. Prints medians, with SQLite in a file.

First calls with the ledger and without it, interleaved, against a loopback server in a process of its own, and what it
takes to hand one attempt over. Then how many rows a second the writer takes, from four threads, until all are on disk;
how long reports over a million rows of 90 days take; and what memory a client has after 1,000 calls and after many.

    python benchmarks/ledger.py [--only path|writer|reports|memory] [--calls 20000] [--postgres postgresql://...]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from llama_client import AsyncLlamaClient, CostReport, LlamaClient, TrafficReport
from llama_client.costs.bills import Tokens
from llama_client.costs.database import DatabaseLocation, Storage, attempts, labels
from llama_client.costs.ledger import Ledger, LedgerEntries, Row
from llama_client.types.completion import Attempt, Cost

MESSAGES = [{"role": "user", "content": "Why do llamas hum?"}]
IN_FLIGHT = 32
THREADS = 4
DAYS = 90
PARTS = ("path", "writer", "reports", "memory")
_DAY_US = 86_400 * 1_000_000
_MB = 1 << 20


def configuration(url: str, ledger: Path | None) -> dict[str, Any]:
    """A route of two targets with prices."""
    names = ("one", "two")
    return {
        "default_model": "chat",
        "providers": {name: {"kind": "openai", "base_url": f"{url}/v1"} for name in names},
        "routes": {"chat": {"targets": [f"{name}/m" for name in names]}},
        "prices": [{"target": f"{name}/m", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.4} for name in names],
        "ledger": {"enabled": False} if ledger is None else {"url": f"sqlite:///{ledger}"},
    }


def report(title: str, times_s: dict[str, list[float]]) -> None:
    """The medians and the slow ones, and what each is more than the first."""
    print(title)
    first: tuple[float, float] | None = None
    for name, values in times_s.items():
        median, slow = statistics.median(values) * 1e6, statistics.quantiles(values, n=100)[98] * 1e6
        first = first or (median, slow)
        print(
            f"  {name:16} {median:9.1f} us {median - first[0]:+8.1f} us"
            f"   99th percentile {slow:9.1f} us {slow - first[1]:+8.1f} us"
        )


def path(url: str, folder: Path, rounds: int) -> None:
    """What a call takes with the ledger and without it."""
    with (
        LlamaClient(configuration(url, None)) as without,
        LlamaClient(configuration(url, folder / "path.db")) as with_it,
    ):
        times: dict[str, list[float]] = {"without": [], "with the ledger": []}
        for turn in range(rounds + 50):
            for name, client in zip(times, (without, with_it), strict=True):
                started = time.perf_counter()
                client.chat.completions.create(messages=MESSAGES)
                if turn >= 50:
                    times[name].append(time.perf_counter() - started)
        report("a call", times)
    asyncio.run(_asynchronous(url, folder, max(rounds // 10, 20)))
    _handing_over(folder)


async def _asynchronous(url: str, folder: Path, rounds: int) -> None:
    async with (
        AsyncLlamaClient(configuration(url, None)) as without,
        AsyncLlamaClient(configuration(url, folder / "apath.db")) as with_it,
    ):
        times: dict[str, list[float]] = {"without": [], "with the ledger": []}
        for turn in range(rounds + 5):
            for name, client in zip(times, (without, with_it), strict=True):
                started = time.perf_counter()
                await asyncio.gather(*(client.chat.completions.create(messages=MESSAGES) for _ in range(IN_FLIGHT)))
                if turn >= 5:
                    times[name].append((time.perf_counter() - started) / IN_FLIGHT)
        report(f"an asynchronous call, {IN_FLIGHT} in flight", times)


def _handing_over(folder: Path) -> None:
    """One attempt, from the record of the call to the writer's queue, while the writer writes."""
    ledger = _ledger(folder / "handing.db")
    attempt, tokens = _attempt(1), _tokens(1)
    times = []
    for number in range(20_000):
        started = time.perf_counter()
        LedgerEntries(ledger, "req_1", {}).add(attempt, "chat", 1, 1.0, tokens)
        times.append(time.perf_counter() - started)
        if number % 100 == 99:
            time.sleep(0.005)
    ledger.close()
    slow = statistics.quantiles(times, n=100)[98]
    print(f"an attempt handed over: {statistics.median(times) * 1e6:.1f} us, 99th percentile {slow * 1e6:.1f} us")


def writer(folder: Path, rows: int, postgres: str | None) -> None:
    """How many rows a second come to the disk."""
    # What makes rows is the calls' work.
    waiting = [_row(number) for number in range(rows)]
    for name, ledger in (
        ("SQLite", _ledger(folder / "writer.db")),
        *([("PostgreSQL", _ledger_in(postgres))] if postgres is not None else []),
    ):
        ledger.open()
        ledger.flush()

        def put(own: list[Row], ledger: Ledger = ledger) -> None:
            for row in own:
                while not ledger.put(row):
                    # The queue is full; a call would not wait, and its row would be lost.
                    time.sleep(0.01)

        threads = [threading.Thread(target=put, args=(waiting[n::THREADS],)) for n in range(THREADS)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.flush(600.0)
        seconds = time.perf_counter() - started
        ledger.close()
        print(f"{name}: {rows:,} rows in {seconds:.2f} s, {rows / seconds:,.0f} a second")


def _ledger(file: Path) -> Ledger:
    return _made(DatabaseLocation(str(file), file=file))


def _ledger_in(url: str) -> Ledger:
    import psycopg

    return _made(DatabaseLocation("PostgreSQL", connect=lambda: psycopg.connect(url)))


def _made(place: DatabaseLocation) -> Ledger:
    return Ledger(partial(Storage, place), place.name, flush_interval_s=0.2, retention_days=36_500, wall=time.time)


def _tokens(number: int) -> Tokens:
    return Tokens(100 + number % 1000, 50 + number % 500)


def _attempt(number: int) -> Attempt:
    dollars = [Decimal(number % 1000) / 10**8, Decimal(0), Decimal(number % 500) / 10**7]
    cost = Cost(
        usd=sum(dollars, Decimal(0)),
        status="exact",
        input_usd=dollars[0],
        cached_usd=dollars[1],
        output_usd=dollars[2],
        source="the configuration",
    )
    return Attempt(target="one/m", outcome="ok", sent=True, http_status=200, latency_s=0.5, ttft_s=0.1, cost=cost)


def _row(number: int) -> Row:
    made: list[Row] = []

    def put(row: Row) -> bool:
        made.append(row)
        return True

    keeping: Any = SimpleNamespace(put=put)
    request_id = f"req_{int(time.time()):08x}{os.urandom(8).hex()}"
    entries = LedgerEntries(keeping, request_id, {"user": f"user-{number % 50}"})
    entries.add(_attempt(number), "chat", 1, time.time(), _tokens(number))
    return made[0]


def reports(folder: Path, rows: int) -> None:
    """How long reports over many rows take."""
    file = folder / "reports.db"
    now_us = round(time.time() * 1e6)
    every_us = DAYS * _DAY_US // rows
    names = [f"p{number % 4}" for number in range(20)]
    words = [
        {"id": n, "route": "chat", "provider": name, "target": f"{name}/m{n % 8}", "model": f"m{n % 8}", "tags": "{}"}
        for n, name in enumerate(names)
    ]
    started = time.perf_counter()
    with Storage(DatabaseLocation("reports", file=file)).connection() as connection:
        with connection.begin():
            connection.execute(labels.insert(), words)
        for start in range(0, rows, 20_000):
            numbers = range(start, min(start + 20_000, rows))
            values = [_values(number, now_us - (rows - number) * every_us) for number in numbers]
            with connection.begin():
                connection.execute(attempts.insert(), values)
    print(f"{rows:,} rows of {DAYS} days ({time.perf_counter() - started:.0f} s to make them)")
    with LlamaClient(configuration("http://127.0.0.1:1", file)) as client:
        asked: dict[str, Callable[[], CostReport | TrafficReport]] = {
            f"report by {by}": partial(client.costs.report, by=by) for by in ("day", "target", "provider")
        }
        for name, ask in (asked | {"traffic": client.costs.traffic}).items():
            times = []
            for _ in range(5):
                started = time.perf_counter()
                found = ask()
                times.append(time.perf_counter() - started)
            assert found.calls == rows or name == "traffic"  # which leaves out what failed
            print(f"  {name:19} best {min(times):5.2f} s, median {statistics.median(times):5.2f} s")
    _command(folder, file)


def _values(number: int, at_us: int) -> dict[str, Any]:
    """A row as the writer inserts it."""
    names = [name for name in map(str, attempts.c.keys()) if name not in ("id", "label_id")]
    return dict(zip(names, _row(number).values, strict=True)) | {"at_us": at_us, "label_id": number % 20}


def _command(folder: Path, file: Path) -> None:
    """The whole command, as a process."""
    config = folder / "llama-client.toml"
    config.write_text(f'[ledger]\nurl = "sqlite:///{file.as_posix()}"\n')
    command = [sys.executable, "-m", "llama_client", "costs", "--by", "day", "--json"]
    environment = {**os.environ, "LLAMA_CLIENT_CONFIG": str(config)}
    times = []
    for _ in range(5):
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        times.append(time.perf_counter() - started)
        if done.returncode != 0:
            print(f"  the command costs: {done.stderr.strip().splitlines()[-1:]}")
            return
    print(f"  costs --by day --json as a process: best {min(times):5.2f} s, median {statistics.median(times):5.2f} s")


def memory(url: str, folder: Path, calls: int) -> None:
    """The resident memory of this process after 1,000 calls and after many."""
    process, had = psutil.Process(), 0.0
    with LlamaClient(configuration(url, folder / "memory.db")) as client:
        for number in range(1, calls + 1):
            client.chat.completions.create(messages=MESSAGES)
            if number in (1_000, calls // 2, calls):
                now = process.memory_info().rss / _MB
                had = had or now
                print(f"  after {number:7,} calls {now:7.1f} MB {now - had:+6.1f} MB")


@contextmanager
def serving() -> Iterator[str]:
    """A server in a child."""
    server = Path(__file__).with_name("http_calls.py")
    child = subprocess.Popen([sys.executable, str(server), "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.kill()
        child.wait()


def main() -> None:
    """Measures the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    parser.add_argument("--rounds", type=int, default=3_000, help="of calls (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the reports (default: %(default)s)")
    parser.add_argument("--written", type=int, default=200_000, help="rows for the writer (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=20_000, help="for the memory (default: %(default)s)")
    parser.add_argument("--postgres", help="the address of a PostgreSQL database to write to as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llama-client-ledger-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        parts: dict[str, Callable[[str], None]] = {
            "path": lambda url: path(url, folder, options.rounds),
            "writer": lambda url: writer(folder, options.written, options.postgres),
            "reports": lambda url: reports(folder, options.rows),
            "memory": lambda url: memory(url, folder, options.calls),
        }
        if options.only is not None:
            with serving() as url:
                parts[options.only](url)
            return
    for part in PARTS:
        # Each in a process of its own, so that none inherits another's memory.
        print(f"-- {part}", flush=True)
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", part], check=True)


if __name__ == "__main__":
    main()
