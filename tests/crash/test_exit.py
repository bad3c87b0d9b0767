"""What runs before a process exits: in which order, and that it is taken back."""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.costs.ledger import Ledger
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import WireServer
from tests.crash.load import MESSAGES, configuration

ROOT = Path(__file__).parents[2]
_IN_ORDER = """
from llama_client.process import before_exit, not_before_exit

def write():
    print("written")

def end():
    print("ended")
    # As a ledger's thread that had ended starts again with a row.
    before_exit(write, writes=True)

def never():
    print("never")

before_exit(end)
before_exit(write, writes=True)
before_exit(never)
not_before_exit(never)
"""


def test_streams_are_ended_before_the_last_rows_are_written_whichever_thread_started_first() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_ORDER], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("ended\nwritten\n", "")


def _ledgers_left(settings: dict[str, Any], told: Connection) -> None:
    for _ in range(3):
        with LlamaClient(settings) as client:
            client.chat.completions.create(messages=MESSAGES)
    del client
    gc.collect()
    told.send(sum(isinstance(each, Ledger) for each in gc.get_objects()))


def test_a_client_that_was_closed_in_a_process_of_multiprocessing_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    context = multiprocessing.get_context("spawn")
    listens, told = context.Pipe(duplex=False)
    with WireServer(lambda _: OPENAI.good(streams=False)) as server:
        settings = configuration(server.url, tmp_path / "ledger.db")
        process = context.Process(target=_ledgers_left, args=(settings, told))
        process.start()
        assert listens.poll(60)
        assert listens.recv() == 0
        process.join(60)
        assert process.exitcode == 0
    listens.close()
    told.close()
    process.close()
