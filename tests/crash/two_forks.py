"""Two threads that fork at once, of which one waits longer for the other than it may.

`python -m tests.crash.two_forks FOLDER` prints how many rows the ledger then has, and whether it was closed in time.
"""

from __future__ import annotations

# Before the package: callbacks come in reverse order, and these let one thread fork at a time.
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path

from llama_client import LlamaClient, process
from llama_client.costs import database_thread
from llama_client.process import at_fork
from tests.crash.load import MESSAGES, configuration, serving


def run(folder: Path) -> str:
    file = folder / "ledger.db"
    database_thread._FORK_S = process._FORK_S = 0.1
    first_waits, second_is_done = threading.Event(), threading.Event()

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def wait() -> None:
        if threading.current_thread().name == "first":
            first_waits.set()
            second_is_done.wait(60)

    with serving() as url, LlamaClient(configuration(url, file)) as client:
        client.chat.completions.create(messages=MESSAGES)
        # Behind the ledger's own callback, so that the first thread has its lock meanwhile.
        at_fork("before", wait)
        first = threading.Thread(target=fork, name="first")
        first.start()
        first_waits.wait(60)
        fork()
        second_is_done.set()
        first.join()
        client.chat.completions.create(messages=MESSAGES)
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT count(*) FROM llama_client_attempts").fetchone()[0]
    threads = sorted(each.name for each in threading.enumerate())
    return f"{rows} rows, {threads}"


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
