"""Each target holds for its seeds and some examples, and the harness finds what it is there to find.

`python -m tests.fuzz --seconds 1200` is the long form; with atheris installed it looks for new branches.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from llama_client.testing import NetworkGuard
from tests.fuzz.__main__ import fuzz
from tests.fuzz.engines import Run, by_hypothesis
from tests.fuzz.sandbox import sandbox
from tests.fuzz.target import Target, lines_of
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEEDS, EXAMPLES = 60, 40
FOR_EVER = float("inf")


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds(name: str, only_loopback: NetworkGuard) -> None:
    with import_module(TARGETS[name]).opened() as target:
        run = Run(target)
        for data in target.seeds[:: -(-len(target.seeds) // SEEDS)]:
            run.one(data)
        by_hypothesis(run, until=FOR_EVER, examples=EXAMPLES)
    assert [(fault.where, fault.data, fault.text) for fault in run.faults.values()] == []
    assert run.executions >= EXAMPLES
    # Commands that download were refused, as they should be here.
    only_loopback.attempts.clear()


def test_a_fault_is_told_once_with_its_shortest_input() -> None:
    def check(data: bytes) -> None:
        if b"x" in data:
            raise ValueError(data)

    run = Run(Target("planted", check, (b"", b"aaxbb", b"x", b"xx")))
    for data in run.target.seeds:
        run.one(data)
    (fault,) = run.faults.values()
    assert (run.executions, fault.times, fault.data) == (4, 3, b"x")
    assert "ValueError" in fault.where


def test_inputs_near_the_seeds_are_tried() -> None:
    seen: set[bytes] = set()
    run = Run(Target("planted", seen.add, (b"a seed",), tokens=(b"word",)))
    by_hypothesis(run, until=FOR_EVER, examples=200)
    assert any(b"word" in data and b"se" in data for data in seen)


def test_work_by_the_square_of_an_input_is_a_fault() -> None:
    def check(data: bytes) -> None:
        for _ in data:
            for _ in data:
                pass

    def faults(size: int) -> int:
        run = Run(Target("planted", check, (b"",), lines=(100, 10)))
        # One input in 64 is counted.
        for number in range(200):
            run.one(b"%03d" % number + bytes(size))
        return len(run.faults)

    assert faults(0) == 0
    assert faults(100) == 1


def test_lines_are_counted() -> None:
    def work(times: int) -> None:
        for _ in range(times):
            pass

    ten, twenty = (lines_of(partial(work, times)) for times in (10, 20))
    assert twenty - ten == 2 * 10


def test_a_sandbox_keeps_files_programs_and_connections_inside(tmp_path: Path) -> None:
    with sandbox() as folder:
        (folder / "inside").write_text("x")
        for escape in (
            lambda: (tmp_path / "outside").write_text("x"),
            lambda: os.mkdir(tmp_path / "outside"),
            lambda: os.rename(folder / "inside", tmp_path / "outside"),
            lambda: subprocess.run([sys.executable, "--version"], check=False),
            lambda: socket.create_connection(("127.0.0.1", 1)),
        ):
            with pytest.raises(PermissionError):
                escape()
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "after").write_text("x")


def test_targets_that_a_busy_machine_does_not_run_in_time_have_failed() -> None:
    (late,) = fuzz(["headers"], "hypothesis", share_s=1, seed=1, longest_s=0)
    assert (late.name, late.executions) == ("headers", 0)
    assert "did not begin within 0 s of real time" in str(late.failed)


# The gate runs the command itself.
@pytest.mark.long
def test_the_command_fuzzes_within_its_time_and_tells_executions() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "8", "--target", "headers", "--engine", "hypothesis"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    name, executions, *_, faults = done.stdout.splitlines()[-1].split()
    assert (name, faults) == ("headers", "0")
    assert int(executions.replace(",", "")) > 0
