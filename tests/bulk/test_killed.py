"""A job that is killed with -9 is resumed: no row is lost, none is there twice, and the ledger has every answer.

`python -m tests.bulk.killed --rows 100000 --kills 5` is the long form.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bulk.killed import check, kill_and_resume
from tests.bulk.served import serving

ROWS = 300


@pytest.mark.parametrize(("is_async", "kills"), [(False, 2), (True, 1)], ids=["sync", "async"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_job_that_is_killed_again_and_again_answers_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_async: bool, kills: int
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    with serving(faults=0.3, delay_s=0.01, seed=3) as url:
        seen = kill_and_resume(url, tmp_path, ROWS, kills, 3, is_async=is_async)
        check(url, tmp_path, ROWS, seen)
    assert seen.kills == kills
