"""A smaller model that proposes tokens: the same answers, what was taken of it told, and other vocabularies refused."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatCompletion, LlamaClient, ModelLoadError
from llama_client.providers.gguf import engine
from tests.asking import Asker
from tests.lengths import two_modes, values
from tests.providers.gguf.conftest import TEMPLATES, ModelFile
from tests.providers.gguf.test_adapters import write_adapter

QUESTION = "Tell me of the sea."
Ends = dict[str, bool | int | str | None]


def with_tokens(file: ModelFile, path: Path, *replaced: tuple[bytes, bytes]) -> Path:
    """The model with other texts for some of its tokens."""
    for before, after in replaced:
        text = struct.pack("<Q", len(before)) + before
        file.replace(b"tokenizer.ggml.tokens", text, struct.pack("<Q", len(after)) + after)
    return file.write(path, TEMPLATES["any"])


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models of one block, whose vocabulary is the same, or nearly."""
    folder = tmp_path_factory.mktemp("drafts")
    file = ModelFile(tiny_model)
    file.write(folder / "tiny.gguf", TEMPLATES["any"])
    file.write_split(folder, "parts", TEMPLATES["any"], 2)
    write_adapter(folder / "adapter.gguf", 1)
    with_tokens(ModelFile(tiny_model), folder / "word.gguf", ("Ġand".encode(), "Ġqzx".encode()))
    with_tokens(ModelFile(tiny_model), folder / "special.gguf", (b"<|im_start|>", b"<|im_begin|>"))
    file.replace(b"tokenizer.ggml.model", b"gpt2", b"llam")
    file.write(folder / "kind.gguf", TEMPLATES["any"])
    (folder / "nothing.gguf").write_bytes(b"")
    yield folder
    shutil.rmtree(folder)


def configuration(model: Path, draft: Path | None, **options: Any) -> dict[str, Any]:
    drafting = {} if draft is None else {"draft_model_path": str(draft)}
    laptop = {"kind": "gguf", "model_path": str(model), "n_ctx": 512, "n_threads": 1, **drafting, **options}
    return {"default_model": "laptop/default", "providers": {"laptop": laptop}, "routing": {"retries": 0}}


def drafted(reply: ChatCompletion) -> list[tuple[int | None, int | None]]:
    """The tokens that were proposed and taken, as llama.cpp tells it of each choice."""
    timings = [chunk["timings"] for chunk in reply.raw["chunks"] if "timings" in chunk]
    return [(each.get("draft_n"), each.get("draft_n_accepted")) for each in timings]


@pytest.mark.parametrize("tokens", values([1, 8], long=[1]))
def test_a_draft_model_changes_no_answer(demo_model: Path, tiny_model: Path, tmp_path: Path, tokens: int) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
    # One with all tokens of the demo model.
    block = ModelFile(demo_model).write(tmp_path / "block.gguf", TEMPLATES["any"])
    for model, draft in ((tiny_model, tiny_model), (block, demo_model)):
        with LlamaClient(configuration(model, None)) as client:
            alone = client.ask(QUESTION, **asked)
        with LlamaClient(configuration(model, draft, draft_tokens=tokens)) as client:
            reply = client.ask(QUESTION, **asked)
        assert (reply.text, reply.usage) == (alone.text, alone.usage)
        ((proposed, taken),) = drafted(reply)
        assert proposed is not None
        # One block agrees with itself in nearly all, and with the whole model in nearly nothing.
        assert (taken == proposed) == (draft == model)
        assert drafted(alone) == [(None, None)]


@two_modes
def test_a_draft_model_serves_all_ways_of_asking(folder: Path, mode: str) -> None:
    tiny, asked = folder / "tiny.gguf", {"temperature": 0, "max_tokens": 12}
    alone = Asker(mode, configuration(tiny, None, n_parallel=2), [])(QUESTION, n=3, **asked)
    reply = Asker(mode, configuration(tiny, tiny, n_parallel=2), [])(QUESTION, n=3, **asked)
    assert [choice.message.content for choice in reply.choices] == [each.message.content for each in alone.choices]
    assert reply.usage.completion_tokens == alone.usage.completion_tokens


def test_a_draft_model_leaves_the_grammar_and_the_cache_as_they_are(folder: Path) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["sea", "sky"]}}}
    with LlamaClient(configuration(folder / "tiny.gguf", folder / "tiny.gguf", prompt_cache_mib=16)) as client:
        asked: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
        texts = [client.ask(question, **asked).text for question in (QUESTION, "Why?", QUESTION, "Why?")]
        assert texts[:2] == texts[2:]
        assert client.ask(QUESTION, response_format=form, **asked).text in ('"sea"', '"sky"')


