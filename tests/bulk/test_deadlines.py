"""A few of the random jobs of `tests.bulk.deadlines`: that command plays many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bulk.deadlines import one_job

SEEDS = [*range(200_000, 200_004)]


@pytest.mark.parametrize("seed", [*SEEDS, *[pytest.param(200_004 + n, marks=pytest.mark.long) for n in range(60)]])
def test_a_job_with_a_deadline_by_chance(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    assert one_job(seed, tmp_path).faults == []


# Of these rows some wait for idle hours, and others are in batches.
IDLE = [310_019, 310_046, 310_013]


@pytest.mark.parametrize("seed", [*IDLE, *[pytest.param(300_000 + n, marks=pytest.mark.long) for n in range(40)]])
def test_a_job_with_idle_hours_by_chance(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    assert one_job(seed, tmp_path, has_idle=True).faults == []
