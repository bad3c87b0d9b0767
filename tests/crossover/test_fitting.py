"""Whether models fit: known answers, and what must hold between an answer's parts."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.crossover.fitting.fit import Fit, Option, fit
from llama_client.crossover.fitting.machines import Machine, MachineGpu, named
from llama_client.crossover.fitting.memory import GIB, training_need
from llama_client.crossover.fitting.report import document, licence_notes, sources, verdict
from llama_client.crossover.tables import Architecture, Gpu, Tables
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()
TODAY = date(2026, 12, 1)


def asked(model: str, machine: Machine, **what: object) -> Fit:
    return fit(TABLES.model(model), machine, **what)  # type: ignore[arg-type]


def of(*gib: float, ram: float | None = None, kind: str = "gddr") -> Machine:
    """A machine of GPUs of these sizes."""
    gpus = (MachineGpu(f"G{size}", int(size * GIB), int(size * GIB), memory_kind=kind) for size in gib)  # type: ignore[arg-type]
    return Machine("mine", tuple(gpus), None if ram is None else int(ram * GIB))


def option(answer: Fit, precision: str) -> Option:
    return next(each for each in answer.options if each.precision == precision)


@pytest.mark.parametrize(
    ("machine", "context", "fits"),
    [
        (of(8), 8192, True),
        (of(8), 32768, False),
        (of(10), 32768, True),
        (of(20), 131072, False),
        (of(24), 131072, True),
    ],
)
def test_8b_in_4_bits_fits_8_gib_at_8k_alone(machine: Machine, context: int, fits: bool) -> None:
    assert asked("llama-3.1-8b", machine, precision="Q4_K_M", context_tokens=context).fits is fits


def test_70b_in_4_bits_fits_48_gib_to_16k() -> None:
    for context, where in ((16384, "one-gpu"), (32768, None)):
        assert asked("llama-3.3-70b", of(48), precision="Q4_K_M", context_tokens=context).answer.where == where
    assert asked("llama-3.3-70b", of(48), precision="Q5_K_M").answer.where is None


def test_the_parts_add_up_and_the_shortage_is_what_is_missing() -> None:
    answer = asked("llama-3.3-70b", of(24), precision="Q4_K_M")
    assert not answer.fits
    assert answer.answer.shortage_bytes == answer.answer.need.total_bytes - 24 * GIB
    assert answer.answer.longest_context_tokens is None
    assert answer.answer.max_sequences == 0
    assert answer.gpus_needed == 2
    assert answer.best is None
    enough = asked("llama-3.3-70b", of(24 + answer.answer.shortage_bytes / GIB), precision="Q4_K_M")
    assert enough.answer.where == "one-gpu"
    assert enough.answer.shortage_bytes == 0


def test_without_a_precision_the_best_that_fits_is_the_answer() -> None:
    answer = asked("llama-3.1-8b", of(12))
    assert (answer.asked_precision, answer.answer) == (None, answer.best)
    assert answer.answer.precision == "Q8_0"
    assert option(answer, "F16").where is None
    sizes = [each.need.weights_bytes for each in answer.options]
    assert sizes[1:] == sorted(sizes[1:], reverse=True), "bf16, the first, is as wide as F16"


def test_the_best_is_what_gpus_hold_alone_before_more_bits_in_ram() -> None:
    answer = asked("llama-3.1-8b", of(8, ram=64))
    assert option(answer, "F16").where == "split"
    assert (answer.answer.precision, answer.answer.where) == ("Q6_K", "one-gpu")


def test_several_gpus_hold_whole_layers() -> None:
    # Together they have 44 GiB and it takes 43.9; but no GPU can hold a part of a layer.
    answer = asked("llama-3.3-70b", of(22.05, 22.05), precision="Q4_K_M")
    assert answer.answer.need.total_bytes < 44.1 * GIB
    assert answer.answer.where is None
    assert answer.answer.shortage_bytes is not None
    assert 0 < answer.answer.shortage_bytes < GIB
    assert asked("llama-3.3-70b", of(22.6, 22.6), precision="Q4_K_M").answer.where == "several-gpus"


def test_gpus_of_different_sizes_share_layers_by_their_size() -> None:
    answer = asked("llama-3.3-70b", of(8, 40), precision="Q4_K_M").answer
    assert (answer.where, answer.gpus) == ("several-gpus", 2)
    assert asked("llama-3.1-8b", of(8, 40), precision="Q4_K_M").answer.gpus == 1


def test_a_server_takes_as_many_gpus_as_divide_the_heads() -> None:
    answer = option(asked("llama-3.3-70b", named("h100_sxm", 3)), "bf16")
    assert answer.where is None
    assert option(asked("llama-3.3-70b", named("h100_sxm", 4)), "bf16").gpus == 4
    # (80 x 0.9 - 3) x 2 GB less 73 GB of weights, over 0.33 MB a token.
    two = option(asked("llama-3.3-70b", named("h100_sxm", 2), context_tokens=1000), "fp8")
    assert two.gpus == 2
    weights = two.need.weights_bytes
    assert two.max_sequences == int((2 * (80e9 * 0.9 - 3e9) - weights) / (320 * 512 * 1000))


def test_what_exceeds_the_gpus_is_split_with_ram_and_said_to_be() -> None:
    answer = asked("llama-3.3-70b", of(24, ram=64), precision="Q4_K_M")
    found = answer.answer
    assert (answer.fits, found.where, found.fits_on_gpus) == (True, "split", False)
    assert 35 <= found.layers_on_gpus <= 50
    assert found.shortage_bytes is not None
    assert found.shortage_bytes > 18 * GIB
    assert "of 80 layers fit on the GPU, the others in RAM, which is slow" in verdict(answer)
    assert asked("llama-3.3-70b", of(24, ram=16), precision="Q4_K_M").answer.where is None
    assert asked("llama-3.3-70b", of(0.1, ram=64), precision="Q4_K_M").answer.where == "ram"


def test_without_a_gpu_it_is_ram_and_only_llama_cpp() -> None:
    answer = asked("llama-3.1-8b", of(ram=16))
    assert answer.answer.where == "ram"
    assert {each.engine for each in answer.options} == {"llama.cpp"}
    assert verdict(answer).startswith("llama-3.1-8b on mine? In RAM, which is slow: ")
    with pytest.raises(InvalidRequestError, match=r"^precision: 'fp8' is run by vLLM"):
        asked("llama-3.1-8b", of(ram=16), precision="fp8")
    small = asked("llama-3.3-70b", of(ram=16))
    assert (small.answer.precision, small.answer.where, small.gpus_needed) == ("Q4_K_M", None, None)
    assert "14.4 GiB of RAM are there" in verdict(small)


def test_a_machine_that_is_unknown_gives_needs_and_no_verdict_on_room() -> None:
    answer = asked("llama-3.1-8b", Machine("somewhere"))
    assert (answer.fits, answer.answer.shortage_bytes) == (False, None)
    assert "how much memory is there is unknown" in verdict(answer)


def test_shared_memory_is_not_counted_twice() -> None:
    machine = of(48, ram=64, kind="unified")
    answer = asked("llama-3.3-70b", machine, precision="Q5_K_M")
    assert answer.answer.where == "ram", "the processor may have more than the GPU, never the sum"
    assert asked("llama-3.3-70b", machine, precision="Q6_K", context_tokens=32768).answer.where is None


def test_four_bits_of_nvidia_are_offered_where_a_gpu_computes_in_them() -> None:
    names = {each.precision for each in asked("llama-3.3-70b", named("b200_sxm")).options}
    assert "nvfp4" in names
    assert "nvfp4" not in {each.precision for each in asked("llama-3.3-70b", named("h100_sxm")).options}
    assert asked("llama-3.3-70b", named("h100_sxm"), precision="nvfp4").answer.precision == "nvfp4"
    assert "mxfp4" not in {each.precision for each in asked("llama-3.3-70b", named("h100_sxm")).options}
    assert "mxfp4" in {each.precision for each in asked("gpt-oss-20b", named("h100_sxm")).options}


def test_chunks_let_llama_4_look_back_further() -> None:
    near, far = (
        asked("llama-4-scout", named("h100_sxm", 2), precision="Q4_K_M", chunked_attention=chunked).answer
        for chunked in (False, True)
    )
    assert near.longest_context_tokens is not None
    assert far.longest_context_tokens is not None
    assert far.longest_context_tokens > 1.5 * near.longest_context_tokens


def test_a_quantised_cache_holds_more() -> None:
    wide, narrow = (
        asked("llama-3.1-8b", of(12), precision="Q4_K_M", cache_precision=cache).answer for cache in (None, "q8_0")
    )
    assert narrow.max_sequences > wide.max_sequences
    assert (narrow.longest_context_tokens or 0) > 1.5 * (wide.longest_context_tokens or 0)


machines = st.builds(
    lambda sizes, ram: of(*sizes, ram=ram),
    st.lists(st.floats(1, 200), max_size=4),
    st.none() | st.floats(1, 500),
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TABLES.models), machines, st.sampled_from(["Q2_K", "Q4_K_M", "F16"]), st.integers(256, 4096))
def test_limits_are_tight_and_more_memory_never_fits_less(
    model: Architecture, machine: Machine, precision: str, context: int
) -> None:
    context = min(context, model.context_tokens)
    answer = fit(model, machine, precision=precision, context_tokens=context).answer
    if answer.where is not None:
        longest = answer.longest_context_tokens
        assert longest is not None
        assert longest >= context - context % 256
        assert fit(model, machine, precision=precision, context_tokens=longest).fits
        assert answer.max_sequences >= 1
        many = fit(model, machine, precision=precision, context_tokens=context, sequences=answer.max_sequences)
        assert many.answer.fits_on_gpus is answer.fits_on_gpus
        over = fit(model, machine, precision=precision, context_tokens=context, sequences=answer.max_sequences + 1)
        # Nobody counts beyond 65,536.
        assert answer.max_sequences == 65_536 or not (over.fits and over.answer.fits_on_gpus is answer.fits_on_gpus)
    sizes = [gpu.usable_bytes / GIB + 5 for gpu in machine.gpus]
    larger = of(*sizes, ram=None if machine.ram_bytes is None else machine.ram_bytes / GIB + 5)
    if answer.where is not None:
        assert fit(model, larger, precision=precision, context_tokens=context).fits


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"precision": "Q4_K_X"}, r"^precision: 'Q4_K_X' is not in the tables"),
        ({"context_tokens": 0}, "^context_tokens: must be a whole number above 0, got 0"),
        ({"context_tokens": 131073}, "^context_tokens: llama-3.1-8b was trained for 131,072 tokens, got 131,073"),
        ({"sequences": -1}, "^sequences: must be a whole number above 0, got -1"),
        ({"cache_precision": "q9_0"}, "^cache_precision: 'q9_0' is not in the tables"),
    ],
)
def test_what_is_wrong_is_named(what: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        asked("llama-3.1-8b", of(24), **what)


def test_the_verdict_names_need_room_shortage_and_what_would_do() -> None:
    assert verdict(asked("llama-3.3-70b", named("rtx_4090"), precision="Q4_K_M")) == (
        "llama-3.3-70b on 1 x RTX 4090? No: Q4_K_M needs 43.1 GiB for 8,192 tokens, 24.0 GiB are there: 19.1 GiB "
        "short. 2 x RTX 4090 would hold it."
    )
    assert verdict(asked("llama-3.1-8b", named("rtx_4090"), precision="Q8_0")) == (
        "llama-3.1-8b on 1 x RTX 4090? Yes: Q8_0 needs 9.6 GiB for 8,192 tokens, and 24.0 GiB are there."
    )
    tight = verdict(asked("llama-3.3-70b", named("rtx_4090", 2), precision="Q4_K_M", context_tokens=24576))
    assert "Q4_K_S (47.9 GiB) would fit; 20,480 tokens would fit; 3 x RTX 4090 would hold it." in tight
    several = verdict(asked("llama-3.1-8b", named("rtx_4090", 4), sequences=3, precision="Q8_0"))
    assert "Yes: Q8_0 needs 11.6 GiB for 3 sequences of 8,192 tokens on 1 of 4 GPUs, and 24.0 GiB are there" in several
    nothing = verdict(asked("llama-3.1-405b", of(8, 9)))
    assert "No known precision fits: Q2_K, the smallest, needs 14" in nothing


def test_the_document_is_json_and_says_where_it_is_from_and_how_old() -> None:
    answer = asked("llama-4-scout", named("rtx_4090"))
    notes = licence_notes(answer.model)
    needs = (training_need(answer.model, "qlora"),)
    found = json.loads(json.dumps(document(answer, notes, sources(answer, TABLES, TODAY), needs)))
    assert found["verdict"] == verdict(answer)
    assert (found["fits"], found["best_precision"]) == (False, None)
    assert found["answer"]["need"]["total_bytes"] > found["machine"]["usable_gpu_bytes"]
    assert found["training"][0]["fits_on_gpus"] is False
    assert {"european-union", "monthly-users"} <= {note["topic"] for note in found["licence_notes"]}
    by_what = {source["what"]: source for source in found["sources"]}
    assert set(by_what) == {"llama-4-scout", "rtx_4090", "bits per weight"}
    assert by_what["rtx_4090"] | {"source": ""} == {
        "what": "rtx_4090",
        "source": "",
        "checked_on": "2026-11-30",
        "age_days": 1,
        "freshness": "fresh",
        "unverified": None,
    }


def test_rows_older_than_60_days_are_stale_and_the_users_own_undated() -> None:
    tables = TABLES.extended(gpus=[Gpu("mine", 24, 900)])
    answer = fit(TABLES.model("llama-3.1-8b"), named("mine", tables=tables))
    for day, freshness in ((date(2027, 1, 22), "fresh"), (date(2027, 1, 23), "stale")):
        found = {source.what: source.freshness for source in sources(answer, tables, day)}
        assert found == {"llama-3.1-8b": freshness, "mine": "undated", "bits per weight": freshness}
