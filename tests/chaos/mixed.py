"""Chaos that mixes: threads, tasks, streams, hedges, budgets and breakers at once, while something else goes wrong too:
on the wire, in the ledger, in the clock or in the process.

After each phase every call has ended in an answer or a typed error, each attempt that ended has its row, the budgets
have settled what the rows come to, to the pico-dollar, and nothing is left in flight, reserved, open or running.

`python -m tests.chaos.mixed --calls 100000` is the long form of `test_mixed`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_client.config.tables import LedgerTable
from llama_client.testing.faults import FaultServer
from tests.chaos.books import Books, Database
from tests.chaos.faults import fault_server, seen, urls
from tests.chaos.workload import Orders, worst_cases
from tests.costs.postgres import programs, running

_ROOT = Path(__file__).parents[2]
# Which share of the good answers comes late, so that hedges begin.
_SLOW = 0.1
_READY_S = 60.0
# A process that has not ended so long after its calls should have hangs.
_HANGS_AFTER_S = 240.0
_HOUR_S, _DAY_S = 3600.0, 86_400.0
# How long SQLite waits for another process, and a little more.
_BUSY_S = 5.5
# How much later than its flush interval the ledger of a process may be that is killed on a busy machine.
_SLACK_S = 1.0
_CANNOT_BE_WRITTEN = "the ledger cannot be written"
# SQLite keeps no queue of connections that wait: among 300, one may time out. Its rows are written later.
_LOCKED = re.compile(re.escape(_CANNOT_BE_WRITTEN) + r" \(sqlite:\S+: database is locked\);")
# Nor of processes that write at once: on a slow disk a client may close before its turn. Its rows are written later.
_LATE = re.compile(r"ledger sqlite:\S+: \d+ rows could not be written in time$")
# What logged texts may begin with.
Logs = str | tuple[str, ...] | re.Pattern[str]


class Workload:
    """A process that makes calls.

    Args:
        orders: What it does.
        prefix: What starts it, if not Python.
        warnings: Of Python, that do not count.
    """

    def __init__(self, orders: Orders, prefix: Sequence[str] = (), *, warnings: Sequence[str] = ()) -> None:
        self.orders = orders
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `left`
        # Python's warnings of forks with threads are what this is about.
        ignored = [part for each in ("ignore::DeprecationWarning", *warnings) for part in ("-W", each)]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "always", *ignored, "-m", "tests.chaos.workload"],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.tell(orders.line())
        self.wait_for("ready", _READY_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self.lines.append({"closed": True})
            self._changed.notify_all()

    def tell(self, line: bytes = b"\n") -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    @property
    def results(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "n" in line]

    @property
    def logs(self) -> list[str]:
        return [line["log"][1] for line in self.lines if "log" in line]

    def _wait(self, holds: Callable[[], bool], within_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: holds() or {"closed": True} in self.lines[-1:], within_s) and holds()

    def wait_for(self, what: str, within_s: float = _HANGS_AFTER_S) -> bool:
        """Waits until it says so; False: it does not, or has ended."""
        return self._wait(lambda: any(what in line for line in self.lines[-50:]), within_s)

    def wait_until(self, share: float) -> None:
        """Waits until so much of its calls has ended."""
        orders = self.orders
        wanted = share * (orders.calls + orders.forks * orders.fork_calls)
        self._wait(lambda: len(self.lines) > wanted, _HANGS_AFTER_S)

    def end(self) -> Iterator[str]:
        """Waits for its end, and says what it lacks."""
        if not self.wait_for("done") and not self.orders.exit_streams:
            yield "it hangs, or has ended before its calls had"
            self.process.send_signal(signal.SIGABRT)
        self.tell()
        yield from self.left(0)

    def left(self, status: int) -> Iterator[str]:
        """Waits for the process, and says what is wrong with its end."""
        assert self.process.stdin is not None
        try:
            found = self.process.wait(_HANGS_AFTER_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            found = self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if found != status:
            yield f"the process ended with status {found}"
        yield from (line["problem"] for line in self.lines if "problem" in line)
        yield from (line["told"] for line in self.lines if "told" in line)
        if not self.orders.is_unreadable:
            yield from (line["unreadable"] for line in self.lines if "unreadable" in line)
        if status == 0 and not any("end" in line and "n" not in line for line in self.lines):
            yield "it did not come to its end"
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip()
        self._errors.close()
        if errors:
            yield f"standard error: {errors[-4000:]}"


@dataclass
class Stage:
    """What a phase has at hand.

    Attributes:
        server: What answers.
        folder: For the ledger.
        first: The number of its first call.
        calls: How many it is to make.
        chance: Its own.
        is_short: Whether faults are to be as short as they can be.
        worst: The worst cases of calls.
        results: The lines of its calls, once these have ended.
        ends: How calls ended.
        logs: What was logged, without what is different each time.
    """

    server: FaultServer
    folder: Path
    first: int
    calls: int
    chance: random.Random
    is_short: bool
    worst: dict[str, dict[str, int]]
    results: list[dict[str, Any]] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    logs: Counter[str] = field(default_factory=Counter)

    @property
    def ledger(self) -> Path:
        # In a folder of its own, which can be taken away as a whole.
        return self.folder / "books" / "ledger.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.ledger}"

    def orders(self, calls: int | None = None, **more: Any) -> Orders:
        """Numbers each call anew."""
        calls = self.calls if calls is None else calls
        seed = self.chance.randrange(1_000_000)
        values = {"ledger": self.url, "first": self.first, "calls": calls, "seed": seed, **more}
        orders = Orders(urls(self.server), **values)
        self.first += calls + orders.forks * orders.fork_calls + orders.exit_streams
        return orders

    def run(
        self, orders: Orders, fault: Callable[[Workload], object] = lambda _: None, *, logs: Logs = (), **more: Any
    ) -> Iterator[str]:
        """Lets a process make its calls while something else happens, and says what is wrong after it."""
        workload = Workload(orders, **more)
        workload.tell()
        try:
            fault(workload)
        finally:
            yield from workload.end()
        yield from self.taken(workload, logs)

    def taken(self, workload: Workload, logs: Logs = ()) -> Iterator[str]:
        """Takes over what a process that has ended has said; of its logs, what is not expected is wrong."""
        self.results += workload.results
        self.ends.update(line["end"] for line in workload.results)
        for text in workload.logs:
            self.logs[text.partition(" (")[0].partition(" <")[0].partition(":")[0]] += 1
            if not (logs.match(text) if isinstance(logs, re.Pattern) else text.startswith(logs)):
                yield f"it logged: {text}"

    def judged(self, *databases: Database, reads: bool = True, **more: Any) -> Iterator[str]:
        """Holds the books against what calls reported, and what servers read."""
        report = seen(self.server)
        if report.open_connections:
            yield f"{report.open_connections} connections are open still"
        if report.malformed:
            yield f"{report.malformed} requests were no HTTP"
        numbers = sorted({*range(self.first_of_all, self.first)})
        found = databases or (Database.read(self.url),)
        yield from Books(numbers, self.results, [*found], report.requests, self.worst, **more).problems()

    def __post_init__(self) -> None:
        self.first_of_all = self.first


Phase = Callable[[Stage], Iterator[str]]


def wire(stage: Stage) -> Iterator[str]:
    """Nothing but the servers fails."""
    yield from stage.run(stage.orders(churns=1))
    yield from stage.judged()


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True, capture_output=True)


def full(stage: Stage) -> Iterator[str]:
    """The disk of the ledger is full, again and again."""

    def by_disk(workload: Workload) -> None:
        ballast = stage.ledger.parent / "ballast"
        for share in (0.2, 0.6):
            workload.wait_until(share)
            # Opened with nothing in it, which needs no room.
            with ballast.open("wb", buffering=0) as file:
                # To the last block, also of those that are freed meanwhile.
                until = time.monotonic() + (0.5 if stage.is_short else 3.0)
                while time.monotonic() < until:
                    with contextlib.suppress(OSError):
                        while file.write(bytes(1 << 12)):
                            pass
                    time.sleep(0.001)
            ballast.unlink()

    def by_limit(workload: Workload) -> None:
        for share in (0.2, 0.6):
            workload.wait_until(share)
            with _limit(workload, resource.RLIMIT_FSIZE, 1 << 12):
                time.sleep(0.5 if stage.is_short else 3.0)

    try:
        with _small_disk(stage.ledger.parent, "64m"):
            yield from stage.run(stage.orders(), by_disk, logs=_CANNOT_BE_WRITTEN)
            yield from stage.judged()
    except (subprocess.CalledProcessError, FileNotFoundError):
        # Only root may mount; a file that may not grow is as full.
        yield from stage.run(stage.orders(), by_limit, logs=_CANNOT_BE_WRITTEN)
        yield from stage.judged()


@contextmanager
def _limit(workload: Workload, what: int, most: int) -> Iterator[None]:
    before = resource.prlimit(workload.process.pid, what)
    resource.prlimit(workload.process.pid, what, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(workload.process.pid, what, before)


def locked(stage: Stage) -> Iterator[str]:
    """Another process has the ledger locked, for longer than SQLite waits."""

    def fault(workload: Workload) -> None:
        for share in (0.3,) if stage.is_short else (0.2, 0.5, 0.8):
            workload.wait_until(share)
            with closing(sqlite3.connect(stage.ledger, isolation_level=None, timeout=30)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(1.0 if stage.is_short else _BUSY_S)
                connection.execute("ROLLBACK")

    yield from stage.run(stage.orders(), fault, logs=_CANNOT_BE_WRITTEN)
    yield from stage.judged()


def _without_privileges() -> list[str]:
    """Root may write what is read-only; so it gives that up."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]


