"""What GGUF files say of their models, from files that llama.cpp's own package wrote."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import gguf
import pytest

from llama_client.crossover.fitting.gguf_files import read_gguf
from llama_client.crossover.fitting.memory import need
from llama_client.errors import LlamaClientError, MissingExtraError, ModelLoadError
from tests.crossover.gguf_writing import FFN, HIDDEN, LAYERS, VOCAB, write_model
from tests.providers.gguf.conftest import write_gguf


def test_the_weights_are_the_sum_of_the_tensors_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    size = write_model(path)
    found = read_gguf(path)
    assert found.weights_bytes == size < path.stat().st_size
    assert (found.paths, found.precision) == ((path,), "Q8_0")
    assert found.model.parameters == 2 * VOCAB * HIDDEN + LAYERS * FFN * HIDDEN


def test_the_shape_follows_from_the_head(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf", tied=True)
    model = read_gguf(tmp_path / "tiny.gguf").model
    assert (model.name, model.layers, model.hidden, model.ffn) == ("Tiny Model", LAYERS, HIDDEN, FFN)
    assert (model.heads, model.kv_heads, model.head_dim, model.vocab) == (4, 2, 16, VOCAB)
    assert (model.context_tokens, model.tied_embeddings, model.moe) == (4096, True, None)
    # A key and a value, 3 layers, 2 heads of 16, 2 bytes.
    found = need(model, "Q8_0", context_tokens=100, weights_bytes=1)
    assert found.kv_cache_bytes == 100 * 2 * 3 * 2 * 16 * 2


@pytest.mark.parametrize(("kv_heads", "found"), [(None, 4), ([2, 4, 1], 4), ([2, 0, 2], 2)])
def test_without_grouped_queries_all_heads_count_and_of_differing_layers_the_most(
    tmp_path: Path, kv_heads: list[int] | None, found: int
) -> None:
    write_model(tmp_path / "tiny.gguf", kv_heads=kv_heads)
    assert read_gguf(tmp_path / "tiny.gguf").model.kv_heads == found


def test_experts_and_llama_4s_chunks_are_read(tmp_path: Path) -> None:
    write_model(tmp_path / "moe.gguf", architecture="llama4", experts=16)
    model = read_gguf(tmp_path / "moe.gguf").model
    assert model.moe is not None
    assert (model.moe.experts, model.moe.experts_per_token, model.moe.expert_ffn) == (16, 2, FFN)
    assert (model.attention_chunk_tokens, model.global_attention_every_n_layers) == (8192, 4)


def test_a_tokenizer_as_long_as_llama_3s_is_passed_over(tmp_path: Path) -> None:
    size = write_model(tmp_path / "tiny.gguf", vocabulary=20_000)
    whole = gguf.GGUFReader(tmp_path / "tiny.gguf")
    found = read_gguf(tmp_path / "tiny.gguf")
    assert found.weights_bytes == size == sum(tensor.n_bytes for tensor in whole.tensors)
    assert found.model.vocab == VOCAB, "the embeddings say how many tokens there are"


def test_of_a_split_model_any_part_tells_of_all(tmp_path: Path) -> None:
    names = [tmp_path / f"big-{number:05}-of-00002.gguf" for number in (1, 2)]
    sizes = [write_model(name) for name in names]
    for name in names:
        found = read_gguf(name)
        assert found.paths == tuple(names)
        assert found.weights_bytes == sum(sizes)
    names[1].unlink()
    with pytest.raises(ModelLoadError, match=r"big-00002-of-00002\.gguf: there is no such file"):
        read_gguf(names[0])


@pytest.mark.parametrize(
    ("file_type", "precision"),
    [
        (gguf.LlamaFileType.MOSTLY_Q4_K_M, "Q4_K_M"),
        (gguf.LlamaFileType.ALL_F32, "F32"),
        (None, "F32"),
        (9999, "F32"),
    ],
)
def test_the_precision_is_the_files_word_for_it_else_what_most_bytes_are_in(
    tmp_path: Path, file_type: int | None, precision: str
) -> None:
    write_model(tmp_path / "tiny.gguf", file_type=file_type)
    assert read_gguf(tmp_path / "tiny.gguf").precision == precision


def test_a_name_alone_brings_no_licence_of_another_shape(tmp_path: Path) -> None:
    write_model(tmp_path / "tiny.gguf", name="Llama 3.1 8B Instruct")
    model = read_gguf(tmp_path / "tiny.gguf").model
    assert (model.licence, model.monthly_users_clause) == ("unknown", False)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"not a model at all"), "not a GGUF file"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: write_gguf(path, file_type="adapter"), "it is a LoRA adapter"),
        (
            lambda path: path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0)),
            "its header has no general.architecture, so",
        ),
        (lambda path: write_gguf(path), "it has no llama.block_count"),
        (lambda path: write_model(path, leave_out="attention.head_count"), "it has no llama.attention.head_count"),
        (lambda path: write_model(path, architecture="clip", leave_out="embedding_length"), "no clip.embedding_length"),
    ],
)
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, prepare: object, says: str) -> None:
    path = tmp_path / "some.gguf"
    prepare(path)  # type: ignore[operator]
    with pytest.raises(ModelLoadError, match=says):
        read_gguf(path)


@pytest.mark.parametrize("cut", [20, 200, 3000, 60_000])
def test_a_file_that_is_cut_short_is_an_error_of_ours(tmp_path: Path, cut: int) -> None:
    write_model(tmp_path / "whole.gguf")
    path = tmp_path / "cut.gguf"
    path.write_bytes((tmp_path / "whole.gguf").read_bytes()[:cut])
    with pytest.raises(LlamaClientError):
        read_gguf(path)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"llama-client\[crossover\]") as caught:
        read_gguf(tmp_path / "tiny.gguf")
    assert caught.value.extra == "crossover"


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        # A word of the tokenizer, a name, a licence: no text in UTF-8.
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQQ", 8, 1, 2) + b"\xff\xfe"),
        ("general.alignment", 8, struct.pack("<Q", 1) + b"x"),
        ("general.alignment", 4, struct.pack("<I", 0)),
        ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 4, 0)),
    ],
)
def test_what_the_package_stumbles_over_is_told_as_damage(tmp_path: Path, name: str, kind: int, value: bytes) -> None:
    path = tmp_path / "odd.gguf"
    written = b"".join(
        struct.pack("<Q", len(key)) + key + struct.pack("<I", of) + text
        for key, of, text in (
            (b"general.architecture", 8, struct.pack("<Q", 5) + b"llama"),
            (name.encode(), kind, value),
        )
    )
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + written + bytes(64))
    with pytest.raises(ModelLoadError, match="it is damaged"):
        read_gguf(path)
