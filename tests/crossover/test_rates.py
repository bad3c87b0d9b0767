"""The ladder: the user's own points before published ones before estimates, and the rate within limits of waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.crossover import MeasuredPoint, Tables
from llama_client.crossover.throughput.rates import Rate, measured_rate, replica_rate
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()
OWN = MeasuredPoint(
    model="llama-3.1-8b",
    gpu="l40s",
    n_gpus=1,
    precision="fp8",
    engine="vllm",
    input_tokens=1000,
    output_tokens=500,
    concurrency=64,
    output_tokens_per_s=1500.0,
    tpot_ms=40.0,
    ttft_ms=300.0,
    measured_on=date(2026, 11, 1),
)


def rate(
    model: str = "llama-3.3-70b",
    gpu: str = "h100_sxm",
    n_gpus: int = 2,
    precision: str = "fp8",
    engine: str = "trtllm",
    *,
    lengths: tuple[int, int] = (5000, 500),
    limits: tuple[float, float] = (50.0, 2.0),
    measured: tuple[MeasuredPoint, ...] = (),
) -> Rate:
    return replica_rate(
        TABLES.model(model),
        TABLES.gpu(gpu),
        n_gpus=n_gpus,
        precision=precision,
        engine=engine,
        input_tokens=lengths[0],
        output_tokens=lengths[1],
        tpot_limit_ms=limits[0],
        ttft_limit_s=limits[1],
        measured=measured,
    )


def l40s(*measured: MeasuredPoint, lengths: tuple[int, int] = (1000, 500)) -> Rate:
    return rate("llama-3.1-8b", "l40s", 1, "fp8", "vllm", lengths=lengths, measured=measured)


def test_a_published_maximum_of_the_same_lengths_is_taken_as_it_is() -> None:
    found = rate()
    assert (found.rung, found.as_of) == ("published", date(2025, 9, 1))
    assert found.output_tokens_per_s == pytest.approx(898)
    assert "TensorRT-LLM" in found.source
    assert "scaled" not in found.source


@pytest.mark.parametrize("model", ["llama-3.1-70b", "llama-3-70b"])
def test_models_of_one_shape_are_one_configuration(model: str) -> None:
    assert rate(model).output_tokens_per_s == pytest.approx(898)


def test_other_lengths_scale_the_estimate_through_the_nearest_published_ones() -> None:
    near, exact = rate(lengths=(3000, 300)), rate()
    assert near.rung == "published"
    assert near.source.endswith("5000 tokens in and 500 out; scaled to these lengths and a full load by the estimator")
    assert exact.factor < near.factor < 1, "moved the same way, by less than where it was measured"
    assert (near.is_scaled, exact.is_scaled) == (True, False)
    assert near.error > exact.error


@pytest.mark.parametrize(
    "other", [{"n_gpus": 4}, {"precision": "bf16", "n_gpus": 4}, {"gpu": "h100_nvl"}, {"model": "llama-2-70b"}]
)
def test_another_configuration_is_an_estimate(other: dict[str, object]) -> None:
    found = rate(**{"lengths": (1000, 1000)} | other)  # type: ignore[arg-type]
    assert (found.rung, found.as_of, found.factor) == ("estimated", None, 1)
    assert "estimated from the data sheets" in found.source


def test_an_engine_that_is_seldom_tuned_has_a_wider_band_and_says_so() -> None:
    tuned = rate("llama-3.1-8b", "l40s", 1, "fp8", "trtllm", lengths=(1000, 500))
    found = l40s()
    assert found.rung == tuned.rung == "estimated"
    assert found.error > 1.2 * tuned.error
    assert "with nothing tuned, gave 0.6 to 0.85 of it" in found.source
    assert "nothing tuned" not in tuned.source


def test_experts_have_a_wider_band() -> None:
    assert rate("llama-4-scout", n_gpus=8).error > 1.3 * rate("llama-3.1-405b", n_gpus=16).error


def test_ones_own_point_goes_before_what_is_published() -> None:
    point = replace(OWN, model="llama-3.1-70b", gpu="h100_sxm", n_gpus=2, engine="trtllm")
    point = replace(point, input_tokens=5000, output_tokens=500, concurrency=500, output_tokens_per_s=700.0)
    found = rate(measured=(OWN, point))
    assert (found.rung, found.as_of) == ("measured", date(2026, 11, 1))
    assert found.output_tokens_per_s == pytest.approx(700)
    assert found.source == "measured on 2026-11-01 with 500 requests at once, 5000 tokens in and 500 out"
    assert found.error < rate().error


def test_ones_own_point_scales_the_whole_curve() -> None:
    slow, fast = l40s(OWN), l40s(replace(OWN, output_tokens_per_s=1800.0))
    assert slow.ttft_ms is not None
    assert fast.ttft_ms is not None
    for more, less in (
        (fast.output_tokens_per_s, slow.output_tokens_per_s),
        (slow.tpot_ms, fast.tpot_ms),
        (slow.ttft_ms, fast.ttft_ms),
    ):
        # Nearly all of it: what a curve without a point is sure of is much less.
        assert more / less == pytest.approx(1800 / 1500, rel=0.05)
    assert fast.within_limits.output_tokens_per_s > slow.within_limits.output_tokens_per_s
    assert slow.source.endswith("scaled to these lengths and a full load by the estimator")


def test_of_ones_own_points_the_nearest_counts_and_of_equals_the_newest() -> None:
    far = replace(OWN, input_tokens=100, output_tokens_per_s=2000.0)
    old = replace(OWN, measured_on=date(2026, 1, 1), output_tokens_per_s=1000.0)
    light = replace(OWN, concurrency=2, output_tokens_per_s=100.0)
    assert l40s(far, old, light, OWN) == l40s(OWN) == l40s(OWN, light, old, far)
    assert l40s(far, OWN, lengths=(120, 500)) == l40s(far, lengths=(120, 500))


def test_a_point_of_an_unknown_engine_suits_each() -> None:
    assert l40s(replace(OWN, engine=None)) == l40s(OWN)


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "l4"},
        {"n_gpus": 2},
        {"precision": "bf16"},
        {"precision": "Q4_K_M"},
        {"engine": "sglang"},
        {"model": "llama-2-7b"},
    ],
    ids=str,
)
def test_a_point_of_another_configuration_counts_for_nothing(other: dict[str, object]) -> None:
    assert l40s(replace(OWN, **other)) == l40s()  # type: ignore[arg-type]


def test_a_point_that_cannot_be_is_left_out_and_told_of() -> None:
    impossible = replace(OWN, output_tokens_per_s=237_964.0, measured_on=date(2026, 11, 26))
    found = l40s(impossible, OWN)
    assert replace(found, skipped=()) == l40s(OWN)
    assert found.skipped == (
        "a measured rate of 237,964 tokens/s (2026-11-26) is above what the data sheet allows and was left out",
    )
    assert replace(l40s(impossible), skipped=()) == l40s()
    assert l40s(OWN).skipped == l40s().skipped == ()
    alone = replace(impossible, model="llama-3-8b", gpu="gb10", precision="Q4_K_M", engine="llama.cpp")
    assert (
        len(rate("llama-3-8b", "gb10", 1, "Q4_K_M", "llama.cpp", lengths=(1000, 500), measured=(alone,)).skipped) == 1
    )


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"output_tokens": 0}, "counts too few tokens or requests"),
        ({"concurrency": 0}, "counts too few tokens or requests"),
        ({"output_tokens_per_s": float("nan")}, "counts too few tokens or requests"),
        ({"input_tokens": 200_000}, "is of lengths that the model or the memory has no room for"),
    ],
    ids=str,
)
def test_so_is_one_that_nothing_can_be_made_of(changed: dict[str, object], says: str) -> None:
    found = l40s(replace(OWN, **changed))  # type: ignore[arg-type]
    assert replace(found, skipped=()) == l40s()
    assert says in found.skipped[0]


def test_what_was_published_of_a_shape_with_a_longer_context_does_not_stand_in_the_way() -> None:
    # 20,000 tokens in, of Llama 3.1: Llama 3 is the same shape, and was trained for 8,192.
    found = rate("llama-3-8b", "h100_sxm", 1, lengths=(1000, 1000))
    assert found.rung == "published"
    assert "20000 tokens in" not in found.source


def test_one_request_under_llama_cpp_is_known_where_flops_are_not() -> None:
    found = rate("llama-3-8b", "m3_max", 1, "Q4_K_M", "llama.cpp", lengths=(1, 1024), limits=(50, 2))
    assert (found.rung, found.batch, found.within_limits.batch) == ("published", 1, 1)
    assert found.output_tokens_per_s == found.within_limits.output_tokens_per_s == pytest.approx(50.74)
    assert (found.ttft_ms, found.binding) == (None, "bandwidth")


def test_several_requests_on_such_a_chip_are_known_where_the_user_measured_them() -> None:
    one = replace(OWN, model="llama-3-8b", gpu="gb10", precision="Q4_K_M", engine="llama.cpp", concurrency=1)
    one = replace(one, output_tokens_per_s=30.0, tpot_ms=30.0, ttft_ms=500.0)
    four = replace(one, concurrency=4, output_tokens_per_s=70.0, tpot_ms=55.0, ttft_ms=900.0)
    arguments = ("llama-3-8b", "gb10", 1, "Q4_K_M", "llama.cpp")
    found = rate(*arguments, lengths=(1000, 500), measured=(one, four))
    assert (found.rung, found.output_tokens_per_s, found.batch, found.tpot_ms) == ("measured", 70, 4, 55)
    assert (found.within_limits.output_tokens_per_s, found.within_limits.batch, found.within_limits.binding) == (
        30,
        1,
        "slo",
    )
    patient = rate(*arguments, lengths=(1000, 500), limits=(60, 2), measured=(one, four))
    assert (patient.within_limits.output_tokens_per_s, patient.within_limits.batch) == (70, 4)
    assert rate(*arguments, lengths=(1000, 500), limits=(5, 2), measured=(one, four)).within_limits.batch == 0
    assert found.binding is patient.binding is patient.within_limits.binding is None, "the limit is unknown"
    other = rate(*arguments, lengths=(500, 500), measured=(one, four))
    assert (found.is_scaled, other.is_scaled) == (False, True)
    assert other.error > 4 * found.error
    assert "taken for these lengths as it is" in other.source


def test_of_a_processor_nothing_is_known_but_what_was_measured() -> None:
    point = replace(OWN, gpu="cpu", engine="llama.cpp", concurrency=1)
    found = measured_rate([point], 1000, 500, tpot_limit_ms=50, ttft_limit_s=2)
    assert (found.output_tokens_per_s, found.binding, found.within_limits.binding) == (1500, None, None)
    assert measured_rate([point], 1000, 500, tpot_limit_ms=30, ttft_limit_s=2).within_limits.binding == "slo"
    with pytest.raises(InvalidRequestError, match=r"^points: at least one"):
        measured_rate([], 1000, 500, tpot_limit_ms=50, ttft_limit_s=2)


def test_several_requests_under_llama_cpp_have_the_widest_band() -> None:
    found = rate("llama-3-8b", "rtx_4090", 1, "Q4_K_M", "llama.cpp", lengths=(200, 200))
    assert found.batch > 1
    assert found.error >= 0.5


def test_limits_of_waiting_take_of_the_rate() -> None:
    strict, usual, none = (rate(lengths=(1000, 1000), limits=limits) for limits in ((20, 2), (50, 2), (1e6, 1e6)))
    assert (
        0
        < strict.within_limits.output_tokens_per_s
        < usual.within_limits.output_tokens_per_s
        < none.within_limits.output_tokens_per_s
    )
    assert (strict.within_limits.binding, usual.within_limits.binding) == ("slo", "slo")
    assert none.within_limits.binding == none.binding
    assert none.within_limits.batch == none.batch
    assert none.within_limits.output_tokens_per_s <= none.output_tokens_per_s


def test_where_one_request_alone_is_too_slow_the_rate_within_the_limits_is_zero() -> None:
    for limits in ((1.0, 2.0), (50.0, 0.001)):
        found = rate(limits=limits)
        assert (found.within_limits.output_tokens_per_s, found.within_limits.batch, found.within_limits.binding) == (
            0,
            0,
            "slo",
        )
        assert found.output_tokens_per_s == pytest.approx(898)
    assert found.alone.tpot_ms > 1.0
    assert found.alone.ttft_ms is not None
    assert found.alone.ttft_ms > 1.0


def test_a_slower_point_of_ones_own_slows_the_first_token_too() -> None:
    usual = l40s()
    assert usual.alone.ttft_ms is not None
    limits = (1e6, usual.alone.ttft_ms / 1e3 * 1.5)
    arguments = ("llama-3.1-8b", "l40s", 1, "fp8", "vllm")
    assert rate(*arguments, lengths=(1000, 500), limits=limits).within_limits.batch > 0
    half = replace(OWN, concurrency=500, output_tokens_per_s=usual.output_tokens_per_s / 2)
    slower = rate(*arguments, lengths=(1000, 500), limits=limits, measured=(half,))
    assert (slower.within_limits.batch, slower.within_limits.binding) == (0, "slo")


@pytest.mark.parametrize(("limits", "param"), [((0.0, 2.0), "tpot_limit_ms"), ((50.0, -1.0), "ttft_limit_s")])
def test_a_limit_that_is_none_is_refused(limits: tuple[float, float], param: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{param}: must be above 0") as caught:
        rate(limits=limits)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ((0, 500), "input_tokens: must be at least 1 token, got 0"),
        ((1000, -1), "output_tokens: must be at least 1 token, got -1"),
        ((1000.5, 500), "input_tokens: must be a whole number of tokens, got 1000.5"),
        ((140_000, 500), "input_tokens: 140000 and 500 tokens of answer are more than the 131072"),
    ],
)
def test_lengths_are_named_as_they_were_given(lengths: tuple[int, int], says: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rate(lengths=lengths)
    assert str(caught.value).startswith(says)
    assert caught.value.param == says.partition(":")[0]


@given(st.integers(1, 8000), st.integers(1, 4000), st.floats(10, 5000), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_the_same_lengths_and_load_give_back_what_was_measured(isl: int, osl: int, share: float, batch: int) -> None:
    point = replace(OWN, input_tokens=isl, output_tokens=osl, concurrency=batch)
    point = replace(point, output_tokens_per_s=share * batch / 5000)
    found = l40s(point, lengths=(isl, osl))
    assert found.rung == "measured"
    if batch >= found.batch:
        assert found.output_tokens_per_s == pytest.approx(point.output_tokens_per_s)
    else:
        assert found.output_tokens_per_s >= point.output_tokens_per_s * (1 - 1e-9)


def test_a_published_rate_that_left_prompts_out_is_not_taken() -> None:
    # vLLM 0.12, 8B FP8 on 4 H200: a row of 2000 in and 100 out is 2.2 times what such a server gives.
    found = rate("llama-3.1-8b", "h200_sxm", 4, "fp8", "vllm", lengths=(2000, 100))
    assert found.factor < 1.5
    assert "2000 tokens in and 100 out" not in found.source
