"""A client that is killed at work loses the rows of its last moments, and nothing else.

`python -m tests.crash --kills 200 --seed 7` is the long form.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS, SEED = 8, 1


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither fork, which makes a client ready at once, nor SIGKILL"
)
def test_a_client_that_is_killed_loses_no_row_older_than_the_flush_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    # In a process of its own, since one with threads cannot be forked.
    command = [sys.executable, "-m", "tests.crash", "--kills", str(KILLS), "--seed", str(SEED)]
    # Where other tests keep the disk busy, a row comes there later; the long form has no such patience.
    command += ["--slack-s", "0.3"]
    # Some hundred calls a second; the long form makes as many as two cores can.
    command += ["--pause-s", "0.01"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{KILLS} kills:" in done.stdout
