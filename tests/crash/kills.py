"""Kills a client at work, again and again, and looks at what its ledger holds.

A call is compared by its age at the kill: the client reads the monotonic clock right after the call has returned, and
whoever kills reads the same clock right before `os.kill`. The true age is more, by the way from the ledger to the first
reading and by the way of the signal; so a row that is said to be missing too late is, and not only by these. Where a
thread of the client's own that tells the time was late meanwhile, the ledger may be as late.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import signal
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_client import LlamaClient
from llama_client.config.tables import LedgerTable
from tests.crash.load import MESSAGES, TICK_S, configuration, serving, work

FLUSH_INTERVAL_S = LedgerTable().flush_interval_s
# From the first rows on disk to the kill, at most.
_LONGEST_S = 1.5
# So many clients in turn write to one file, so that they find what the killed have left.
_KILLS_A_FILE = 5
_PATIENCE_S = 30.0

_ROWS = """SELECT request_id, number, target, outcome, http_status, input_tokens, output_tokens, usd_pico
    FROM llama_client_attempts JOIN llama_client_labels ON llama_client_labels.id = label_id
    ORDER BY request_id, number"""
_CALLS = "SELECT count(DISTINCT request_id) FROM llama_client_attempts"


@dataclass(frozen=True, slots=True)
class Told:
    """A call of which the client has told.

    Attributes:
        id: Its request id.
        at: When it had returned, on the monotonic clock.
        rows: What the ledger should hold of it.
    """

    id: str
    at: float
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Death:
    """A client that was killed.

    Attributes:
        told: What it has told until then.
        ticks: When it has told the time, and last the moment of the kill, on the same clock.
        problems: What must not be, in words.
    """

    told: list[Told]
    ticks: list[float]
    problems: list[str]

    @property
    def at(self) -> float:
        """The moment of the kill."""
        return self.ticks[-1]

    def late_s(self, since: float) -> float:
        """For how long since then this machine had no time for the client."""
        pauses = [until - max(tick, since) - TICK_S for tick, until in itertools.pairwise(self.ticks) if until > since]
        return sum(pause for pause in pauses if pause > TICK_S)


@dataclass
class Figures:
    """What the kills have shown.

    Attributes:
        kills: How many there were.
        calls: How many calls had returned before.
        rows: How many rows these should have.
        lost: How old each call was at the kill of which rows are missing, in seconds.
        late: How many of them were older than the interval, as this machine had had no time for the client.
        problems: What must not be, in words.
    """

    kills: int = 0
    calls: int = 0
    rows: int = 0
    lost: list[float] = field(default_factory=list)
    late: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def oldest_lost_s(self) -> float:
        """The age of the oldest call that was lost."""
        return max(self.lost, default=0.0)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.calls} calls had returned, with {self.rows} rows; {len(self.lost)} calls lack"
            f" some, the oldest returned {self.oldest_lost_s:.3f} s before the kill (the flush interval is"
            f" {FLUSH_INTERVAL_S} s, and this machine was late for {self.late}); {len(self.problems)} problems"
        )


def run(kills: int, seed: int, folder: Path, *, slack_s: float = 0.0, pause_s: float = 0.0) -> Figures:
    """Kills so many clients, each at a moment that chance draws.

    Each is forked off this process, which has imported all that a client needs.

    Args:
        kills: How many.
        seed: Of the moments.
        folder: Where the ledgers are.
        slack_s: How much older than the flush interval a lost row may be.
        pause_s: Of each of a client's threads after each call.
    """
    figures, chance = Figures(), random.Random(seed)
    with serving() as url:
        _warm(url, folder)
        while figures.kills < kills:
            file = folder / f"ledger-{figures.kills}.db"
            kept: dict[str, list[tuple[Any, ...]]] = {}
            for _ in range(min(_KILLS_A_FILE, kills - figures.kills)):
                figures.kills += 1
                death = _killed(url, file, chance.uniform(0, _LONGEST_S), pause_s)
                problems = [*death.problems, *_judged(file, death, kept, figures, slack_s), *_goes_on(url, file)]
                figures.problems += [f"kill {figures.kills}: {problem}" for problem in problems]
    return figures


def _warm(url: str, folder: Path) -> None:
    """Imports all of it, so that each child need not."""
    with LlamaClient(configuration(url, folder / "warm.db")) as client:
        client.chat.completions.create(messages=MESSAGES)


def _killed(url: str, file: Path, after_s: float, pause_s: float) -> Death:
    """Kills a client so long after its first rows were on disk."""
    assert threading.active_count() == 1, "a process with threads cannot be forked"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(configuration(url, file), file, writing, pause_s)
        finally:
            os._exit(1)
    os.close(writing)
    told = bytearray()
    kill_at, give_up_at = None, time.monotonic() + _PATIENCE_S
    try:
        while (left_s := (kill_at or give_up_at) - time.monotonic()) > 0:
            if not select.select([reading], [], [], left_s)[0]:
                continue
            data = os.read(reading, 1 << 16)
            told += data
            if not data:
                break
            if kill_at is None and b'"flushed"' in told:
                kill_at = time.monotonic() + after_s
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        while data := os.read(reading, 1 << 16):
            told += data
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
    lines = [json.loads(line) for line in bytes(told).splitlines()]
    problems = [f"the client had an error: {line['error']}" for line in lines if "error" in line]
    if kill_at is None:
        problems.append("no row came to the disk")
    if not os.WIFSIGNALED(status):
        problems.append(f"the client ended by itself, with {status}")
    ticks = [line["tick"] for line in lines if "tick" in line]
    calls = [Told(line["id"], line["at"], [*map(tuple, line["rows"])]) for line in lines if "id" in line]
    return Death(calls, [*ticks, killed_at], problems)


def _judged(
    file: Path,
    death: Death,
    kept: dict[str, list[tuple[Any, ...]]],
    figures: Figures,
    slack_s: float,
) -> list[str]:
    """What the file lacks."""
    with closing(sqlite3.connect(file)) as connection:
        health = connection.execute("PRAGMA integrity_check").fetchall()
        problems = [] if health == [("ok",)] else [f"the file is broken: {health}"]
        found: dict[str, list[tuple[Any, ...]]] = {}
        for identity, *row in connection.execute(_ROWS):
            found.setdefault(identity, []).append(tuple(row))
        unrecorded = connection.execute("SELECT sum(calls) FROM llama_client_unrecorded").fetchone()[0]
    if unrecorded:
        problems.append(f"{unrecorded} calls are said to be unrecorded")
    problems += [
        f"{identity}, which was there after an earlier kill, is not"
        for identity in kept
        if kept[identity] != found.get(identity)
    ]
    for call in death.told:
        rows, age_s = found.get(call.id, []), death.at - call.at
        figures.calls += 1
        figures.rows += len(call.rows)
        if rows == call.rows:
            kept[call.id] = rows
        elif rows != call.rows[: len(rows)]:
            problems.append(f"{call.id} has {rows}, and should have {call.rows}")
        elif age_s > FLUSH_INTERVAL_S + death.late_s(call.at) + slack_s:
            problems.append(f"{call.id} returned {age_s:.3f} s before the kill, and has {rows} of {call.rows}")
        else:
            figures.lost.append(age_s)
            figures.late += age_s > FLUSH_INTERVAL_S
    return problems


def _goes_on(url: str, file: Path) -> list[str]:
    """Whether the next client can use the file."""
    with LlamaClient(configuration(url, file)) as client:
        reply = client.chat.completions.create(messages=MESSAGES)
        report = client.costs.report()
    with closing(sqlite3.connect(file)) as connection:
        calls = connection.execute(_CALLS).fetchone()[0]
        query = "SELECT count(*) FROM llama_client_attempts WHERE request_id = ?"
        rows = connection.execute(query, [reply.request_id]).fetchone()[0]
    problems = []
    if rows != len(reply.attempts):
        problems.append(f"the next client's call has {rows} rows, and had {len(reply.attempts)} attempts")
    if (report.calls, report.unrecorded_calls) != (calls, 0):
        problems.append(
            f"the next client reports {report.calls} calls of {calls}, {report.unrecorded_calls} unrecorded"
        )
    return problems
