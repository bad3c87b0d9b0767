"""The numbers that are made of the times and tokens of known requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llama_client.crossover.bench.levels import Sample, Spread, level_of


def request(started: float, first: float, ended: float, tokens: int, *, pieces: int | None = None) -> Sample:
    return Sample(started, ended, first, ended, tokens if pieces is None else pieces, 100, tokens)


def test_one_at_a_time_has_the_rate_of_the_whole_time() -> None:
    level = level_of(1, [request(10, 11, 15, 41), request(15, 16, 20, 41)])
    assert level.output_tokens_per_s == pytest.approx(82 / 10)
    assert level.is_steady
    assert level.ttft_ms == Spread(1000, 1000, 1000)
    assert level.tpot_ms is not None
    assert level.tpot_ms.p50 == pytest.approx(100)


def test_a_spread_names_values_that_were_measured() -> None:
    assert Spread.of([1, 2, 3, 10]) == Spread(p50=2, p95=10, mean=4.0)
    assert Spread.of([]) is None


def test_many_at_once_have_the_rate_of_the_steady_phase_alone() -> None:
    # Two places; the first answers take 8 s as both are read together, all later ones 4 s, one after the other.
    first = [request(0, 4, 8, 40), request(0, 4, 10, 40)]
    later = [request(start, start + 1, start + 4, 40) for start in (8, 10, 12, 14, 16, 18)]
    level = level_of(2, [*first, *later])
    # From the first end at 8 to the first end that nobody took the place of, at 20: one place gives three answers, the
    # other the last 2 of the 6 s that its first one came in, two answers, and the first 1 of 3 s of its last.
    assert level.output_tokens_per_s == pytest.approx((3 * 40 + 40 * 2 / 6 + 2 * 40 + 40 * 1 / 3) / 12)
    assert level.is_steady
    # Those that were read together with all others tell nothing of the time to the first token under steady load.
    assert level.ttft_ms == Spread(1000, 1000, 1000)
    assert level.mean_output_tokens == 40


def test_in_rounds_of_all_at_once_the_rate_is_that_of_a_round() -> None:
    samples = [request(start, start + 2, start + 10, 100) for start in (0, 10, 20, 30) for _ in range(4)]
    level = level_of(4, samples)
    assert level.output_tokens_per_s == pytest.approx(40)
    assert (level.is_steady, level.answered) == (True, 16)


def test_a_single_round_has_no_steady_phase_and_the_rate_of_the_whole_time() -> None:
    level = level_of(2, [request(0, 1, 5, 50), request(0, 1, 10, 50)])
    assert (level.output_tokens_per_s, level.is_steady) == (10, False)


def test_tokens_that_came_in_pieces_of_many_are_not_put_down_to_the_time_after_the_first() -> None:
    # Four pieces of ten tokens each, one a second: the first ten came before the time that is measured.
    level = level_of(1, [request(0, 2, 5, 40, pieces=4)])
    assert level.tpot_ms is not None
    assert level.tpot_ms.mean == pytest.approx(100)
    assert level.chunks_per_token == pytest.approx(0.1)


def test_an_answer_in_one_piece_has_no_time_a_token() -> None:
    level = level_of(1, [request(0, 4, 4, 40, pieces=1)])
    assert (level.tpot_ms, level.output_tokens_per_s) == (None, 10)


def test_thinking_that_is_not_shown_was_over_before_the_first_piece() -> None:
    level = level_of(1, [replace(request(0, 5, 6, 111, pieces=11), hidden_tokens=100)])
    assert level.tpot_ms is not None
    assert level.tpot_ms.mean == pytest.approx(100)


def test_what_was_cut_counts_as_far_as_it_came() -> None:
    cut = Sample(5, 10, 6, 10, 5, is_cut=True)
    level = level_of(1, [request(0, 1, 5, 10, pieces=5), cut])
    assert (level.cut, level.answered) == (1, 1)
    assert level.output_tokens_per_s == pytest.approx((10 + 5 * 2) / 10)


def test_of_failures_alone_nothing_is_known_but_their_kinds() -> None:
    level = level_of(2, [Sample(0, 1, error="RateLimitError"), Sample(0, 1, error="ServerError")])
    assert (level.output_tokens_per_s, level.ttft_ms, level.mean_output_tokens) == (None, None, None)
    assert (level.failed, level.errors) == (2, {"RateLimitError": 1, "ServerError": 1})
