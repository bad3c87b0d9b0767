"""How many GPUs a replica has: the numbers that can be, what is picked where none is given, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.crossover import (
    Crossover,
    MeasuredPoint,
    Purchase,
    Scenario,
    SelfHost,
    Tables,
    Traffic,
    decode_tpot_ms,
    evaluate,
    max_throughput,
)
from llama_client.crossover.evaluation import cheapest_machine
from llama_client.crossover.fitting.fit import fit
from llama_client.crossover.fitting.machines import named
from llama_client.crossover.fitting.memory import need
from llama_client.crossover.throughput.replica import Replica
from llama_client.errors import InvalidRequestError
from tests.crossover.asking import price

TODAY = date(2026, 11, 30)
TABLES = Tables.bundled()
API = price(0.88)
SERVERS = ("trtllm", "vllm", "sglang")
SERVED_GPUS = ("h100_sxm", "a100_sxm_80", "l40s", "rtx_4090", "b200_sxm", "mi300x")
MODELS = tuple(model for model in TABLES.models if model.context_tokens > 4096)


def on(model: str, gpu: str | None = "h100_sxm", *, volume: float | None = None, **host: Any) -> Crossover:
    traffic = Traffic(tokens_per_day=volume)
    return evaluate(
        Scenario(model=model, traffic=traffic, self_host=SelfHost(gpu=gpu, **host), apis=[API]), today=TODAY
    )


@pytest.mark.parametrize(
    ("model", "engine", "n_gpus", "why"),
    [
        (
            "llama-3.3-70b",
            "trtllm",
            6,
            "64 attention heads of llama-3.3-70b cannot be split by 6; the nearest that can be: 4 or 8",
        ),
        ("llama-3.3-70b", "vllm", 3, "the nearest that can be: 2 or 4"),
        ("llama-3.3-70b", "sglang", 7, "4 or 8"),
        ("llama-3.3-70b", "vllm", 128, "64 attention heads of llama-3.3-70b cannot be split by 128"),
        ("llama-3.2-3b", "vllm", 16, "24 attention heads of llama-3.2-3b cannot be split by 16"),
        ("llama-4-scout", "vllm", 16, "40 attention heads of llama-4-scout cannot be split by 16"),
        ("llama-4-scout", "trtllm", 5, "cannot be split by 5; the nearest that can be: 4 or 8"),
        ("llama-3.3-70b", "llama.cpp", 81, "llama.cpp gives each GPU whole layers, and llama-3.3-70b has 80 of them"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_number_that_cannot_be_says_why_and_the_nearest_that_can(
    model: str, engine: str, n_gpus: int, why: str
) -> None:
    precision = "Q4_K_M" if engine == "llama.cpp" else "fp8"
    lengths: dict[str, Any] = {"isl": 100, "osl": 100, "n_gpus": n_gpus, "precision": precision, "engine": engine}
    for refused in (
        lambda: max_throughput(model, "h100_sxm", **lengths),
        lambda: decode_tpot_ms(model, "h100_sxm", batch=1, **lengths),
        lambda: on(model, n_gpus=n_gpus, precision=precision, engine=engine),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            refused()
        assert caught.value.param == "n_gpus"
        assert str(caught.value).startswith("n_gpus: ")
        assert why in str(caught.value)


@pytest.mark.parametrize("n_gpus", [1, 3, 5, 6, 7, 80])
def test_llama_cpp_splits_layers_over_any_number(n_gpus: int) -> None:
    lengths: dict[str, Any] = {"isl": 100, "osl": 100, "precision": "Q4_K_M", "engine": "llama.cpp"}
    assert max_throughput("llama-3.3-70b", "h100_sxm", n_gpus=n_gpus, **lengths) > 0


@pytest.mark.parametrize(
    ("host", "n_gpus"),
    [
        ({"gpu": "h100_sxm"}, 2),
        ({"gpu": "b200_sxm"}, 1),
        ({"gpu": "h100_sxm", "precision": "bf16"}, 4),
        ({"gpu": "rtx_3090", "precision": "Q4_K_M", "gpu_usd_per_hour": 0.3}, 2),
        ({"gpu": "rtx_3090", "precision": "Q6_K", "gpu_usd_per_hour": 0.3}, 3),
        ({"gpu": "m3_ultra", "purchase": Purchase()}, 1),
        ({"gpu": "h100_sxm", "n_gpus": 8}, 8),
    ],
    ids=["fp8 on H100", "fp8 on B200", "bf16 on H100", "two cards", "three cards", "a Mac", "as given"],
)
def test_where_none_is_given_as_many_are_picked_as_it_needs(host: dict[str, Any], n_gpus: int) -> None:
    found = on("llama-3.3-70b", host.pop("gpu"), **host)
    assert found.plan.n_gpus == found.scenario.self_host.n_gpus == n_gpus


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(SERVED_GPUS), st.sampled_from([None, 1e8, 5e10]))
def test_what_is_picked_divides_the_heads_and_is_the_fewest_that_fit_or_twice_that(
    model: Any, gpu: str, volume: float | None
) -> None:
    try:
        found = on(model.name, gpu, volume=volume, gpu_usd_per_hour=2.0)
    except InvalidRequestError as refusal:
        assert "does not fit on" in str(refusal)
        return
    picked = found.plan.n_gpus
    assert model.heads % picked == 0
    assert picked in (1, 2, 4, 8)
    smaller = [each for each in (1, 2, 4) if each < picked]
    cheaper = []
    for each in smaller:
        try:
            other = on(model.name, gpu, volume=volume, gpu_usd_per_hour=2.0, n_gpus=each)
        except InvalidRequestError:
            continue
        if not other.resolved.is_too_slow:
            cheaper.append(each)
    assert cheaper in ([], [picked // 2])


def test_a_picked_number_is_the_cheaper_of_two() -> None:
    # One H100 holds it, and has little room for requests.
    assert on("llama-3.3-70b", precision="int4", n_gpus=1).plan.n_gpus == 1
    assert on("llama-3.3-70b", precision="int4").plan.n_gpus == 2
    for volume in (1e8, 1e10):
        costs = [on("llama-3.1-8b", volume=volume, n_gpus=each).self_host_usd_per_month(volume) for each in (1, 2)]
        assert on("llama-3.1-8b", volume=volume).self_host_usd_per_month(volume) == min(costs)


def test_a_measured_rate_without_a_number_is_that_of_as_few_gpus_as_hold_the_model() -> None:
    assert on("llama-3.3-70b", tokens_per_second=2000).plan.n_gpus == 2
    assert on("llama-3.1-8b", tokens_per_second=2000).plan.n_gpus == 1
    assert on("llama-3.3-70b", tokens_per_second=2000, n_gpus=6).plan.n_gpus == 6


def test_a_number_that_was_measured_is_tried_too() -> None:
    point = MeasuredPoint("llama-3.3-70b", "rtx_4090", 3, "Q6_K", "llama.cpp", 1600, 400, 1, 12.0, 80.0, 900.0, TODAY)
    host = SelfHost(gpu="rtx_4090", precision="Q6_K", gpu_usd_per_hour=0.4, tpot_limit_ms=100)
    found = evaluate(Scenario(model="llama-3.3-70b", self_host=host, apis=[API]), measured=[point], today=TODAY)
    assert (found.plan.n_gpus, found.resolved.rate.rung if found.resolved.rate else None) == (3, "measured")


def test_too_large_a_model_says_so_of_the_largest_server() -> None:
    with pytest.raises(InvalidRequestError, match=r"does not fit on 8 x rtx_4090.*would fit: 32 GPUs"):
        on("llama-3.1-405b", "rtx_4090", gpu_usd_per_hour=0.4)


def test_what_would_fit_is_a_number_that_can_be() -> None:
    with pytest.raises(InvalidRequestError, match=r"would fit: 4 GPUs or int4 on what there is"):
        max_throughput("llama-3.1-70b", "h100_sxm", n_gpus=1, precision="bf16", isl=1000, osl=1000)
    with pytest.raises(InvalidRequestError, match=r"GB are missing; (?!.*GPUs)"):
        max_throughput("llama-3.1-405b", "m3_ultra", precision="bf16", isl=1000, osl=1000, engine="llama.cpp")
    for model in (TABLES.model(name) for name in ("llama-3.2-3b", "llama-3.3-70b", "llama-4-scout", "llama-3.1-405b")):
        for n_gpus in (1, 3, 6):
            answer = fit(model, named("rtx_4090", n_gpus), precision="bf16")
            if answer.gpus_needed is not None:
                assert model.heads % answer.gpus_needed == 0


def test_beyond_a_head_of_keys_a_gpu_the_cache_does_not_shrink() -> None:
    model = replace(TABLES.model("llama-3.1-8b"), kv_heads=2)
    gpu = TABLES.gpu("h100_sxm")
    rooms = {}
    for count in (1, 2, 4, 8):
        replica = Replica(model, gpu, count, "bf16", "vllm")
        rooms[count] = replica.kv_bytes_per_token / count
        whole = need(model, "bf16", context_tokens=1000, gpus=count).kv_cache_bytes
        assert whole == pytest.approx(1000 * replica.kv_bytes_per_token, abs=1)
    assert rooms[2] == rooms[1] / 2
    assert rooms[2] == rooms[4] == rooms[8]
    layers = Replica(model, gpu, 8, "Q8_0", "llama.cpp")
    assert layers.kv_bytes_per_token == model.kv_bytes_per_token(2.0)


def test_copies_of_keys_and_values_are_read_and_leave_room_for_fewer_requests() -> None:
    few, many = (replace(TABLES.model("llama-3.1-8b"), kv_heads=heads) for heads in (2, 8))
    gpu = TABLES.gpu("l4")
    # The same bytes a token on each of 8 GPUs: a head of its own, or a copy.
    a, b = (Replica(replace(model, head_dim=128), gpu, 8, "bf16", "vllm") for model in (few, many))
    assert a.room_for(100, 100) == pytest.approx(b.room_for(100, 100))
    assert a.tpot_ms(64, 1000, 100) == pytest.approx(b.tpot_ms(64, 1000, 100))


def test_without_a_gpu_what_can_be_bought_is_compared_too() -> None:
    scenario = Scenario(
        model="llama-3.1-8b", traffic=Traffic(tokens_per_day=1e9), self_host=SelfHost(purchase=Purchase()), apis=[API]
    )
    machines = cheapest_machine(scenario, lambda each: evaluate(each, today=TODAY), tables=TABLES)
    ranked = [machines.best, *machines.others]
    assert {"rtx_4090", "l40s", "h100_sxm"} <= {each.scenario.self_host.gpu for each in ranked}
    costs = [each.self_host_usd_per_month(1e9) for each in ranked]
    assert costs == sorted(costs)
    assert all(each.plan.owned is not None and not each.resolved.is_too_slow for each in ranked)
