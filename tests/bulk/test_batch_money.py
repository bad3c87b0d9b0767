"""Money of batches: set aside when they are handed in, settled when they are read, by whichever process."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from llama_client.testing import FakeClock
from llama_client.testing.faults.batches import BatchPlay, BatchServer
from tests.bulk.batching import DAY_S, Bench, Kept, counted, rows, until_asked

ROWS = 4
NOTHING = Decimal(0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    clock = FakeClock()
    with BatchServer("openai", clock=clock) as server:
        server.every_batch(BatchPlay(takes_s=60))
        yield Bench(server, clock, tmp_path, {"budgets": [{"usd": 1, "window": "total"}]})


def worst(bench: Bench, count: int = ROWS) -> Decimal:
    """The most that rows can cost, as it is written down for their part."""
    kept = Kept()
    with bench.client() as client:
        [part] = bench.venue(client).add(rows(count), window_s=DAY_S, refused=kept.refuse)
    assert part.worst_usd is not None
    return Decimal(part.worst_usd)


def test_the_worst_case_is_reserved_while_a_batch_runs_and_its_cost_is_settled(bench: Bench) -> None:
    bench.server.every_batch(BatchPlay(takes_s=3600))
    most = worst(bench)
    kept = Kept()
    with bench.client() as client:
        run = bench.venue(client).run(kept)
        until_asked(bench.server, "retrieve")
        assert counted(bench) == (NOTHING, most)
        run.wait()
    settled, reserved = counted(bench)
    assert settled == bench.priced("1", "4") == sum(row.usd or 0 for row in bench.ledger())
    assert reserved == 0 < settled < most


@pytest.mark.parametrize(
    ("play", "answered"),
    [
        pytest.param(BatchPlay(ending="failed"), 0, id="refused"),
        pytest.param(BatchPlay(ending="expired", answered=0.5), 2, id="expired"),
        pytest.param(BatchPlay(failing=0.5), 2, id="errors-of-lines"),
    ],
)
def test_what_was_reserved_and_not_spent_is_released(bench: Bench, play: BatchPlay, answered: int) -> None:
    bench.server.every_batch(play)
    kept = bench.run(rows(ROWS))
    assert len(kept.texts) == answered
    assert counted(bench) == (bench.priced("1", "4"), NOTHING)


def test_a_part_that_a_budget_does_not_allow_is_not_handed_in(bench: Bench) -> None:
    bench.more = {"budgets": [{"usd": 0.000001, "window": "total"}]}
    kept = bench.run(rows(ROWS))
    assert kept.left.keys() == {*range(ROWS)}
    assert "budget all in total has $0.000001" in kept.left[0]
    assert bench.server.batch_report().asked == {}


def test_an_answer_without_a_known_price_is_of_unknown_cost(bench: Bench) -> None:
    bench.more = {"prices": [], "budgets": [{"usd": 1, "window": "total", "on_unpriced": "allow"}]}
    kept = bench.run(rows(1))
    [result] = kept.results
    assert (result.usd, result.text) == (None, "re: ticket 0")


def test_the_usual_price_in_place_of_that_of_batches_is_an_estimate(bench: Bench) -> None:
    bench.more = {"prices": [{"target": "x/gpt-x", "input_usd_per_mtok": 2, "output_usd_per_mtok": 8}]}
    kept = bench.run(rows(1))
    [result] = kept.results
    assert result.completion is not None
    assert result.usd == bench.priced("2", "8")


@pytest.mark.parametrize("leaves", [pytest.param(True, id="leaves"), pytest.param(False, id="is-cut-off")])
def test_what_a_process_reserved_another_one_settles(bench: Bench, leaves: bool) -> None:
    """The budget counts the worst case as spent meanwhile, and the true cost in the end."""
    kept = Kept()
    bench.server.every_batch(BatchPlay(takes_s=0.9 * DAY_S))
    most = worst(bench)
    with bench.client() as client:
        run = bench.venue(client).run(kept)
        until_asked(bench.server, "retrieve")
        if leaves:
            run.leave()
            run.wait()
        else:
            client.close()
            with pytest.raises(Exception, match="closed"):
                run.wait()
    assert counted(bench) == (most, NOTHING)
    bench.clock.turn(0.9 * DAY_S)
    bench.run([], kept)
    assert len(kept.texts) == ROWS
    assert counted(bench) == (bench.priced("1", "4"), NOTHING)
    assert len(bench.ledger()) == ROWS
