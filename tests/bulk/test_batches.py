"""Rows at the batch APIs of OpenAI, Groq and Together, through their official packages."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from llama_client import AsyncLlamaClient, LlamaClient
from llama_client.bulk.batches import official
from llama_client.bulk.batches.limits import LIMITS, BatchLimits, window_name
from llama_client.bulk.batches.parts import PartsFile
from llama_client.bulk.batches.requests import Requests
from llama_client.bulk.batches.splitting import split
from llama_client.bulk.batches.venue import BatchVenue
from llama_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigError,
    InvalidRequestError,
    JobError,
    LocalOnlyError,
    MissingExtraError,
    RequestTooLargeError,
    ServerError,
    UnsupportedFeatureError,
)
from llama_client.testing import FakeClock, using
from llama_client.testing.faults.batches import BatchPlay, BatchServer, Mishap, Step
from llama_client.testing.faults.batches.plays import BATCH_KINDS, BatchKind
from tests.bulk.batching import DAY_S, MODELS, Bench, Kept, config, counted, rows, until_asked

HAS_TOGETHER = find_spec("together") is not None
NEEDS_TOGETHER = pytest.mark.skipif(not HAS_TOGETHER, reason="together is not installed")
KINDS = [pytest.param(kind, marks=NEEDS_TOGETHER if kind == "together" else []) for kind in BATCH_KINDS]
# Per million tokens, of the models that tests ask.
BATCH_PRICES = {"openai": ("1", "4"), "groq": ("0.025", "0.04"), "together": ("0.52", "0.52")}


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    kind: BatchKind = getattr(request, "param", "openai")
    clock = FakeClock()
    with BatchServer(kind, clock=clock) as server:
        yield Bench(server, clock, tmp_path)


def texts(*positions: int) -> dict[int, str]:
    return {position: f"re: ticket {position}" for position in positions}


def require_clean(bench: Bench) -> None:
    """Nothing is left at the server, and nothing was paid twice."""
    report = bench.server.batch_report()
    assert (report.left_files, report.left_batches, report.orphans) == ([], [], [])
    assert set(report.billed.values()) <= {1}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_rows_are_answered_at_the_price_of_batches(bench: Bench, mode: str) -> None:
    bench.server.every_batch(BatchPlay(takes_s=60, is_reordered=True))
    kept = bench.run(rows(5), mode=mode)
    assert kept.texts == texts(0, 1, 2, 3, 4)
    result = min(kept.results, key=lambda each: each.row.position)
    completion = result.completion
    assert completion is not None
    assert (completion.service_tier, completion.target, result.venue) == (
        "batch",
        f"x/{MODELS[bench.server.kind]}",
        "batch",
    )
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (5, 2)
    assert (result.row.columns, result.row.where) == ({"n": 0}, "tickets.csv, line 2")
    ledger = bench.ledger()
    assert {row.request_id for row in ledger} == {
        each.completion.request_id for each in kept.results if each.completion
    }
    spent = sum((row.usd for row in ledger if row.usd is not None), Decimal(0))
    assert spent == sum((each.usd for each in kept.results if each.usd is not None), Decimal(0))
    assert spent == bench.priced(*BATCH_PRICES[bench.server.kind])
    require_clean(bench)


@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_a_batch_that_expires_is_answered_in_part(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(ending="expired", takes_s=300, answered=0.5))
    kept = bench.run(rows(6))
    assert kept.texts == texts(0, 1, 2)
    assert kept.left.keys() == {3, 4, 5}
    assert sorted(bench.server.batch_report().billed.values()) == [1, 1, 1]
    assert len(bench.ledger()) == 3
    require_clean(bench)


@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_rows_of_a_batch_that_is_refused_are_left_for_others(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(ending="failed", problem="no such model"))
    kept = bench.run(rows(3))
    assert kept.results == []
    assert set(kept.left.values()) == {"its batch failed: no such model"}
    assert bench.ledger() == []
    require_clean(bench)


@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_what_is_answered_when_a_batch_is_cancelled_is_collected(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(takes_s=1000, answered=0.5))
    kept = Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(10), window_s=DAY_S, refused=kept.refuse)
        run = venue.run(kept)
        until_asked(bench.server, "retrieve", 5)
        run.cancel()
        run.wait()
        assert venue.is_settled
    report = bench.server.batch_report()
    assert report.cancelled == 1
    assert len(kept.texts) == len(report.billed) <= 5
    assert len(kept.texts) + len(kept.left) == 10
    require_clean(bench)


def test_a_job_that_is_cancelled_before_its_batch_is_created_leaves_nothing(bench: Bench) -> None:
    kept = Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(2), window_s=DAY_S, refused=kept.refuse)
        bench.server.fails("upload", *repeat("429", 9))
        run = venue.run(kept)
        run.cancel()
        run.wait()
    assert kept.left.keys() == {0, 1}
    assert bench.server.batch_report().created == 0
    require_clean(bench)


@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_errors_of_single_lines_are_typed(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(failing=0.5))
    kept = bench.run(rows(4))
    assert kept.texts == texts(0, 2)
    assert ({*kept.errors}, {*kept.left}) == ({1, 3}, set())
    error = kept.errors[1]
    # Together tells no status, so that it may be anything.
    assert isinstance(error, ServerError if bench.server.kind == "together" else BadRequestError)
    assert error.http_status == (None if bench.server.kind == "together" else 400)
    assert error.provider_code == "invalid_prompt"
    assert error.target == f"x/{MODELS[bench.server.kind]}"
    assert [(row.outcome, row.usd) for row in bench.ledger() if row.error] == [("error", Decimal(0))] * 2


@pytest.mark.parametrize(
    ("play", "answered", "stray"),
    [
        pytest.param({"is_duplicated": True, "is_reordered": True}, {0, 1, 2, 3}, 4, id="each-line-twice"),
        pytest.param({"strange_ids": 2}, {0, 1, 2, 3}, 2, id="unknown-ids"),
        pytest.param({"is_truncated": True}, {0, 1, 2}, 1, id="cut-within-a-line"),
        pytest.param({"has_output": False}, set(), 0, id="no-file-of-answers"),
    ],
)
def test_files_that_are_not_as_they_should_be_are_read_as_far_as_they_go(
    bench: Bench, play: dict[str, Any], answered: set[int], stray: int
) -> None:
    bench.server.every_batch(BatchPlay(**play))
    kept = Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(4), window_s=DAY_S, refused=kept.refuse)
        venue.run(kept).wait()
        [part] = venue.parts
    assert kept.texts == texts(*answered)
    assert kept.left.keys() == {0, 1, 2, 3} - answered
    assert (part.answered, part.unanswered, part.stray) == (len(answered), 4 - len(answered), stray)
    assert len(bench.ledger()) == len(answered)


def test_answers_that_are_gone_were_paid_for_all_the_same(bench: Bench) -> None:
    bench.more = {"budgets": [{"usd": 1, "window": "total"}]}
    bench.server.every_batch(BatchPlay(has_output=False))
    kept = bench.run(rows(2))
    assert set(kept.left.values()) == {"the file of its answers is gone"}
    settled, reserved = counted(bench)
    assert reserved == Decimal(0) < bench.priced("1", "4") <= settled


def repeat(mishap: Mishap, times: int) -> list[Mishap]:
    return [mishap] * times


MISHAPS: list[Mishap] = ["500", "429", "reset", "lost", "garbled", "cut"]
_WRONG = [
    pytest.param(
        kind,
        mishap,
        id=f"{kind}-{mishap}",
        marks=[
            *([NEEDS_TOGETHER] if kind == "together" else []),
            *([] if kind == "openai" or mishap in ("500", "lost") else [pytest.mark.long]),
        ],
    )
    for kind in BATCH_KINDS
    for mishap in MISHAPS
]


@pytest.mark.parametrize(("bench", "mishap"), _WRONG, indirect=["bench"])
def test_what_goes_wrong_at_any_step_neither_loses_nor_repeats_anything(bench: Bench, mishap: Mishap) -> None:
    for step in get_args(Step):
        # Half a file is none that can be read; a garbled one is whole, as far as anybody can tell.
        if not (step == "download" and mishap == "garbled"):
            bench.server.fails(step, mishap, mishap)
    kept = bench.run(rows(3))
    assert kept.texts == texts(0, 1, 2)
    report = bench.server.batch_report()
    assert report.created == 1
    require_clean(bench)


@pytest.mark.parametrize("step", ["upload", "create", "retrieve", "download"])
def test_a_wrong_key_ends_the_job_at_once(bench: Bench, step: Step) -> None:
    bench.server.fails(step, "401")
    kept = Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(2), window_s=DAY_S, refused=kept.refuse)
        with pytest.raises(AuthenticationError) as raised:
            venue.run(kept).wait()
    assert "the-key-of-a-test" not in str(raised.value)
    assert bench.server.batch_report().asked[step] == 1
    # With the right one it goes on from there.
    assert bench.run([], kept).texts == texts(0, 1)
    require_clean(bench)


def test_a_server_that_is_away_for_long_is_given_up_without_an_orphan(bench: Bench) -> None:
    bench.server.fails("create", *repeat("500", 12))
    kept = bench.run(rows(2))
    assert set(kept.left.values()) == {"its batch could not be created"}
    assert bench.server.batch_report().created == 0
    require_clean(bench)


def test_a_batch_that_never_ends_is_cancelled_after_its_window(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(ending="never", takes_s=10 * DAY_S, answered=0))
    kept = Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(2), window_s=DAY_S, refused=kept.refuse)
        run = venue.run(kept)
        until_asked(bench.server, "retrieve")
        bench.clock.turn(DAY_S + 3700)
        run.wait()
    assert kept.left.keys() == {0, 1}
    assert bench.server.batch_report().cancelled == 1
    require_clean(bench)


@pytest.mark.parametrize("bench", KINDS, indirect=True)
def test_a_batch_whose_creation_was_lost_and_is_listed_late_is_cancelled(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(takes_s=1000, listed_after_s=40, answered=0))
    bench.server.batches(BatchPlay(takes_s=1000, listed_after_s=40, answered=0))
    bench.server.fails("create", "lost")
    kept = bench.run(rows(2))
    assert kept.texts == texts(0, 1)
    report = bench.server.batch_report()
    assert (report.created, report.cancelled) == (2, 1)
    require_clean(bench)


def test_where_batches_are_not_listed_a_creation_that_was_lost_stays_unknown(bench: Bench) -> None:
    bench.more = {"budgets": [{"usd": 1, "window": "total"}]}
    bench.server.every_batch(BatchPlay(takes_s=60))
    bench.server.fails("create", "lost")
    bench.server.fails("list_batches", "404")
    kept = bench.run(rows(2))
    assert kept.left.keys() == {0, 1}
    assert "look for it at the provider" in kept.left[0]
    assert bench.server.batch_report().created == 1
    # What it may cost stays spoken for.
    settled, reserved = counted(bench)
    assert reserved == Decimal(0) < settled


def test_what_a_batch_may_still_answer_is_held(bench: Bench) -> None:
    some, kept = rows(4), Kept()
    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(some[:2], window_s=DAY_S, refused=kept.refuse)
        assert [venue.holds(row) for row in some] == [True, True, False, False]
        venue.run(kept).wait()
        assert not any(map(venue.holds, some))


def test_a_disk_that_is_full_ends_the_job_and_loses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, piece: bytes) -> None:
        raise official._unwritable(Path(file.name), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    kept = Kept()
    with monkeypatch.context() as patched, bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(2), window_s=DAY_S, refused=kept.refuse)
        patched.setattr(official, "_write", full)
        with pytest.raises(JobError, match=r"answers\.draft: cannot be written \(No space left on device\); make room"):
            venue.run(kept).wait()
    assert bench.run([], kept).texts == texts(0, 1)
    require_clean(bench)


# Async


def test_an_event_loop_goes_on_while_batches_run(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(takes_s=3600))
    kept, own = Kept(), config("openai", bench.server.url_for("openai"), bench.folder)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def run() -> None:
        async with AsyncLlamaClient(own) as client:
            venue = await asyncio.to_thread(bench.venue, client)
            await asyncio.to_thread(partial(venue.add, rows(2), window_s=DAY_S, refused=kept.refuse))
            ticking = asyncio.create_task(tick())
            await venue.run(kept).wait_async()
            ticking.cancel()

    with using(clock=bench.clock):
        asyncio.run(run())
    assert kept.texts == texts(0, 1)
    assert ticks > 10
    require_clean(bench)


def test_a_task_that_is_cancelled_leaves_its_batches_to_be_resumed(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(takes_s=0.9 * DAY_S))
    kept = Kept()

    async def run(venue: BatchVenue) -> None:
        waiting = asyncio.create_task(venue.run(kept).wait_async())
        await asyncio.to_thread(until_asked, bench.server, "retrieve")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with bench.client() as client:
        venue = bench.venue(client)
        venue.add(rows(2), window_s=DAY_S, refused=kept.refuse)
        asyncio.run(run(venue))
    bench.clock.turn(0.9 * DAY_S)
    assert bench.run([], kept).texts == texts(0, 1)
    assert bench.server.batch_report().created == 1
    require_clean(bench)


def test_an_async_http_client_of_the_user_is_refused(bench: Bench) -> None:
    own = config("openai", bench.server.url_for("openai"), bench.folder)

    async def run() -> None:
        async with httpx.AsyncClient() as http, AsyncLlamaClient(own, http_client=http) as client:
            venue = await asyncio.to_thread(bench.venue, client)
            venue.add(rows(1), window_s=DAY_S, refused=Kept().refuse)
            await venue.run(Kept()).wait_async()

    with using(clock=bench.clock), pytest.raises(InvalidRequestError, match="leave it out where batches"):
        asyncio.run(run())


# Before anything is sent


def test_rows_are_split_by_lines_and_bytes_as_they_come(bench: Bench) -> None:
    with bench.client() as client:
        context, folder = client._context, bench.folder
        [choice] = context.resolver.choices("x/gpt-x")
        requests = Requests(context, choice.targets[0])
        limits = BatchLimits(
            title="Acme's", max_lines=3, max_bytes=1000, windows_s=(60, 60), purpose="batch", has_metadata=True,
            source="", checked_on="",
        )  # fmt: skip
        refused: dict[int, Exception] = {}
        some = rows(10)
        some[8] = rows(1, start=8, messages=[{"role": "user", "content": "x" * 1000}])[0]
        some[9] = rows(1, start=9, temperature=7)[0]
        read = 0

        def counted() -> Iterator[Any]:
            nonlocal read
            for row in some:
                read += 1
                yield row

        file = PartsFile(folder)
        parts = split(
            counted(),
            requests,
            limits,
            file,
            at=0.0,
            window_s=60.0,
            refused=lambda row, error: refused.update({row.position: error}),
        )
        first = next(parts)
        assert (first.lines, read) == (3, 4)
        assert [part.lines for part in parts] == [3, 2]
        assert all(file.requests_of(part).stat().st_size == part.size_bytes <= 1000 for part in file.parts)
        assert [type(refused[position]) for position in (8, 9)] == [RequestTooLargeError, InvalidRequestError]
        assert sorted(path.suffix for path in folder.iterdir() if path.name.startswith("llama")) == [
            ".jsonl",
            ".rows",
        ] * 0 + sorted([".jsonl", ".rows"] * 3)


def test_a_row_that_a_file_cannot_hold_is_refused_by_itself(bench: Bench) -> None:
    kept = bench.run([*rows(1), *rows(1, start=1, extra_headers={"x-a": "b"}), *rows(1, start=2)])
    assert kept.texts == texts(0, 2)
    assert isinstance(kept.refused[1], UnsupportedFeatureError)


@pytest.mark.parametrize(
    ("kind", "seconds", "name"),
    [
        ("groq", 60, "24h"),
        ("groq", 3 * DAY_S, "3d"),
        ("groq", 30 * 3600, "30h"),
        ("groq", 9 * DAY_S, "7d"),
        ("openai", 9 * DAY_S, "24h"),
    ],
)
def test_the_window_is_one_that_the_api_has(kind: str, seconds: float, name: str) -> None:
    assert window_name(seconds, LIMITS[kind])[0] == name


def test_a_batch_is_for_one_target_with_a_batch_api(tmp_path: Path) -> None:
    table = {"kind": "openai", "base_url": "http://127.0.0.1:9", "api_key": "k"}
    own = {"providers": {"x": table, "o": {"kind": "ollama"}}, "routes": {"r": {"targets": ["x/a", "x/b"]}}}
    with LlamaClient(own) as client:
        with pytest.raises(ConfigError, match="names x/a, x/b: name one of them"):
            BatchVenue(client._context, "r", tmp_path)
        with pytest.raises(UnsupportedFeatureError, match="kind 'ollama' have no batch API"):
            BatchVenue(client._context, "o/m", tmp_path)


@pytest.mark.parametrize(
    ("table", "error"),
    [
        pytest.param({"base_url": "http://192.0.2.1/v1", "api_key": "k"}, LocalOnlyError, id="local-only"),
        pytest.param({}, AuthenticationError, id="without-a-key"),
    ],
)
def test_what_no_row_can_get_past_is_said_before_anything_is_written(
    table: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    own = {"providers": {"x": {"kind": "openai", **table}}}
    with LlamaClient(own, local_only=error is LocalOnlyError) as client:
        venue = BatchVenue(client._context, "x/m", tmp_path)
        with pytest.raises(error):
            venue.add(rows(1), window_s=DAY_S, refused=Kept().refuse)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "batches.json").write_text('{"version": 1, "job"')
    with pytest.raises(JobError, match=r"batches\.json: cannot be read \(JSONDecodeError\)"):
        PartsFile(tmp_path)


@pytest.mark.skipif(HAS_TOGETHER, reason="together is installed")
def test_together_without_its_package_names_the_extra(tmp_path: Path) -> None:
    clock = FakeClock()
    with (
        BatchServer("together", clock=clock) as server,
        pytest.raises(MissingExtraError, match=r"llama-client\[together\]"),
    ):
        Bench(server, clock, tmp_path).run(rows(1))
