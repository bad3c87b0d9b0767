"""What a job does, whoever makes its calls: threads, tasks, or workers on Ray; and what those do through kills.

One cluster of two processes for the file, and few jobs on it by default: they are most of what these tests cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import APIConnectionError, AuthenticationError, BudgetExceededError, BulkProgress, LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.bulk.jobs import lines, results, run
from tests.bulk.killed import kill_a_worker
from tests.bulk.served import REFUSED, handed_out, serving

# Ray leaves sockets and processes to the end, and warns of its own functions.
pytestmark = pytest.mark.filterwarnings("ignore")
on_ray = pytest.mark.skipif(sys.platform == "win32", reason="Ray's own support for Windows is in beta")
ROWS = [f"row {number % 20}" for number in range(30)]


def engines(*, is_long: bool = True) -> pytest.MarkDecorator:
    """Each driver of calls; those of Ray by default only where they show what no other test does."""
    marks = [on_ray, pytest.mark.long] if is_long else [on_ray]
    return pytest.mark.parametrize(
        ("mode", "engine"),
        [
            pytest.param("sync", "local", id="threads"),
            pytest.param("async", "local", id="tasks"),
            pytest.param("sync", "ray", id="ray", marks=marks),
            pytest.param("async", "ray", id="ray-async", marks=[on_ray, pytest.mark.long]),
        ],
        indirect=["engine"],
    )


class Desk:
    """A model on loopback that says what it is asked.

    Attributes:
        refused: The status for prompts, by prompt; of "*" all.
        says: Its answer; None: the prompt.
    """

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.says: str | None = None
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, received: Received) -> Answer:
        prompt = received.json["messages"][-1]["content"]
        with self._lock:
            self.asked[prompt] += 1
        status = self.refused.get("*") or self.refused.get(prompt)
        if status is not None:
            return as_json({"error": {"message": "not this one", "type": "x", "code": None}}, status=status)
        return OPENAI.good(streams=False, text=self.says or prompt)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def config(desk: Desk) -> Iterator[dict[str, Any]]:
    with WireServer(desk.answer) as server:
        prices = [{"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}]
        yield configuration(server.url) | {"prices": prices}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    from tests.bulk.ray_clusters import small_cluster

    with small_cluster():
        yield


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments that choose it."""
    if request.param == "local":
        return {}
    request.getfixturevalue("cluster")
    return {"engine": "ray", "ray_workers": 2}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(faults=0.1, delay_s=0.01) as url:
        yield url


def configuration(url: str) -> dict[str, Any]:
    provider = {"kind": "openai", "base_url": f"{url}/v1"}
    return {"default_model": "a/m", "providers": {"a": provider}, "routing": {"breaker_failures": 1_000_000}}


