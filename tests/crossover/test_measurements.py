"""Measured points outlive the process that measured them, whatever else is written into their file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import date, datetime
from pathlib import Path

import platformdirs
import pytest

from llama_client import ConfigError
from llama_client.clock import Clock
from llama_client.crossover.throughput.measurements import MAX_FILE_BYTES, Measurements
from llama_client.crossover.throughput.points import MeasuredPoint

POINT = MeasuredPoint("llama-3.1-8b", "h100_sxm", 1, "fp8", "vllm", 512, 128, 8, 900.5, 8.25, 41.0, date(2026, 11, 26))
_ROOT = Path(__file__).parents[2]
_WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from llama_client.crossover.throughput.measurements import Measurements
from tests.crossover.test_measurements import POINT
kept = Measurements(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(100):
    kept.add([replace(POINT, gpu=sys.argv[2], concurrency=2 * number + each) for each in (1, 2)])
"""


@pytest.fixture
def kept(tmp_path: Path) -> Measurements:
    return Measurements(tmp_path / "data" / "points.jsonl")


def found(kept: Measurements, point: MeasuredPoint = POINT) -> list[MeasuredPoint]:
    """The kept points of a point's configuration, by their load and lengths."""
    wanted = (point.model, point.gpu, point.n_gpus, point.precision)
    points = [
        each
        for each in kept.read().points
        if (each.model, each.gpu, each.n_gpus, each.precision) == wanted
        and (point.engine is None or each.engine in (None, point.engine))
    ]
    return sorted(points, key=lambda each: (each.concurrency, each.input_tokens, each.output_tokens))


def test_what_was_added_is_found_by_another(kept: Measurements) -> None:
    unknown = replace(POINT, engine=None, tpot_ms=None, ttft_ms=None, concurrency=1)
    kept.add([POINT, unknown], target="vllm/some-model")
    assert found(Measurements(kept.file)) == [unknown, POINT]
    assert all(json.loads(line)["target"] == "vllm/some-model" for line in kept.file.read_text().splitlines())


def test_of_no_file_nothing_is_found_and_none_is_made(kept: Measurements) -> None:
    kept.add([])
    assert found(kept) == []
    assert not kept.file.parent.exists()


@pytest.mark.parametrize(
    "other",
    [{"model": "llama-3.1-70b"}, {"gpu": "h200_sxm"}, {"n_gpus": 2}, {"precision": "bf16"}, {"engine": "sglang"}],
    ids=lambda other: next(iter(other)),
)
def test_only_that_configuration_is_found(kept: Measurements, other: dict[str, object]) -> None:
    kept.add([replace(POINT, **other)])  # type: ignore[arg-type]
    assert found(kept) == []


def test_without_an_engine_each_is_found_and_a_point_without_one_is_found_for_each(kept: Measurements) -> None:
    nameless = replace(POINT, engine=None)
    kept.add([POINT, nameless, replace(POINT, engine="sglang")])
    assert {point.engine for point in found(kept)} == {None, "vllm"}
    assert {point.engine for point in found(kept, nameless)} == {None, "vllm", "sglang"}


def test_the_newest_of_a_configuration_wins_also_where_lengths_vary_a_little(kept: Measurements) -> None:
    kept.add([POINT, replace(POINT, concurrency=1), replace(POINT, input_tokens=2000)])
    newer = replace(POINT, output_tokens_per_s=950.0, input_tokens=530, output_tokens=120)
    kept.add([newer])
    assert found(kept) == [replace(POINT, concurrency=1), newer, replace(POINT, input_tokens=2000)]


_ROW = asdict(POINT) | {"measured_on": "2026-11-26"}
_WRONG: list[dict[str, object]] = [
    {"concurrency": 0},
    {"concurrency": True},
    {"n_gpus": 1.5},
    {"output_tokens_per_s": float("nan")},
    {"output_tokens_per_s": -1},
    {"tpot_ms": "fast"},
    {"measured_on": "today"},
    {"measured_on": "2999-01-01"},
    {"gpu": ""},
    {"engine": 3},
]


@pytest.mark.parametrize(
    "broken",
    [
        *("no JSON", "[1, 2]", "null", "{}", "[" * 4000, json.dumps(_ROW | {"target": "x" * 5000})),
        *(json.dumps(_ROW | wrong) for wrong in _WRONG),
    ],
    ids=lambda text: text[:12] if len(text) > 12 else text,
)
def test_a_broken_line_is_passed_over_and_counted(kept: Measurements, broken: str) -> None:
    kept.add([POINT])
    with kept.file.open("a") as file:
        file.write(f"{broken}\n\n")
    kept.add([replace(POINT, concurrency=16)])
    assert [point.concurrency for point in found(kept)] == [8, 16]
    assert kept.read().broken_lines == 1


def test_a_line_that_a_dying_process_left_unfinished_does_not_take_the_next_with_it(kept: Measurements) -> None:
    kept.add([POINT])
    with kept.file.open("r+b") as file:
        file.truncate(kept.file.stat().st_size - 20)
    kept.add([replace(POINT, concurrency=16)])
    assert [point.concurrency for point in found(kept)] == [16]
    assert kept.read().broken_lines == 1


def test_of_a_file_that_has_grown_too_long_the_newest_part_is_read(kept: Measurements) -> None:
    kept.add([POINT])
    with kept.file.open("ab") as file:
        file.write(b"\xff" * MAX_FILE_BYTES + b"\n")
    kept.add([replace(POINT, concurrency=16)])
    assert [point.concurrency for point in found(kept)] == [16]


def test_processes_that_add_at_once_lose_nothing(kept: Measurements) -> None:
    names = ("h100_sxm", "h200_sxm", "b200_sxm")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(kept.file), name], stdin=subprocess.PIPE, text=True, cwd=_ROOT
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    read = kept.read()
    assert read.broken_lines == 0
    for name in names:
        assert [point.concurrency for point in found(kept, replace(POINT, gpu=name))] == list(range(1, 201))


def test_the_users_own_are_beside_the_ledger(clean_home: Path) -> None:
    file = Measurements.of_user().file
    assert file.parent == platformdirs.user_data_path("llama-client", appauthor=False)
    assert clean_home in file.parents
    Measurements.of_user().add([POINT])
    assert found(Measurements.of_user()) == [POINT]
    if sys.platform != "win32":
        assert file.stat().st_mode & 0o077 == 0


def test_a_day_to_come_is_no_day_of_a_measurement(tmp_path: Path) -> None:
    def kept_at(day: str) -> Measurements:
        wall = datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp()
        return Measurements(tmp_path / "points.jsonl", clock=Clock(wall=lambda: wall))

    kept_at("2026-11-26").add([POINT])
    # A day: clocks differ around midnight.
    assert found(kept_at("2026-11-25")) == [POINT]
    assert found(kept_at("2026-11-24")) == []
    assert kept_at("2026-11-24").read().broken_lines == 1


def test_what_cannot_be_read_is_an_error_that_names_the_file(kept: Measurements) -> None:
    kept.file.mkdir(parents=True)
    for read in (kept.read, lambda: found(kept)):
        with pytest.raises(ConfigError) as refused:
            read()
        assert str(refused.value).startswith(f"{kept.file}: the measurements of `llama-client bench` cannot be read")