def read_only(stage: Stage) -> Iterator[str]:
    """The ledger is read-only: first for a while, and then for good, with budgets that only warn."""
    for_good = min(stage.calls // 4, 2000)

    def permit(mode: int) -> None:
        # Nothing is made in the folder meanwhile: SQLite would give its log the mode that the file still has, and could
        # never write to it.
        stage.ledger.parent.chmod(0o555)
        for file in stage.ledger.parent.iterdir():
            file.chmod(mode)
        if mode & 0o200:
            stage.ledger.parent.chmod(0o755)

    prefix = _without_privileges()
    orders = stage.orders(stage.calls - for_good)
    workload = Workload(orders, prefix)
    permit(0o444)
    workload.tell()
    workload.wait_until(0.4)
    permit(0o644)
    yield from workload.end()
    yield from stage.taken(workload, _CANNOT_BE_WRITTEN)
    yield from stage.judged()
    stage.first_of_all, stage.results = stage.first, []
    before = Database.read(stage.url)
    workload = Workload(stage.orders(for_good, on_exceeded="warn", is_unreadable=True), prefix)
    permit(0o444)
    workload.tell()
    yield from workload.end()
    permit(0o644)
    yield from stage.taken(workload, (_CANNOT_BE_WRITTEN, "budget ", "ledger "))
    if Database.read(stage.url) != before:
        yield "the ledger was read-only, and has changed"
    said = [text for text in workload.logs if _CANNOT_BE_WRITTEN in text]
    clients = {line["how"] for line in workload.results if line.get("attempts") or line["id"]}
    if not any("cannot be read" in line.get("unreadable", "") for line in workload.lines):
        yield "a report of a ledger that cannot be read does not say so"
    # Once each: the clients are closed with rows that cannot be written, which this has said.
    if len(said) != len(clients):
        yield f"{clients} could not write to the ledger, and of these said so: {said}"
    for line in stage.results:
        priced = line["end"] == "ChatCompletion" and line["attempts"][-1][0] != "ollama/m"
        if priced and not any("cannot be enforced" in each for each in line["warnings"]):
            yield f"an answer does not say that its budget cannot be enforced: {line}"
    yield from stage.judged(is_recorded=False)


def _taken_away(stage: Stage, *, replaces: bool) -> Iterator[str]:
    taken: list[Path] = []

    def fault(workload: Workload) -> None:
        for share in (0.25, 0.5, 0.75):
            fresh = stage.folder / "fresh"
            if replaces:
                shutil.copytree(empty, fresh)
            workload.wait_until(share)
            books = stage.ledger.parent
            while True:
                # As a whole: the file and its log are one database.
                taken.append(stage.folder / f"taken-{len(taken)}")
                books.rename(taken[-1])
                if not replaces:
                    break
                with contextlib.suppress(OSError):
                    fresh.rename(books)
                    break
                # A client has made a new one meanwhile.

    workload = Workload(stage.orders())
    empty = stage.folder / "empty"
    if replaces:
        empty.mkdir()
        # What the warming of the process has left has the tables, and no rows.
        with closing(sqlite3.connect(stage.ledger)) as source, closing(sqlite3.connect(empty / "ledger.db")) as copy:
            source.backup(copy)
            copy.execute("DELETE FROM llama_client_owners")
            copy.commit()
    workload.tell()
    fault(workload)
    yield from workload.end()
    yield from stage.taken(workload, _CANNOT_BE_WRITTEN)
    databases = [Database.read(f"sqlite:///{each / 'ledger.db'}") for each in taken if (each / "ledger.db").exists()]
    yield from stage.judged(*databases, Database.read(stage.url))


def deleted(stage: Stage) -> Iterator[str]:
    """The ledger is deleted; what was in it until then is kept elsewhere, so that it can be counted."""
    yield from _taken_away(stage, replaces=False)


def replaced(stage: Stage) -> Iterator[str]:
    """Another database takes the place of the ledger."""
    yield from _taken_away(stage, replaces=True)


def postgres(stage: Stage) -> Iterator[str]:
    """The ledger is in PostgreSQL, whose connections are cut, and which is killed and started again."""
    import psycopg

    folder = programs()
    if folder is None:
        yield "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        return
    with running(folder) as server:
        url = server.new_database()

        def fault(workload: Workload) -> None:
            for share in (0.2, 0.4):
                workload.wait_until(share)
                with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                    )
            for share, down_s in ((0.5, 0.1),) if stage.is_short else ((0.5, 0.1), (0.7, 2.0), (0.9, 8.0)):
                workload.wait_until(share)
                server.kill()
                time.sleep(down_s)
                server.start()

        # The driver says of its own statements that their connection is gone.
        logs = (_CANNOT_BE_WRITTEN, "error ignored terminating <psycopg.Pipeline")
        yield from stage.run(stage.orders(ledger=url), fault, logs=logs)
        yield from stage.judged(Database.read(url))


