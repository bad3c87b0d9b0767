"""What must hold of every estimate, whatever the constants are."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llama_client.crossover import Gpu, Tables
from llama_client.crossover.throughput.replica import Replica, ceiling_tokens_per_s
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()


@st.composite
def replicas(draw: st.DrawFn) -> tuple[Replica, int, int]:
    """A model that fits on GPUs of a name, and lengths of a prompt and an answer."""
    llama_cpp = draw(st.booleans())
    gpus = [gpu for gpu in TABLES.gpus if llama_cpp or (gpu.bf16_tflops and gpu.vendor != "apple")]
    engine = "llama.cpp" if llama_cpp else draw(st.sampled_from(["trtllm", "vllm", "sglang"]))
    precisions = ["F16", "Q8_0", "Q4_K_M"] if llama_cpp else ["bf16", "fp8", "fp8_block", "nvfp4", "int4"]
    replica = Replica(
        draw(st.sampled_from([model for model in TABLES.models if model.context_tokens > 4096])),
        draw(st.sampled_from(gpus)),
        draw(st.sampled_from([1, 2, 4, 8, 16])),
        draw(st.sampled_from(precisions)),
        engine,
    )
    isl, osl = draw(st.integers(1, 3000)), draw(st.integers(1, 1000))
    try:
        replica.largest_batch(isl, osl)
    except InvalidRequestError:
        assume(False)
    return replica, isl, osl


@given(replicas(), st.floats(1.001, 5.0), st.floats(1, 300))
@settings(max_examples=300, deadline=None)
def test_throughput_never_falls_when_bandwidth_grows(
    drawn: tuple[Replica, int, int], times: float, batch: float
) -> None:
    replica, isl, osl = drawn
    faster = replace(replica, gpu=_with_bandwidth(replica.gpu, times))
    assert (
        faster.max_output_tokens_per_s(isl, osl).output_tokens_per_s
        >= replica.max_output_tokens_per_s(isl, osl).output_tokens_per_s
    )
    limits = {"tpot_ms": 50.0, "ttft_s": 2.0}
    held = faster.output_tokens_per_s_under(isl, osl, **limits).output_tokens_per_s
    # The largest batch within limits is searched for to a millionth.
    assert held >= replica.output_tokens_per_s_under(isl, osl, **limits).output_tokens_per_s * (1 - 1e-6)
    running = batch if replica.gpu.bf16_tflops else 1
    assert faster.tpot_ms(running, isl, osl) <= replica.tpot_ms(running, isl, osl)


@given(replicas(), st.floats(1, 300))
@settings(max_examples=300, deadline=None)
def test_no_estimate_is_above_the_ceiling(drawn: tuple[Replica, int, int], batch: float) -> None:
    replica, isl, osl = drawn
    full = replica.max_output_tokens_per_s(isl, osl)
    assert full.output_tokens_per_s <= ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=full.batch)
    assert full.output_tokens_per_s <= ceiling_tokens_per_s(replica, isl=isl, osl=osl)
    running = max(1, min(batch if replica.gpu.bf16_tflops else 1, replica.largest_batch(isl, osl)))
    rate = running / replica.tpot_ms(running, isl, osl) * 1e3
    assert rate <= ceiling_tokens_per_s(replica, isl=isl, osl=osl, batch=running)


@given(replicas(), st.floats(5, 200), st.floats(0.05, 5))
@settings(max_examples=200, deadline=None)
def test_what_is_told_for_limits_keeps_to_them_and_is_the_most_that_does(
    drawn: tuple[Replica, int, int], tpot_ms: float, ttft_s: float
) -> None:
    replica, isl, osl = drawn
    held = replica.output_tokens_per_s_under(isl, osl, tpot_ms=tpot_ms, ttft_s=ttft_s)

    def keeps(batch: int) -> bool:
        first = replica.ttft_ms(batch, isl, osl)
        return replica.tpot_ms(batch, isl, osl) <= tpot_ms and (first is None or first <= ttft_s * 1e3)

    assert held.batch == 0 or keeps(held.batch)
    if held.binding == "slo":
        assert not keeps(held.batch + 1)
    else:
        assert held.batch == replica.max_output_tokens_per_s(isl, osl).batch


@given(replicas(), st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_more_requests_take_longer_each_and_give_more_together(drawn: tuple[Replica, int, int], batch: int) -> None:
    replica, isl, osl = drawn
    assume(replica.gpu.bf16_tflops and batch + 1 <= replica.largest_batch(isl, osl))
    fewer, more = (replica.tpot_ms(at_once, isl, osl) for at_once in (batch, batch + 1))
    assert fewer < more
    less, greater = (replica.output_tokens_per_s(at_once, isl, osl) for at_once in (batch, batch + 1))
    assert less < greater


def _with_bandwidth(gpu: Gpu, times: float) -> Gpu:
    return replace(gpu, bandwidth_gb_per_s=gpu.bandwidth_gb_per_s * times)
