"""A job on Ray goes on after a node is lost: in a file of its own, as another cluster would stand beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="Ray's own support for Windows is in beta")
def test_a_job_goes_on_after_a_node_is_lost() -> None:
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    command = [sys.executable, "-m", "tests.bulk.lost_node"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2_000:]
