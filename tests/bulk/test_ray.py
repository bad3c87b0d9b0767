"""A job on Ray does what it does here: each row once, in the order of the input, through kills of its workers.

One cluster of two processes for the file: its start is most of what these tests cost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from tests.bulk.jobs import MODES, lines, results, run
from tests.bulk.killed import kill_a_worker
from tests.bulk.ray_clusters import small_cluster
from tests.bulk.served import REFUSED, handed_out, serving

# Ray leaves sockets and processes to the end, and warns of its own functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform == "win32", reason="Ray's own support for Windows is in beta"),
]
ROWS = [f"row {number % 20}" for number in range(30)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with small_cluster():
        yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(faults=0.1, delay_s=0.01) as url:
        yield url


def configuration(url: str) -> dict[str, Any]:
    provider = {"kind": "openai", "base_url": f"{url}/v1"}
    return {"default_model": "a/m", "providers": {"a": provider}, "routing": {"breaker_failures": 1_000_000}}


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_file_has_all_results_in_the_order_of_the_input(cluster: None, url: str, mode: str, tmp_path: Path) -> None:
    out, before = tmp_path / "out.jsonl", handed_out(url)["asked"]
    receipt = run(mode, configuration(url), ROWS, out, engine="ray", ray_workers=2)
    assert [line["answer"] for line in lines(out)] == [f"answer to {row}" for row in ROWS]
    assert (receipt.answered, receipt.failed, receipt.maybe_paid_twice) == (len(ROWS), 0, 0)
    assert handed_out(url)["asked"] - before == len(ROWS)
    # The other engine goes on with the same folder, and has nothing to do.
    receipt = run(mode, configuration(url), ROWS, out)
    assert (receipt.answered, receipt.earlier) == (0, len(ROWS))


def test_a_worker_that_is_killed_loses_and_repeats_no_row(cluster: None, url: str, tmp_path: Path) -> None:
    rows = [f"killed {number}" for number in range(400)]
    left = iter([None])

    def kill_once(_: Any) -> None:
        if next(left, 0) is None:
            assert kill_a_worker()

    found, receipt = results(
        "sync",
        configuration(url),
        rows,
        each=kill_once,
        engine="ray",
        ray_workers=2,
        job=tmp_path / "job",
        max_concurrency=16,
    )
    assert sorted(each.row.position for each in found) == list(range(len(rows)))
    assert all(each.text == f"answer to {each.row.params['messages'][-1]['content']}" for each in found)
    answers = handed_out(url)["answers"]
    twice = sum(len(numbers) - 1 for row, numbers in answers.items() if row.startswith("killed"))
    assert twice <= receipt.maybe_paid_twice <= 16
    kept = lines(tmp_path / "job/results.jsonl")
    assert sorted(int(line["id"].partition("-")[0]) for line in kept) == list(range(len(rows)))


@pytest.mark.long
def test_a_job_that_was_left_goes_on_where_it_was(cluster: None, url: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"engine": "ray", "ray_workers": 1, "job": tmp_path / "job"}
    rows = [f"left {number}" for number in range(40)]
    first, _ = results("async", configuration(url), rows, most=5, max_concurrency=2, **options)
    second, receipt = results("async", configuration(url), rows, **options)
    earlier = {each.row.position for each in second if each.is_earlier}
    assert {each.row.position for each in first} <= earlier
    assert receipt.earlier == len(earlier) < len(rows)
    assert sorted(each.row.position for each in second) == list(range(len(rows)))


@pytest.mark.long
def test_the_stage_adds_columns_and_an_error_is_one_of_them(cluster: None, url: str) -> None:
    import ray.data

    from llama_client.ray import ChatStage

    config = configuration(url)
    items = [{"text": f"stage {number}", "label": number} for number in range(20)]
    items.append({"text": REFUSED, "label": 20})
    data = ray.data.from_items(items, override_num_blocks=1)
    arguments = {"prompt": "{text}", "config": config}
    answered = data.map_batches(ChatStage, fn_constructor_kwargs=arguments, batch_size=16, concurrency=1)
    rows = sorted(answered.take_all(), key=lambda row: row["label"])
    assert [row["answer"] for row in rows[:-1]] == [f"answer to {item['text']}" for item in items[:-1]]
    assert [row["error"] is None for row in rows] == [True] * 20 + [False]
    assert (rows[-1]["answer"], rows[-1]["error"][:15]) == (None, "BadRequestError")
