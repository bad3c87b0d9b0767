"""A target without a connection: the job says so, waits as long as it makes sense, and can go on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import APIConnectionError, BulkProgress, LlamaClientError
from llama_client.testing import FakeClock, FakeProvider
from llama_client.testing.seams import client_classes
from tests.bulk.jobs import MODES, lines, results, run

both = pytest.mark.parametrize("mode", MODES)
ROWS = [f"row {number}" for number in range(40)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake(clock: FakeClock) -> Iterator[FakeProvider]:
    with FakeProvider(clock=clock) as fake:
        yield fake


@both
@pytest.mark.parametrize("count", [1, 40], ids=["one-row", "many-rows"])
def test_a_server_that_is_not_there_ends_the_job_soon_and_the_same_call_goes_on(
    fake: FakeProvider, clock: FakeClock, mode: str, count: int, tmp_path: Path
) -> None:
    fake.always(APIConnectionError)
    began = clock.now
    with pytest.raises(APIConnectionError, match=r"could not be reached for \d+ s; .*the same call goes on") as raised:
        run(mode, fake.config(), ROWS[:count], tmp_path / "out.jsonl")
    assert "groq/" in str(raised.value)
    assert "Connection refused" in str(raised.value)
    assert clock.now - began < 20
    # Not each row again and again.
    assert len(fake.requests) < 40
    assert lines(tmp_path / "out.jsonl.job/failures.jsonl") == []
    fake.always("fine")
    receipt = run(mode, fake.config(), ROWS[:count], tmp_path / "out.jsonl")
    assert (receipt.answered, receipt.earlier, receipt.maybe_paid_twice) == (count, 0, 0)


@both
def test_without_a_folder_no_sentence_says_that_something_is_kept(fake: FakeProvider, mode: str) -> None:
    fake.always(APIConnectionError)
    with pytest.raises(APIConnectionError, match="could not be reached") as raised:
        results(mode, fake.config(), ROWS)
    assert "goes on" not in str(raised.value)


@both
def test_an_outage_in_the_middle_is_waited_out_and_told(
    fake: FakeProvider, clock: FakeClock, mode: str, tmp_path: Path
) -> None:
    told: list[BulkProgress] = []
    asked = 0

    def answer(request: Any) -> Any:
        nonlocal asked
        asked += 1
        return APIConnectionError if asked > 10 and clock.now < began + 300 else f"answer to {request.text}"

    fake.always(answer)
    began = clock.now
    receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", on_progress=told.append, max_concurrency=4)
    assert (receipt.answered, receipt.failed) == (len(ROWS), 0)
    assert [line["answer"] for line in lines(tmp_path / "out.jsonl")] == [f"answer to {row}" for row in ROWS]
    waiting = [each for each in told if each.waits_for]
    assert waiting
    assert waiting[0].waits_for is not None
    assert waiting[0].waits_for.startswith("groq/")
    assert told[-1].waits_for is None
    # One row looks, at most every few seconds.
    assert asked < 10 + 100


@both
def test_an_outage_that_does_not_end_ends_the_job_with_what_was_answered_kept(
    fake: FakeProvider, clock: FakeClock, mode: str, tmp_path: Path
) -> None:
    asked = 0

    def answer(_: Any) -> Any:
        nonlocal asked
        asked += 1
        return "fine" if asked <= 10 else APIConnectionError

    fake.always(answer)
    with pytest.raises(APIConnectionError, match=r"no connection to groq/\S+ for 15 min; what was answered is kept"):
        run(mode, fake.config(), ROWS, tmp_path / "out.jsonl", max_concurrency=2)
    fake.always("fine")
    receipt = run(mode, fake.config(), ROWS, tmp_path / "out.jsonl")
    assert (receipt.answered, receipt.earlier, receipt.failed) == (30, 10, 0)


def _two_targets() -> dict[str, Any]:
    here = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
    there = {"kind": "openai", "base_url": "http://127.0.0.1:2/v1"}
    return {
        "providers": {"here": here, "there": there},
        "routes": {"both": {"targets": ["here/m", "there/m"]}},
        "default_model": "both",
    }


@both
def test_of_a_route_all_targets_are_without_a_connection(fake: FakeProvider, mode: str) -> None:
    fake.always(APIConnectionError)
    with pytest.raises(LlamaClientError, match="here/m, there/m could not be reached"):
        results(mode, _two_targets(), ROWS)


@both
def test_a_route_with_one_target_that_is_there_goes_on(fake: FakeProvider, mode: str) -> None:
    fake.always(lambda request: APIConnectionError if request.provider == "here" else "fine")
    found, receipt = results(mode, _two_targets(), ROWS)
    assert [each.text for each in found] == ["fine"] * len(ROWS)
    assert receipt.failed == 0


@both
def test_a_few_rows_that_name_a_server_that_is_not_there_are_failures_of_their_own(
    fake: FakeProvider, mode: str
) -> None:
    fake.always(lambda request: APIConnectionError if request.provider == "there" else "fine")
    rows = [{"custom_id": str(n), "body": {"model": _model(n), "messages": _messages(n)}} for n in range(30)]
    found, _ = results(mode, _two_targets(), rows)
    failed = {each.row.position for each in found if each.error}
    assert failed == {7, 17}
    assert all(isinstance(each.error, APIConnectionError) for each in found if each.error)


def _model(number: int) -> str:
    return "there/m" if number in (7, 17) else "here/m"


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"row {number}"}]


@both
def test_rows_from_the_cache_do_not_count_as_answers_of_a_server(fake: FakeProvider, mode: str, tmp_path: Path) -> None:
    config = fake.config() | {"cache": {"enabled": True, "url": f"sqlite:///{tmp_path / 'answers.db'}"}}
    fake.always("fine")
    results(mode, config, ROWS[:3])
    fake.always(APIConnectionError)
    with pytest.raises(APIConnectionError, match="could not be reached"):
        results(mode, config, ROWS)


def test_a_port_without_a_server_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        config = {"providers": {"here": {"kind": "openai", "base_url": url}}, "default_model": "here/m"}
        client_class, _ = client_classes(clock=FakeClock())
        with client_class(config) as client, pytest.raises(APIConnectionError, match=url):
            client.bulk(ROWS).run(tmp_path / "out.jsonl")
