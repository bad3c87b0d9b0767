"""A job answers each row once: as results come, or in a file in the order of its input."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InvalidRequestError,
    JobError,
    LlamaClient,
    LlamaClientError,
    RateLimitError,
    ServerError,
)
from llama_client.bulk.receipt import BulkProgress, BulkReceipt
from llama_client.testing import FakeClock, FakeProvider, fails
from tests.bulk.jobs import MODES, lines, results, run

both = pytest.mark.parametrize("mode", MODES)
ROWS = [f"row {number % 20}" for number in range(30)]


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(clock=FakeClock()) as fake:
        fake.always(lambda request: f"answer to {request.text}")
        yield fake


@both
def test_each_row_is_answered_once_and_repeated_prompts_too(fake: FakeProvider, mode: str) -> None:
    found, receipt = results(mode, fake.config(), ROWS)
    assert {each.row.position: each.text for each in found} == {n: f"answer to {row}" for n, row in enumerate(ROWS)}
    assert len(fake.requests) == len(found) == receipt.rows == receipt.answered == receipt.calls == len(ROWS)
    assert receipt.usd == sum(each.usd or 0 for each in found)
    assert receipt.completion_tokens == sum(
        each.completion.usage.completion_tokens or 0 for each in found if each.completion
    )


@both
def test_a_file_has_all_results_in_the_order_of_the_input(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl")
    assert [line["answer"] for line in lines(tmp_path / "out.jsonl")] == [f"answer to {row}" for row in ROWS]
    assert (receipt.answered, receipt.earlier) == (len(ROWS), 0)
    # The same call again asks nothing, and writes the same.
    before = (tmp_path / "out.jsonl").read_bytes()
    receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (receipt.answered, receipt.earlier) == (0, len(ROWS))
    assert receipt.usd == Decimal(0)
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert len(fake.requests) == len(ROWS)


@both
def test_a_job_that_was_left_goes_on_where_it_was(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    first, _ = results(mode, fake.config(), ROWS, most=5, job=folder, max_concurrency=2)
    second, receipt = results(mode, fake.config(), ROWS, job=folder)
    earlier = {each.row.position: each for each in second if each.is_earlier}
    assert {each.row.position for each in first} <= earlier.keys()
    assert receipt.earlier == len(earlier)
    assert sorted(each.row.position for each in second) == list(range(len(ROWS)))
    assert all(each.text == f"answer to {ROWS[each.row.position]}" for each in second)
    # No answer that had come was asked for again; what was in flight may have been.
    assert len(ROWS) <= len(fake.requests) <= len(ROWS) + 2


@both
def test_leaving_a_loop_ends_every_thread_and_task(fake: FakeProvider, mode: str) -> None:
    results(mode, fake.config(), (f"row {number}" for number in range(10**9)), most=3)
    assert not [each for each in threading.enumerate() if each.name.startswith("llama-client-bulk")]


@both
def test_an_endless_input_is_read_as_far_as_its_rows_are_asked(fake: FakeProvider, mode: str) -> None:
    read = 0

    def rows() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"row {read}"

    results(mode, fake.config(), rows(), most=10)
    assert read <= 1_000


@both
def test_a_consumer_that_stops_taking_stops_the_calls_in_the_end(fake: FakeProvider, mode: str) -> None:
    waits = threading.Event()

    def wait(_: Any) -> None:
        # Calls go on meanwhile, until the buffer is full.
        waits.wait(0.0 if waits.is_set() or mode == "async" else 1.5)
        waits.set()

    results(mode, fake.config(), (f"row {number}" for number in range(10**9)), most=2, each=wait, max_concurrency=64)
    assert len(fake.requests) <= 1_024 + 2 * 64


class Mood(BaseModel):
    mood: str


@both
def test_a_schema_makes_answers_objects_also_those_of_earlier_runs(
    fake: FakeProvider, mode: str, tmp_path: Path
) -> None:
    fake.always({"mood": "good"})
    for is_earlier in (False, True):
        found, _ = results(mode, fake.config(), ROWS[:3], schema=Mood, job=tmp_path / "job")
        assert [each.is_earlier for each in found] == [is_earlier] * 3
        assert all(each.completion and each.completion.choices[0].message.parsed == Mood(mood="good") for each in found)


@both
def test_a_row_that_fails_is_told_apart_and_asked_again_alone(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    broken = True

    def answer(request: Any) -> Any:
        return BadRequestError if broken and request.text == "row 3" else "fine"

    fake.always(answer)
    rows = [f"row {number}" for number in range(6)]
    receipt = run(mode, fake.config(), rows, tmp_path / "out.jsonl")
    assert (receipt.answered, receipt.failed) == (5, 1)
    (failure,) = lines(tmp_path / "out.jsonl.job/failures.jsonl")
    assert failure["error"]["type"] == "BadRequestError"
    assert failure["error"]["http_status"] == 400
    assert failure["error"]["target"] == failure["error"]["attempts"][0]["target"]
    assert "BadRequestError" in lines(tmp_path / "out.jsonl")[3]["error"]
    # Done is done, until it is asked for.
    assert run(mode, fake.config(), rows, tmp_path / "out.jsonl").earlier == 6
    broken = False
    receipt = run(mode, fake.config(), rows, tmp_path / "out.jsonl", retry_failed=True)
    assert (receipt.answered, receipt.failed, receipt.earlier) == (1, 0, 5)
    assert [line["answer"] for line in lines(tmp_path / "out.jsonl")] == ["fine"] * 6
    assert lines(tmp_path / "out.jsonl.job/failures.jsonl") == []
    assert Counter(request.text for request in fake.requests)["row 3"] == 2


@both
def test_an_error_that_may_pass_gives_a_row_another_try(fake: FakeProvider, mode: str) -> None:
    # More than the router's own tries.
    fake.says(*[fails(RateLimitError, retry_after_s=90)] * 3, *[ServerError] * 3)
    found, receipt = results(mode, fake.config(), ["a row"])
    assert (found[0].text, receipt.failed) == ("answer to a row", 0)
    assert receipt.calls == len(fake.requests) > 3


@both
def test_a_row_that_goes_on_failing_is_given_up(fake: FakeProvider, mode: str) -> None:
    fake.always(ServerError)
    (result,), receipt = results(mode, fake.config(), ["a row"])
    assert isinstance(result.error, ServerError)
    assert receipt.failed == 1
    # Those that were skipped, as the circuit was open, are told too.
    assert sum(each.sent for each in result.error.attempts) == len(fake.requests) == receipt.calls
    assert result.error.__traceback__ is None


@both
def test_a_key_that_is_refused_stops_the_job_and_no_row_has_failed(
    fake: FakeProvider, mode: str, tmp_path: Path
) -> None:
    fake.always(AuthenticationError)
    with pytest.raises(AuthenticationError):
        run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", max_concurrency=4)
    assert len(fake.requests) <= 12
    assert not (tmp_path / "out.jsonl").exists()
    fake.always("fine")
    receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (receipt.answered, receipt.failed, receipt.earlier) == (len(ROWS), 0, 0)


@both
def test_a_few_rows_with_such_an_error_are_failures(fake: FakeProvider, mode: str) -> None:
    fake.always(AuthenticationError)
    found, receipt = results(mode, fake.config(), ROWS[:3])
    assert [type(each.error) for each in found] == [AuthenticationError] * 3
    assert receipt.failed == 3


@both
def test_a_budget_that_is_used_up_stops_the_job(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    config = fake.config() | {"budgets": [{"window": "day", "usd": 0.0000001}]}
    with pytest.raises(BudgetExceededError):
        run(mode, config, ROWS, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl.job/failures.jsonl") == []
    assert run(mode, fake.config(), ROWS, tmp_path / "out.jsonl").failed == 0


def test_closing_the_client_ends_the_job_and_it_can_go_on(fake: FakeProvider, tmp_path: Path) -> None:
    client = LlamaClient(fake.config())
    results_so_far = iter(client.bulk(ROWS, job=tmp_path / "job", max_concurrency=1))
    next(results_so_far)
    client.close()
    with pytest.raises(JobError, match="client was closed"):
        list(results_so_far)
    assert lines(tmp_path / "job/failures.jsonl") == []
    found, _ = results("sync", fake.config(), ROWS, job=tmp_path / "job")
    assert len(found) == len(ROWS)


@both
def test_an_error_in_the_input_ends_the_job_with_it(fake: FakeProvider, mode: str) -> None:
    def rows() -> Iterator[str]:
        yield "a row"
        raise ZeroDivisionError("of the user's own")

    with pytest.raises(ZeroDivisionError):
        results(mode, fake.config(), rows())


@both
def test_progress_is_told_to_the_end(fake: FakeProvider, mode: str) -> None:
    told: list[BulkProgress] = []
    results(mode, fake.config(), ROWS, on_progress=told.append)
    assert (told[-1].done, told[-1].failed, told[-1].in_flight, told[-1].total) == (len(ROWS), 0, 0, len(ROWS))


@both
def test_a_file_of_somebody_elses_is_left_alone(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious")
    with pytest.raises(JobError, match="file exists"):
        run(mode, fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    assert fake.requests == []
    assert not (tmp_path / "out.jsonl.job").exists()


_BATCH_ROW = {"custom_id": "a", "body": {"messages": [{"role": "user", "content": "Hi"}]}}


@both
@pytest.mark.parametrize("row", ["Hi", _BATCH_ROW], ids=["prompt", "batch-line"])
@pytest.mark.parametrize("model", ["", [], [""], 5], ids=["empty", "no-names", "empty-name", "number"])
@pytest.mark.parametrize("way", ["argument", "params", "view"])
def test_a_model_that_is_no_name_is_told_and_nothing_is_asked(
    fake: FakeProvider, mode: str, row: Any, model: Any, way: str
) -> None:
    ways: dict[str, dict[str, Any]] = {"argument": {"model": model}, "params": {"params": {"model": model}}}
    if way != "view":
        with pytest.raises(InvalidRequestError, match="model: must be 'provider/model-id'") as raised:
            results(mode, fake.config(), [row], **ways[way])
    else:
        with (
            LlamaClient(fake.config()) as client,
            pytest.raises(InvalidRequestError, match="model: must be 'provider/model-id'") as raised,
        ):
            list(client.with_options(model=model).bulk([row]))
    assert raised.value.param == "model"
    assert fake.requests == []


def test_a_receipt_says_whether_a_run_has_begun(fake: FakeProvider, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n')
    with LlamaClient(fake.config()) as client:
        job = client.bulk(path)
        assert job.receipt == BulkReceipt(has_begun=False)
        assert "not begun" in job._repr_html_()
        list(job)
        assert (job.receipt.has_begun, job.receipt.answered) == (True, 1)
        path.unlink()
        with pytest.raises(LlamaClientError, match=r"in\.jsonl"):
            list(job)
        assert job.receipt == BulkReceipt(has_begun=False)


@both
@pytest.mark.parametrize("path", ["", ".", "a\0.csv", 5, b"a.csv", None], ids=repr)
def test_a_path_that_is_none_is_told_and_nothing_is_asked(fake: FakeProvider, mode: str, path: Any) -> None:
    with pytest.raises(InvalidRequestError, match="path: must be a path, got"):
        run(mode, fake.config(), ["a"], path)
    if path not in (None, "."):
        with pytest.raises(InvalidRequestError, match="job: must be a path, got"):
            results(mode, fake.config(), ["a"], job=path)
    assert fake.requests == []
