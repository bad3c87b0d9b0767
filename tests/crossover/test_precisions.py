"""Names of precisions, and the sizes of files in GGUF's plain formats against what was published."""

from __future__ import annotations

import gguf
import pytest

from llama_client.crossover import Tables, decode_tpot_ms
from llama_client.crossover.precisions import all_gguf_names, bits_of, canonical, gguf_names, weight_bytes
from llama_client.errors import InvalidRequestError

TABLES = Tables.bundled()


@pytest.mark.parametrize(
    ("precision", "gib"),
    # What `llama-quantize --help` says of Llama-3-8B, some 8 MB of vocabulary included.
    [("Q3_K_S", 3.41), ("Q4_0", 4.34), ("Q4_1", 4.78), ("Q5_0", 5.21), ("Q5_1", 5.65)],
)
def test_a_plain_format_is_as_large_as_its_makers_say(precision: str, gib: float) -> None:
    assert weight_bytes(TABLES.model("llama-3-8b"), precision) / 2**30 == pytest.approx(gib, abs=0.015)


def test_the_weights_of_a_model_are_as_large_as_its_files() -> None:
    assert round(weight_bytes(TABLES.model("llama-3.1-8b"), "Q4_K_M") / 2**30, 2) == 4.58
    assert round(weight_bytes(TABLES.model("llama-3.3-70b"), "fp8") / 1e9) == 73


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-3.3-70b", "llama-3.2-1b"])
@pytest.mark.parametrize("precision", ["Q3_K_S", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_its_layers_are_its_blocks_and_its_output_is_q6_k(model: str, precision: str) -> None:
    shape = TABLES.model(model)

    def size(weights: int, block: str) -> float:
        of, in_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[block]]
        return weights / of * in_bytes

    output = shape.vocab * shape.hidden
    expected = size(shape.all_parameters - output, precision.removesuffix("_S")) + size(output, "Q6_K")
    assert weight_bytes(shape, precision) == pytest.approx(expected)


def test_plain_formats_are_run_by_llama_cpp_but_are_not_among_what_one_would_choose() -> None:
    assert not set(gguf_names()) & {"Q3_K_S", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}
    assert set(gguf_names()) < set(all_gguf_names())

    def tpot_ms(precision: str) -> float:
        return decode_tpot_ms(
            "llama-3-8b", "rtx_4090", precision=precision, isl=16, osl=256, batch=1, engine="llama.cpp"
        )

    assert tpot_ms("Q3_K_S") < tpot_ms("q4_0") < tpot_ms("Q4_K_M") < tpot_ms("Q4_1")


@pytest.mark.parametrize(
    ("written", "name"), [("Q4_k_m", "Q4_K_M"), ("q5-1", "Q5_1"), (" FP8 ", "fp8"), ("fp16", "bf16"), ("f16", "F16")]
)
def test_a_name_in_whatever_case_is_known(written: str, name: str) -> None:
    assert canonical(written) == name


@pytest.mark.parametrize(
    ("written", "meant"), [("q4km", "Q4_K_M"), ("Q40", "Q4_0"), ("iq4xs", "IQ4_XS"), ("fp8block", "fp8_block")]
)
def test_a_name_without_its_underscores_is_told_the_one_with_them(written: str, meant: str) -> None:
    with pytest.raises(
        InvalidRequestError, match=rf"^precision: {written!r} is not known; did you mean {meant!r}"
    ) as caught:
        canonical(written)
    assert caught.value.param == "precision"


@pytest.mark.parametrize("value", [8, None, True, ["fp8"]])
def test_what_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"^self_host\.precision: must be a name"):
        canonical(value, param="self_host.precision")  # type: ignore[arg-type]


def test_the_licence_of_the_measured_rows_comes_with_them() -> None:
    from importlib import resources

    folder = resources.files("llama_client.crossover.data")
    text = folder.joinpath("LICENSE-Apache-2.0.txt").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "4. Redistribution." in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "LICENSE-Apache-2.0.txt" in folder.joinpath("NOTICE").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)])
def test_mxfp4_has_the_size_of_the_published_checkpoints(name: str, gib: float) -> None:
    """OpenAI's model card of gpt-oss: 60.8 and 12.8 GiB, with 4.25 bits a weight of the experts and 16 of all else."""
    model = TABLES.model(name)
    assert model.published_precision == "mxfp4"
    assert weight_bytes(model, "mxfp4") / 2**30 == pytest.approx(gib, rel=0.01)


@pytest.mark.parametrize(
    ("name", "published_b", "active_b"),
    [("gpt-oss-120b", 116.83, 5.13), ("gpt-oss-20b", 20.91, 3.61)],
)
def test_parameters_of_gpt_oss_are_those_of_its_model_card(name: str, published_b: float, active_b: float) -> None:
    model = TABLES.model(name)
    assert model.parameters / 1e9 == pytest.approx(published_b, abs=0.006)
    # The card counts the head and not the embeddings.
    without = model.parameters_per_token - model.vocab * model.hidden
    assert without / 1e9 == pytest.approx(active_b, abs=0.006)


@pytest.mark.parametrize("name", ["gpt-oss-20b", "gpt-oss-120b", "muse-glimmer-30b", "qwen3.8-27b"])
def test_parameters_are_those_of_the_dimensions(name: str) -> None:
    model = TABLES.model(name)
    attention = 2 * model.hidden * model.head_dim * (model.heads + model.kv_heads)
    ffn = 3 * model.hidden * model.ffn * (1 if model.moe is None else model.moe.experts)
    found = model.layers * (attention + ffn) + 2 * model.vocab * model.hidden
    # What is not in the dimensions: biases, routers, gates of attention, the projections of linear attention.
    assert found == pytest.approx(model.parameters, rel=0.12)
    assert found <= model.parameters


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        ("bf16", 16),
        ("fp8_block", 8),
        ("int8", 8),
        ("mxfp4", 4),
        ("Q4_K_M", 4),
        ("IQ2_XXS", 2),
        ("F16", 16),
        ("FP8", 8),
        ("AWQ", 4),
        ("fp8-block", 8),
        ("q4_k_m", 4),
        ("own", None),
        (None, None),
    ],
)
def test_bits_are_known_of_a_name(precision: str | None, bits: int | None) -> None:
    assert bits_of(precision) == bits
