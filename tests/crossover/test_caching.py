"""The prefix cache of a server of one's own: prompts that it holds are not computed again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from llama_client import InvalidRequestError
from llama_client.crossover import Crossover, Scenario, SelfHost, Tables, Traffic, evaluate
from llama_client.crossover.throughput import llama_cpp
from llama_client.crossover.throughput.rates import replica_rate
from llama_client.crossover.throughput.replica import Replica
from llama_client.crossover.throughput.work import work_of
from tests.crossover.asking import price

TABLES = Tables.bundled()
SERVER: dict[str, Any] = {"gpu": "h100_sxm", "n_gpus": 2, "gpu_usd_per_hour": 2.0}
SETUPS = [
    pytest.param("llama-3.3-70b", "h100_sxm", 2, "fp8", "trtllm", id="server"),
    pytest.param("llama-4-scout", "h200_sxm", 2, "fp8", "vllm", id="mixture-of-experts"),
    pytest.param("llama-3.1-8b", "rtx_4090", 1, "Q4_K_M", "llama.cpp", id="llama.cpp"),
]


def asked(traffic: dict[str, Any] | None = None, **host: Any) -> Crossover:
    return evaluate(
        Scenario(
            model="llama-3.3-70b",
            traffic=Traffic(tokens_per_day=2e9, **(traffic or {})),
            self_host=SelfHost(**(SERVER | host)),
            apis=[price(0.9)],
        )
    )


def usable(found: Crossover) -> float:
    return found.plan.tokens_per_second * found.plan.slo_derate


@pytest.mark.parametrize(("model", "gpu", "n_gpus", "precision", "engine"), SETUPS)
def test_the_rate_grows_with_the_share(model: str, gpu: str, n_gpus: int, precision: str, engine: str) -> None:
    rates = [
        replica_rate(
            TABLES.model(model),
            TABLES.gpu(gpu),
            n_gpus=n_gpus,
            precision=precision,
            engine=engine,
            input_tokens=1600,
            output_tokens=400,
            cached_share=share,
        )
        for share in (0.0, 0.1, 0.5, 0.9, 1.0)
    ]
    for less, more in pairwise(rates):
        assert more.output_tokens_per_s > less.output_tokens_per_s
        assert more.within_limits.output_tokens_per_s >= less.within_limits.output_tokens_per_s
        assert more.alone.ttft_ms is not None
        assert less.alone.ttft_ms is not None
        assert more.alone.ttft_ms < less.alone.ttft_ms


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_with_all_of_it_cached_no_work_on_prompts_is_left(batch: int) -> None:
    setup = (TABLES.model("llama-3.3-70b"), "fp8", 1.0, 4)
    cached = work_of(*setup, batch, 1600, 400, own_prompt=True, cached_share=1.0)
    # One request without its own prompt has none.
    bare = work_of(*setup, 1, 1600, 400, own_prompt=False)
    assert (cached.prefill_flops, cached.attention_flops) == (0, 0)
    assert cached.exchanged_bytes == batch * bare.exchanged_bytes
    # Its keys and values are read as before.
    assert cached.kv_bytes == batch * bare.kv_bytes
    gpu = TABLES.gpu("rtx_4090")
    step = llama_cpp.step(TABLES.model("llama-3.1-8b"), gpu, "Q4_K_M", batch, 1600, 400, prompts=batch, cached_share=1)
    assert step.prefill_ms == 0


def test_none_cached_is_as_without() -> None:
    plain, none = asked(), asked(own_cached_share=0)
    assert usable(none) == usable(plain)
    assert none.self_host_usd_per_month(2e9) == plain.self_host_usd_per_month(2e9)


def test_prompts_that_attend_to_a_cached_part_still_pay_for_it() -> None:
    replica = Replica(TABLES.model("llama-3.1-8b"), TABLES.gpu("h100_sxm"), 1, "fp8")
    half = Replica(TABLES.model("llama-3.1-8b"), TABLES.gpu("h100_sxm"), 1, "fp8", cached_share=0.5)
    # Of a long prompt attention is most of the work, and the second half attends to the first: more than half is left.
    alone, cached = replica.ttft_ms(1, 100_000, 100), half.ttft_ms(1, 100_000, 100)
    assert alone is not None
    assert cached is not None
    assert alone * 0.55 < cached < alone


def test_the_own_server_caches_what_the_api_does_unless_it_is_given() -> None:
    as_api = asked({"cached_share": 0.4})
    share = as_api.resolved.assumption("own_cached_share")
    assert share is not None
    assert (share.value, share.low, share.high, share.is_given) == (0.4, 0.0, 0.4, False)
    assert usable(as_api) == usable(asked(own_cached_share=0.4))
    given = asked({"cached_share": 0.4}, own_cached_share=0.1).resolved.assumption("own_cached_share")
    assert given is not None
    assert (given.value, given.is_given) == (0.1, True)
    unknown = asked().resolved.assumption("own_cached_share")
    assert unknown is not None
    assert (unknown.value, unknown.is_judgement) == (0.0, True)


def test_it_has_a_swing_of_its_own() -> None:
    found = asked()
    (swing,) = [each for each in found.swings() if each.name == "own_cached_share"]
    assert (swing.low, swing.high) == (0.0, 0.5)
    for share, usd in ((0.0, swing.usd_per_mtok_at_low), (0.5, swing.usd_per_mtok_at_high)):
        month = asked(own_cached_share=share).self_host_usd_per_month(2e9)
        assert usd == pytest.approx(month / (2e9 * found.plan.days_per_month) * 1e6)
    assert [each.width for each in found.swings()] == sorted((each.width for each in found.swings()), reverse=True)


def test_a_given_derate_stays_in_the_swing() -> None:
    found = asked(slo_derate=0.5)
    (swing,) = [each for each in found.swings() if each.name == "own_cached_share"]
    month = asked(slo_derate=0.5, own_cached_share=0.5).self_host_usd_per_month(2e9)
    assert swing.usd_per_mtok_at_high == pytest.approx(month / (2e9 * found.plan.days_per_month) * 1e6)


@pytest.mark.parametrize("host", [{"own_cached_share": 0.3}, {"tokens_per_second": 2000}], ids=["given", "measured"])
def test_what_is_given_or_measured_has_no_swing(host: dict[str, Any]) -> None:
    assert all(each.name != "own_cached_share" for each in asked(**host).swings())


@pytest.mark.parametrize("measured", ["tokens_per_second", "total_tokens_per_second"])
def test_a_measured_rate_has_what_its_cache_saves(measured: str) -> None:
    rate: dict[str, Any] = {measured: 2000}
    plain, cached = asked(**rate), asked({"cached_share": 0.5}, **rate)
    assert cached.plan.tokens_per_second == plain.plan.tokens_per_second
    assert cached.resolved.assumption("own_cached_share") is None
    with pytest.raises(InvalidRequestError, match=r"own_cached_share: a measured rate has"):
        SelfHost(gpu="h100_sxm", own_cached_share=0.5, **rate)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "half"])
def test_a_share_is_from_0_to_1(share: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"self_host\.own_cached_share"):
        SelfHost(gpu="h100_sxm", own_cached_share=share)
