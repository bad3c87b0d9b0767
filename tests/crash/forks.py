"""A client whose process forks while its databases are open, and whose parent closes them first.

`python -m tests.crash.forks FOLDER` prints what the file lacks. A process of its own, as one with threads of its own
should not fork.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from llama_client import LlamaClient
from tests.crash.load import MESSAGES, configuration, serving

CALLS = 5
_ROWS = "SELECT count(DISTINCT request_id), sum(usd_pico) FROM llama_client_attempts"
_SPENT = "SELECT settled_pico, reserved_pico FROM llama_client_spending"


def run(folder: Path) -> list[str]:
    """What must not be, in words."""
    file = folder / "ledger.db"
    with serving() as url:
        budgets = [{"usd": 1.0, "window": "total"}]
        client = LlamaClient({**configuration(url, file), "budgets": budgets})
        _ask(client, CALLS)
        # Both connections are open now.
        client.costs.report()
        asks, told = os.pipe()
        waits, closed = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _ask(client, CALLS)
                client.costs.report()
                os.write(told, b"1")
                os.read(waits, 1)
                _ask(client, CALLS)
                client.close()
                os._exit(0)
            finally:
                os._exit(1)
        _ask(client, CALLS)
        os.read(asks, 1)
        # Who closes a file of SQLite's last puts it in order, and must not take itself for the last.
        client.close()
        os.write(closed, b"1")
        _, status = os.waitpid(child, 0)
    with closing(sqlite3.connect(file)) as connection:
        calls, pico = connection.execute(_ROWS).fetchone()
        spent = connection.execute(_SPENT).fetchall()
        health = connection.execute("PRAGMA integrity_check").fetchall()
    problems = [] if health == [("ok",)] else [f"the file is broken: {health}"]
    if status:
        problems.append(f"the child ended with {status}")
    if calls != 4 * CALLS:
        problems.append(f"{calls} of {4 * CALLS} calls are in the ledger")
    if spent != [(pico, 0)]:
        problems.append(f"{spent} was spent and set aside, and the ledger's rows come to {pico}")
    return problems


def _ask(client: LlamaClient, calls: int) -> None:
    for _ in range(calls):
        client.chat.completions.create(messages=MESSAGES, max_tokens=100)


if __name__ == "__main__":
    found = run(Path(sys.argv[1]))
    print("\n".join(found) or "all is there")
    sys.exit(bool(found))
