"""How far one point of a configuration moves the rate of another load and other lengths, and how sure that makes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.crossover.throughput.rates import weigh
from llama_client.crossover.throughput.replica import Replica
from tests.crossover.test_rates import OWN, TABLES, l40s, rate


def test_the_band_grows_with_how_far_the_point_was_from_what_is_asked() -> None:
    full = l40s().batch
    at_loads = [l40s(replace(OWN, concurrency=n, output_tokens_per_s=20.0 * n)).error for n in (full, 100, 30, 8, 1)]
    assert at_loads == sorted(at_loads)
    assert len(set(at_loads)) == 5
    at_lengths = [l40s(replace(OWN, concurrency=full, output_tokens=n)).error for n in (500, 250, 50, 5)]
    assert at_lengths == sorted(at_lengths)
    assert len(set(at_lengths)) == 4
    # Measured rows told from an eighth of their load or less: the band holds 80% of them.
    assert l40s(replace(OWN, concurrency=round(full / 16), output_tokens_per_s=600.0)).error == pytest.approx(
        0.13, abs=0.02
    )


def test_a_rate_moves_by_the_inverse_variances() -> None:
    assert weigh(0.1, 0.36, 0.12) == pytest.approx((0.09, 0.12))


def test_a_short_answer_to_one_request_moves_the_curve_little_and_makes_it_hardly_surer() -> None:
    estimated = l40s()
    short = replace(OWN, input_tokens=20, output_tokens=5, concurrency=1)
    slow = l40s(replace(short, output_tokens_per_s=50.0))
    assert slow.is_scaled
    assert slow.error == pytest.approx(estimated.error, abs=0.05)
    near = l40s(replace(OWN, output_tokens_per_s=1000.0))
    assert near.error < 0.6 * estimated.error
    # Half of what is estimated: as much the request's own time as the server's.
    assert slow.factor > 0.75
    faster = [l40s(replace(short, output_tokens_per_s=rate)).output_tokens_per_s for rate in (60.0, 66.0)]
    assert faster[1] / faster[0] < 1.06, "a tenth more of it is not a tenth more of a full load"


def test_a_point_that_shows_the_estimate_to_be_far_off_is_believed() -> None:
    # A server that computes partly on the processor: a tenth of what the GPU gives.
    far = replace(OWN, engine="trtllm", concurrency=16, output_tokens_per_s=60.0)
    found, estimated = (
        rate("llama-3.1-8b", "l40s", 1, "fp8", "trtllm", lengths=(1000, 500), measured=points)
        for points in ((far,), ())
    )
    assert found.output_tokens_per_s < 0.07 * estimated.output_tokens_per_s


@given(st.integers(30, 120), st.floats(1.0, 1.4))
@settings(max_examples=100, deadline=None)
def test_a_full_load_gives_no_less_than_a_lower_one_was_measured_to_give(batch: int, share: float) -> None:
    # With long prompts a server is as fast with 70 requests as with 117, which are all that fit.
    replica = Replica(TABLES.model("llama-3.1-8b"), TABLES.gpu("l40s"), 1, "fp8", "trtllm")
    told = replica.output_tokens_per_s(min(batch, replica.largest_batch(4000, 50)), 4000, 50) * share
    point = replace(OWN, engine="trtllm", input_tokens=4000, output_tokens=50, concurrency=batch)
    point = replace(point, output_tokens_per_s=told)
    found = rate("llama-3.1-8b", "l40s", 1, "fp8", "trtllm", lengths=(4000, 50), measured=(point,))
    assert found.skipped or found.output_tokens_per_s >= told * (1 - 1e-9)