@engines()
def test_a_file_is_in_the_order_of_the_input_and_another_engine_goes_on_with_it(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    receipt = run(mode, config, ROWS, out, limit=10, **engine)
    assert [line["answer"] for line in lines(out)] == ROWS[:10]
    assert (receipt.answered, receipt.failed, receipt.maybe_paid_twice, receipt.calls) == (10, 0, 0, 10)
    assert run(mode, config, ROWS, out, limit=10).earlier == desk.asked.total() == 10
    assert run(mode, config, ROWS, out).earlier == 10
    assert run(mode, config, ROWS, out, **engine).earlier == desk.asked.total() == len(ROWS)
    assert [line["answer"] for line in lines(out)] == ROWS


@engines(is_long=False)
def test_a_job_costs_at_most_what_it_may_over_all_its_runs(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    out, rows = tmp_path / "out.jsonl", [f"row {number}" for number in range(24)]
    params: dict[str, Any] = {"params": {"max_tokens": 50}}
    one = results(mode, config, rows[:1], **params)[1].usd
    with LlamaClient(config) as client:
        worst = client.bulk(rows[:1], **params).plan().most_usd
    assert one
    assert worst
    desk.asked.clear()
    # A row may begin while its worst case fits.
    most = worst + one * 9
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match=r"max_usd: .* rows are done; the other .* would cost") as told:
            run(mode, config, rows, out, max_usd=most, **params, **engine)
        # The larger texts of later rows cost a token more.
        assert one * desk.asked.total() <= (told.value.spent_usd or 0) <= most
        assert desk.asked.total() >= 9
        engine = {}
    before = desk.asked.total()
    receipt = run(mode, config, rows, out, max_usd=Decimal(1), **params)
    assert (receipt.earlier, receipt.answered, receipt.failed) == (before, len(rows) - before, 0)
    assert set(desk.asked.values()) == {1}


@engines()
def test_a_failed_row_is_told_apart_and_asked_again_where_that_is_wanted(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    desk.refused = {"row 3": 400}
    receipt = run(mode, config, ROWS[:6], out, **engine)
    assert (receipt.answered, receipt.failed) == (5, 1)
    (failure,) = lines(tmp_path / "out.jsonl.job/failures.jsonl")
    assert (failure["error"]["type"], failure["error"]["http_status"]) == ("BadRequestError", 400)
    desk.refused = {}
    receipt = run(mode, config, ROWS[:6], out, retry_failed=True, **engine)
    assert (receipt.answered, receipt.failed, receipt.earlier) == (1, 0, 5)
    assert [line["answer"] for line in lines(out)] == ROWS[:6]


@engines()
def test_a_key_that_is_refused_stops_the_job_and_no_row_has_failed(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    desk.refused = {"*": 401}
    with pytest.raises(AuthenticationError):
        run(mode, config, ROWS, tmp_path / "out.jsonl", **engine)
    assert not (tmp_path / "out.jsonl").exists()
    assert lines(tmp_path / "out.jsonl.job/failures.jsonl") == []
    desk.refused = {}
    assert run(mode, config, ROWS, tmp_path / "out.jsonl").answered == len(ROWS)


@engines()
def test_answers_are_parsed_where_there_is_a_schema(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
    desk.says = json.dumps({"mood": "good"})
    found, _ = results(mode, config, ROWS[:3], schema=schema, **engine)
    parsed: list[Any] = [each.completion and each.completion.choices[0].message.parsed for each in found]
    assert [each.root for each in parsed] == [{"mood": "good"}] * 3


@engines()
def test_a_loop_that_is_left_keeps_what_came_and_leaves_nothing_running(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    rows = [f"left {number}" for number in range(2_000)]
    first, _ = results(mode, config, rows, most=5, max_concurrency=2, job=tmp_path / "job", **engine)
    assert not [each for each in threading.enumerate() if each.name.startswith("llama-client-bulk")]
    assert desk.asked.total() < len(rows)
    second, receipt = results(mode, config, rows, job=tmp_path / "job")
    earlier = {each.row.position for each in second if each.is_earlier}
    assert {each.row.position for each in first} <= earlier
    assert receipt.earlier == len(earlier)
    assert sorted(each.row.position for each in second) == list(range(len(rows)))


@engines()
def test_ctrl_c_keeps_what_is_in_flight(
    desk: Desk, config: dict[str, Any], mode: str, engine: dict[str, Any], tmp_path: Path
) -> None:
    if mode == "async":
        pytest.skip("Ctrl-C on an event loop is a signal: tests/bulk/test_interrupted.py")
    rows = [f"cut {number}" for number in range(2_000)]

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results(mode, config, rows, each=interrupt, max_concurrency=4, job=tmp_path / "job", **engine)
    receipt = results(mode, config, rows, job=tmp_path / "job")[1]
    assert 0 < receipt.earlier < len(rows)


@on_ray
@pytest.mark.long
def test_a_server_that_no_worker_reaches_is_told_and_ends_the_job(cluster: None) -> None:
    told: list[BulkProgress] = []
    with pytest.raises(APIConnectionError, match="a/m could not be reached"):
        results("sync", configuration("http://127.0.0.1:9"), ROWS, on_progress=told.append, engine="ray", ray_workers=2)
    assert any(each.waits_for == "a/m" for each in told)


@on_ray
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


@on_ray
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


def test_a_job_with_nothing_left_does_not_start_ray(config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    first = run("sync", config, ROWS, tmp_path / "out.jsonl")
    # There is no cluster at that address.
    told = run("sync", config, ROWS, tmp_path / "out.jsonl", engine="ray", ray_address="127.0.0.1:1")
    assert (first.answered, told.earlier, told.has_begun) == (len(ROWS), len(ROWS), True)
    assert lines(tmp_path / "out.jsonl")


def test_the_stage_works_where_a_loop_runs(config: dict[str, Any]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from llama_client.ray import ChatStage

    async def in_a_notebook() -> list[str]:
        stage = ChatStage(config=config)
        try:
            return [stage(pyarrow.table({"text": [text]})).column("answer").to_pylist()[0] for text in ("a", "b")]
        finally:
            stage.close()

    assert asyncio.run(in_a_notebook()) == ["a", "b"]
