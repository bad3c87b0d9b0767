"""A job that is cut off at any step, and resumed: nothing is lost, asked twice, paid twice or left at the provider."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client.bulk.batches import steps
from llama_client.bulk.batches.driver import BatchRun
from llama_client.bulk.batches.parts import Part
from llama_client.testing import FakeClock
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from tests.bulk.batching import DAY_S, MODELS, Bench, Kept, counted, rows
from tests.bulk.test_batches import NEEDS_TOGETHER

ROWS = 3


class CutOffError(BaseException):
    """As if the process ended here."""


class Knife:
    """Cuts a run off before its nth step that is not a wait. After the one before it all is the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.step: steps.Step | None = None
        self._left = at
        perform = BatchRun._performed

        def performed(run: BatchRun, part: Part, step: steps.Step) -> Any:
            self._left -= 1
            if self._left == 0:
                self.step = step
                raise CutOffError
            return perform(run, part, step)

        monkeypatch.setattr(BatchRun, "_performed", performed)


@pytest.mark.parametrize(
    "kind",
    [
        "openai",
        pytest.param("groq", marks=pytest.mark.long),
        pytest.param("together", marks=[pytest.mark.long, NEEDS_TOGETHER]),
    ],
)
def test_a_job_goes_on_from_wherever_it_was_cut_off(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    cut: list[str] = []
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        clock = FakeClock()
        with BatchServer(kind, clock=clock) as server:
            server.every_batch(BatchPlay(failing=0.34))
            bench = Bench(server, clock, folder, {"budgets": [{"usd": 1, "window": "total"}]})
            kept = Kept()
            with monkeypatch.context() as cutting:
                knife = Knife(cutting, at)
                with bench.client() as client:
                    venue = bench.venue(client)
                    venue.add(rows(ROWS), window_s=DAY_S, refused=kept.refuse)
                    try:
                        venue.run(kept).wait()
                    except CutOffError:
                        assert knife.step is not None
                        cut.append(type(knife.step).__name__)
            bench.run([], kept)
            assert ({*kept.texts}, {*kept.errors}, {*kept.left}) == ({0, 1}, {2}, set()), cut
            report = server.batch_report()
            assert (report.uploaded, report.created) == (1, 1), cut
            assert (report.left_files, report.left_batches, report.orphans) == ([], [], []), cut
            ledger = bench.ledger()
            assert len(ledger) == ROWS
            spent = sum((row.usd for row in ledger if row.usd is not None), Decimal(0))
            assert counted(bench) == (spent, Decimal(0)), cut
        if knife.step is None:
            break
    assert {"Upload", "Create", "Retrieve", "Collect", "Settle", "Delete", "Save"} <= set(cut)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from llama_client import LlamaClient
from llama_client.bulk.batches.official import OfficialBatches
from llama_client.bulk.batches.venue import BatchVenue
from tests.bulk.batching import Kept, config, rows

kind, model, url, folder, where = sys.argv[1:]
def killing(name, is_after):
    real = getattr(OfficialBatches, name)
    def kill(self, *arguments):
        if is_after:
            real(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(OfficialBatches, name, kill)
name, _, moment = where.partition(" ")
if name:
    killing(name, moment == "after")
kept = Kept()
budgets = [{"usd": 1, "window": "total"}]
with LlamaClient(config(kind, url, Path(folder), budgets=budgets)) as client:
    job = Path(folder) / "job"
    job.mkdir(exist_ok=True)
    venue = BatchVenue(client._context, f"x/{model}", job)
    if not venue.parts:
        venue.add(rows(3), window_s=86400, refused=kept.refuse)
    venue.run(kept).wait()
print(sorted(kept.texts))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("upload after", marks=pytest.mark.long),
        pytest.param("create before", marks=pytest.mark.long),
        "create after",
    ],
)
def test_kill_9_around_the_creation_of_a_batch_leaves_no_orphan(where: str, tmp_path: Path) -> None:
    def run(where: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "LLAMA_CLIENT_LEDGER__ENABLED": "true", "PYTHONPATH": str(Path(__file__).parents[2])}
        arguments = ["groq", MODELS["groq"], server.url_for("groq"), str(tmp_path), where]
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, env=environ, timeout=120
        )

    with BatchServer("groq") as server:
        assert run(where).returncode == -signal.SIGKILL
        ended = run("")
        assert (ended.returncode, ended.stdout) == (0, "[0, 1, 2]\n"), ended.stderr
        report = server.batch_report()
    assert (report.uploaded, report.created) == (1, 1)
    assert (report.left_files, report.orphans) == ([], [])
    assert set(report.billed.values()) == {1}
