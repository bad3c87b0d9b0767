"""What models need: against sizes that are known, and properties that hold for every shape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_client.crossover.fitting.memory import (
    CACHE_PRECISIONS,
    GIB,
    cached_tokens,
    engine_of,
    llama_cpp_compute_bytes,
    need,
    wired_limit_bytes,
)
from llama_client.crossover.tables import Architecture, Tables
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()


def model(name: str) -> Architecture:
    return TABLES.model(name)


@pytest.mark.parametrize(
    ("name", "precision", "context", "gib"),
    [
        ("llama-3.1-8b", "Q4_K_M", 8192, 6.2),
        ("llama-3.1-8b", "Q4_K_M", 32768, 9.4),
        ("llama-3.1-8b", "Q4_K_M", 131072, 21.6),
        ("llama-3.1-8b", "Q8_0", 8192, 9.5),
        ("llama-3.3-70b", "Q4_K_M", 16384, 45.8),
        ("llama-3.3-70b", "Q4_K_M", 32768, 51),
        ("llama-3.3-70b", "Q5_K_M", 8192, 50),
    ],
)
def test_totals_agree_with_what_people_see(name: str, precision: str, context: int, gib: float) -> None:
    total = need(model(name), precision, context_tokens=context).total_bytes / GIB
    # Of what is not exact, the buffers, the totals hold some tenths of a GiB.
    assert total == pytest.approx(gib, rel=0.015)


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("llama-2-7b", 512),
        ("llama-2-13b", 800),
        ("llama-2-70b", 320),
        ("llama-3.1-8b", 128),
        ("llama-3.1-405b", 504),
        ("llama-3.2-1b", 32),
        ("llama-3.2-3b", 112),
        ("llama-4-scout", 192),
    ],
)
def test_the_cache_counts_heads_of_keys_and_values_not_of_queries(name: str, kib: int) -> None:
    for sequences in (1, 7):
        found = need(model(name), "Q8_0", context_tokens=1000, sequences=sequences)
        assert found.kv_cache_bytes == kib * 1024 * 1000 * sequences


def test_a_quantised_cache_takes_its_blocks_scales_too() -> None:
    sizes = {
        name: need(model("llama-3.1-8b"), "Q4_K_M", context_tokens=8192, cache_precision=name).kv_cache_bytes / GIB
        for name in CACHE_PRECISIONS
    }
    assert sizes["f16"] == sizes["bf16"] == 1
    assert sizes["f32"] == 2
    assert sizes["fp8"] == 0.5
    assert sizes["q8_0"] == pytest.approx(34 / 64)
    assert sizes["q4_0"] == pytest.approx(18 / 64)
    with pytest.raises(InvalidRequestError, match=r"^cache_precision: 'q8_1' .* did you mean 'q8_0'\?"):
        need(model("llama-3.1-8b"), "Q4_K_M", context_tokens=1, cache_precision="q8_1")


@pytest.mark.parametrize(
    ("context", "tokens"), [(4096, 4096), (8192, 8192), (16384, 10240), (1_048_576, 0.75 * 8192 + 0.25 * 1_048_576)]
)
def test_chunked_attention_caches_a_chunk_in_three_layers_of_four(context: int, tokens: float) -> None:
    scout = model("llama-4-scout")
    assert cached_tokens(scout, context, chunked_attention=True) == tokens
    assert cached_tokens(scout, context) == context
    small = need(scout, "Q4_K_M", context_tokens=context, chunked_attention=True)
    assert small.kv_cache_bytes == math.ceil(tokens * 192 * 1024)


def test_chunked_attention_of_a_model_without_chunks_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"^chunked_attention: llama-3.1-8b looks back"):
        need(model("llama-3.1-8b"), "Q4_K_M", context_tokens=1, chunked_attention=True)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "llama-3.1-8b", "llama-2-70b", "llama-3.3-70b"])
@pytest.mark.parametrize("context", [2048, 8192, 32768, 131072])
def test_llama_cpps_buffers_stay_within_what_is_seen_of_them(name: str, context: int) -> None:
    found = need(model(name), "Q4_K_M", context_tokens=context)
    assert 0.3 <= (found.compute_bytes + found.runtime_bytes) / GIB <= 1.5


def test_the_compute_buffer_grows_with_context_batch_and_vocabulary() -> None:
    base = llama_cpp_compute_bytes(model("llama-3.1-8b"), 8192)
    assert llama_cpp_compute_bytes(model("llama-3.1-8b"), 8193) > base
    assert llama_cpp_compute_bytes(model("llama-3.1-8b"), 8192, batch_tokens=1024) > base
    assert llama_cpp_compute_bytes(model("llama-2-7b"), 8192) < base


def test_a_server_sets_a_part_and_three_gigabytes_of_each_gpu_aside() -> None:
    found = need(model("llama-3.3-70b"), "fp8", context_tokens=8192, gpus=2, gpu_memory_bytes=80 * GIB)
    assert engine_of("fp8") == "server"
    # Of 80 x 2^30 bytes, 0.9 x 80 x 10^9 less 3 x 10^9 are given to weights and cache.
    assert found.runtime_bytes == 2 * (80 * GIB - 69_000_000_000)
    assert found.compute_bytes == 0


def test_beyond_a_head_of_keys_a_gpu_the_cache_is_copied() -> None:
    eight, sixteen = (need(model("llama-3.3-70b"), "fp8", context_tokens=8192, gpus=gpus) for gpus in (8, 16))
    assert sixteen.kv_cache_bytes == 2 * eight.kv_cache_bytes


def test_exact_weights_take_the_place_of_computed_ones() -> None:
    found = need(model("llama-3.1-8b"), "Q4_K_M", context_tokens=1, weights_bytes=4_920_734_272)
    assert found.weights_bytes == 4_920_734_272


@pytest.mark.parametrize(("memory", "limit"), [(16, 32 / 3), (32, 64 / 3), (36, 27), (128, 96), (512, 384)])
def test_macos_lets_a_gpu_have_two_thirds_of_little_and_three_quarters_of_much(memory: int, limit: float) -> None:
    assert wired_limit_bytes(memory * GIB) == int(limit * GIB)


@pytest.mark.parametrize("param", ["context_tokens", "sequences", "gpus"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_counts_are_whole_and_above_0(param: str, value: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{param}: must be a whole number above 0, got {value!r}"):
        need(model("llama-3.1-8b"), "Q4_K_M", **{"context_tokens": 1, param: value})  # type: ignore[arg-type]


@given(
    st.sampled_from(TABLES.models),
    st.sampled_from(["Q2_K", "Q4_K_M", "F16", "bf16", "fp8"]),
    st.integers(1, 10**7),
    st.integers(1, 1000),
    st.integers(1, 16),
)
def test_needs_are_whole_add_up_and_never_fall(
    shape: Architecture, precision: str, context: int, sequences: int, gpus: int
) -> None:
    found = need(shape, precision, context_tokens=context, sequences=sequences, gpus=gpus)
    parts = (found.weights_bytes, found.kv_cache_bytes, found.compute_bytes, found.runtime_bytes)
    assert all(type(part) is int for part in parts)
    assert min(parts) >= 0
    assert found.total_bytes == sum(parts) == found.as_dict()["total_bytes"]
    for more in (
        need(shape, precision, context_tokens=context + 1, sequences=sequences, gpus=gpus),
        need(shape, precision, context_tokens=context, sequences=sequences + 1, gpus=gpus),
        need(shape, precision, context_tokens=context, sequences=sequences, gpus=gpus + 1),
    ):
        assert more.total_bytes > found.total_bytes