def test_a_draft_model_of_several_parts_is_loaded_by_the_first(folder: Path) -> None:
    with LlamaClient(configuration(folder / "tiny.gguf", folder / "parts-00001-of-00002.gguf")) as client:
        assert drafted(client.ask(QUESTION, temperature=0, max_tokens=12))[0][0]


def test_special_tokens_may_be_written_otherwise(folder: Path) -> None:
    with LlamaClient(configuration(folder / "tiny.gguf", folder / "special.gguf")) as client:
        assert drafted(client.ask(QUESTION, temperature=0, max_tokens=12))[0][0]


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (
            "word.gguf",
            r"as the draft model of .*tiny\.gguf: its vocabulary is another from its token \d+ on; it must be",
        ),
        ("kind.gguf", "its vocabulary is of the kind 'llam', not 'gpt2'"),
        ("adapter.gguf", "it is a LoRA adapter, not a model that could draft"),
        ("none.gguf", "there is no such file"),
        ("nothing.gguf", "the file is empty"),
        ("parts-00002-of-00002.gguf", "it is part 2 of 2: name the first part, parts-00001-of-00002.gguf"),
    ],
)
def test_a_draft_model_that_cannot_serve_is_told(folder: Path, draft: str, why: str) -> None:
    with LlamaClient(configuration(folder / "tiny.gguf", folder / draft)) as client:
        with pytest.raises(ModelLoadError, match=why) as told:
            client.ask(QUESTION)
    assert told.value.path == str(folder / draft)


def with_ends(file: Path, path: Path, values: Ends) -> Path:
    """The model with other values of what begins and ends a prompt; None: it does not tell it."""
    model = ModelFile(file)
    for name, value in values.items():
        packed: bytes | None = None
        match value:
            case bool():
                packed = struct.pack("<I?", 7, value)
            case int():
                packed = struct.pack("<II", 4, value)
            case str():
                packed = struct.pack("<IQ", 8, len(value)) + value.encode()
        model.put(f"tokenizer.ggml.{name}".encode(), packed)
    return model.write(path, TEMPLATES["any"])


BOS: Ends = {"add_bos_token": True}
EOS: Ends = {"add_eos_token": True}


# The values of the model's file, those of the draft model's, and the error's reason.
SAME_ENDS: list[tuple[Ends, Ends, str | None]] = [
    ({}, BOS, "add_bos_token is true, not false"),
    ({**BOS, "bos_token_id": 11}, {**BOS, "bos_token_id": 10**6}, None),
]
MORE_ENDS: list[tuple[Ends, Ends, str | None]] = [
    (BOS, {"add_bos_token": None}, "add_bos_token is false, not true"),
    (BOS, {**BOS, "bos_token_id": None, "pre": "glm4"}, "bos_token_id is none, not 1"),
    ({**BOS, "bos_token_id": 11}, {**BOS, "bos_token_id": None}, None),
    ({}, EOS, "add_eos_token is true, not false"),
    ({**EOS, "eos_token_id": 11}, {**EOS, "eos_token_id": None}, None),
    ({"add_bos_token": None, "pre": "llama-bpe"}, {}, "add_bos_token is false, not true"),
    (BOS, {**BOS, "bos_token_id": 5}, "bos_token_id is 5, not 1"),
    (EOS, {**EOS, "eos_token_id": 7}, "eos_token_id is 7, not 2"),
    ({}, {"add_bos_token": None, "bos_token_id": 5, "eos_token_id": 7}, None),
]


@pytest.mark.parametrize("case", values([*SAME_ENDS, *MORE_ENDS], long=MORE_ENDS), ids=str)
def test_what_begins_and_ends_a_prompt_must_be_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[Ends, Ends, str | None]
) -> None:
    own, draft, why = case
    files = with_ends(tiny_model, tmp_path / "own.gguf", own), with_ends(tiny_model, tmp_path / "draft.gguf", draft)
    if why is not None:
        with LlamaClient(configuration(*files)) as client, pytest.raises(ModelLoadError, match=f"its .*{why};") as told:
            client.ask(QUESTION)
        assert told.value.path == str(files[1])
        monkeypatch.setattr(engine, "require_same_vocabulary", lambda *_: None)
    # llama.cpp itself decides the same.
    with LlamaClient(configuration(*files)) as client:
        ((proposed, _),) = drafted(client.ask(QUESTION, temperature=0, max_tokens=12))
    assert (proposed is None) == (why is not None)