class _Clocks:
    """What is added to the clocks of some processes: to the wall clock of all, to the monotonic clock of each."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.files = [folder / f"clock-{n}" for n in range(processes)]
        self._offsets = [[0.0, 0.0] for _ in self.files]
        for file in self.files:
            file.write_bytes(bytes(16))

    def add(self, wall_s: float, monotonic_s: float = 0.0) -> None:
        for file, offsets in zip(self.files, self._offsets, strict=True):
            offsets[0] += wall_s
            offsets[1] += monotonic_s
            # In place: the file is mapped.
            with file.open("r+b") as opened:
                opened.write(struct.pack("dd", *offsets))


def clock(stage: Stage) -> Iterator[str]:
    """The clock jumps both ways, and of two processes with one ledger one is suspended for an hour."""
    clocks = _Clocks(stage.folder, 2)
    half = stage.calls // 2
    workloads = [Workload(stage.orders(half, clock=str(file))) for file in clocks.files]
    for workload in workloads:
        workload.tell()
    first, second = workloads
    jumps = [_HOUR_S, -2 * _HOUR_S, _DAY_S, -_DAY_S, 0.5, -0.5, 61.0, -90.0]
    for number, jump in enumerate(jumps):
        first.wait_until(0.5 * (number + 1) / len(jumps))
        clocks.add(jump)
    for stopped, share in ((first, 0.6), (second, 0.8)):
        stopped.wait_until(share)
        stopped.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        # The other one lives through it.
        clocks.add(_HOUR_S, _HOUR_S)
        time.sleep(0.5 if stage.is_short else 2.0)
        stopped.process.send_signal(signal.SIGCONT)
    # What one has reserved, the other sees.
    for workload in workloads:
        workload.wait_for("done")
    for workload in workloads:
        yield from workload.end()
        yield from stage.taken(workload)
    yield from stage.judged()


def fork(stage: Stage) -> Iterator[str]:
    """The process forks, two threads at once, and its children call with their parent's clients."""
    forks = 4 if stage.is_short else 2 * max(stage.calls // 500, 2)
    calls = stage.calls // (3 * forks)
    yield from stage.run(stage.orders(stage.calls - forks * calls, forks=forks, fork_calls=calls, churns=3), logs=_LATE)
    yield from stage.judged()


def exits(stage: Stage) -> Iterator[str]:
    """Processes exit with streams open and clients that are not closed."""
    processes = 2 if stage.is_short else max(min(stage.calls // 100, 30), 2)
    each = stage.calls // processes
    for number in range(processes):
        calls = each if number else stage.calls - each * (processes - 1)
        yield from stage.run(stage.orders(calls - 4, exit_streams=4))
    yield from stage.judged()


def kill(stage: Stage) -> Iterator[str]:
    """Processes are killed, and the next ones find what they have left."""
    processes = 2 if stage.is_short else max(min(stage.calls // 200, 20), 2)
    each = stage.calls // (processes + 1)
    flush_s = LedgerTable().flush_interval_s
    killed: list[tuple[float, list[dict[str, Any]]]] = []
    in_flight = 0
    for _ in range(processes):
        workload = Workload(stage.orders(each))
        workload.tell()
        workload.wait_until(stage.chance.uniform(0.1, 0.9))
        at = time.monotonic()
        workload.process.kill()
        yield from workload.left(-signal.SIGKILL)
        in_flight += each - len(workload.results)
        killed.append((at, workload.results))
        yield from stage.taken(workload)
    # Two minutes later the killed ones are taken for dead.
    clocks = _Clocks(stage.folder, 1)
    clocks.add(120.0)
    yield from stage.run(stage.orders(stage.calls - processes * each, clock=str(clocks.files[0])))
    last_s = flush_s + _SLACK_S
    lost = {line["n"] for at, results in killed for line in results if line["at"] > at - last_s}
    yield from stage.judged(lost=lost, in_flight=in_flight)


def descriptors(stage: Stage) -> Iterator[str]:
    """No descriptors are left, again and again."""

    def fault(workload: Workload) -> None:
        for share in (0.2, 0.5, 0.8):
            workload.wait_until(share)
            open_now = len(os.listdir(f"/proc/{workload.process.pid}/fd"))
            with _limit(workload, resource.RLIMIT_NOFILE, max(open_now - 5, 8)):
                time.sleep(0.3 if stage.is_short else 2.0)

    yield from stage.run(stage.orders(), fault, logs=_CANNOT_BE_WRITTEN)
    yield from stage.judged()


def threads(stage: Stage) -> Iterator[str]:
    """300 threads and 100 tasks call at once."""
    yield from stage.run(stage.orders(threads=300, tasks=100, churns=4), logs=_LOCKED)
    yield from stage.judged()


def cancelled(stage: Stage) -> Iterator[str]:
    """Most calls are tasks that are cancelled, anywhere."""
    kinds = {"cancelled": 75, "whole": 10, "read": 5, "dropped": 10}
    yield from stage.run(stage.orders(threads=0, churns=0, tasks=48, kinds=kinds))
    yield from stage.judged()


def interrupts(stage: Stage) -> Iterator[str]:
    """The main thread calls, and KeyboardInterrupt comes anywhere."""

    def fault(workload: Workload) -> None:
        while not workload.wait_for("done", stage.chance.uniform(0.002, 0.05)):
            if workload.process.poll() is not None:
                return
            workload.process.send_signal(signal.SIGINT)

    # What an interrupt cuts off between the two steps of opening a socket and of keeping it, only Python can close.
    warnings = ["ignore:unclosed <socket:ResourceWarning"]
    yield from stage.run(stage.orders(threads=2, tasks=8, interrupts=True), fault, warnings=warnings)
    yield from stage.judged(interrupts=True)


# Which share of all calls each has.
PHASES: dict[str, tuple[Phase, float]] = {
    "wire": (wire, 0.30),
    "full": (full, 0.06),
    "locked": (locked, 0.05),
    "read-only": (read_only, 0.05),
    "deleted": (deleted, 0.06),
    "replaced": (replaced, 0.06),
    "postgres": (postgres, 0.06),
    "clock": (clock, 0.06),
    "fork": (fork, 0.06),
    "exit": (exits, 0.03),
    "kill": (kill, 0.04),
    "descriptors": (descriptors, 0.05),
    "threads": (threads, 0.05),
    "cancelled": (cancelled, 0.04),
    "interrupts": (interrupts, 0.03),
}


@dataclass
class Figures:
    """How a phase went.

    Attributes:
        name: The phase.
        calls: How many calls were to be made.
        ends: How those that ended did.
        logs: What was logged.
        seconds: How long it took.
        problems: What must not be, in words.
    """

    name: str
    calls: int
    ends: Counter[str]
    logs: Counter[str]
    seconds: float
    problems: list[str]

    def __str__(self) -> str:
        ends, logs = (
            ", ".join(f"{name} {count}" for name, count in counter.most_common()) for counter in (self.ends, self.logs)
        )
        rate = self.calls / self.seconds
        said = f"{self.calls} calls in {self.seconds:.1f} s ({rate:.0f} a second), {len(self.problems)} problems"
        return f"{self.name}: {said}; {ends}" + (f"; logged: {logs}" if logs else "")


@contextmanager
def standing(seed: int) -> Iterator[Callable[[str, int, bool], Figures]]:
    """Servers, and what runs a phase against them."""
    with fault_server(seed, slow=_SLOW) as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        worst = worst_cases(urls(server), Path(folder))
        numbers = 0

        def run(name: str, calls: int, is_short: bool) -> Figures:
            nonlocal numbers
            phase, _ = PHASES[name]
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
                chance = random.Random(f"{seed}/{name}")
                stage = Stage(server, Path(own), numbers, calls, chance, is_short, worst)
                first, started = numbers, time.monotonic()
                problems = list(phase(stage))
                numbers = stage.first
            return Figures(name, numbers - first, stage.ends, stage.logs, time.monotonic() - started, problems)

        yield run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mixed", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="in all, over the phases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default: %(default)s)")
    parser.add_argument("--phase", choices=PHASES, action="append", help="only this one; may be repeated")
    parser.add_argument("--short", action="store_true", help="faults as short as they can be")
    options = parser.parse_args()
    names = options.phase or [*PHASES]
    shares = sum(PHASES[name][1] for name in names)
    started, problems, calls = time.monotonic(), 0, 0
    with standing(options.seed) as run:
        for name in names:
            figures = run(name, round(options.calls * PHASES[name][1] / shares), options.short)
            print(figures, flush=True)
            for problem in figures.problems[:20]:
                print(f"- {problem}", flush=True)
            problems += len(figures.problems)
            calls += figures.calls
    print(f"{calls} calls in {time.monotonic() - started:.0f} s, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
