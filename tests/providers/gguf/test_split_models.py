"""Models of several files: loaded, pulled and counted as one, by the name of the first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llama_client import LlamaClient, ModelLoadError
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import ModelStore
from tests.providers.gguf.conftest import TEMPLATES, Hub, ModelFile, pull_in_process, sha256_of, written

PARTS = 3
NAMES = [f"Tiny-Model-{number:05}-of-{PARTS:05}.gguf" for number in range(1, PARTS + 1)]
# Nearly the names of parts.
NO_PARTS = ["x-00000-of-00003.gguf", "x-00004-of-00003.gguf", "x-00001-OF-00003.gguf"]


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model in one file, with its three parts beside it."""
    folder = tmp_path_factory.mktemp("split")
    parts = ModelFile(tiny_model).write_split(folder, "Tiny-Model", TEMPLATES["any"], PARTS)
    assert [part.name for part in parts] == NAMES
    yield folder / "Tiny-Model.gguf"
    shutil.rmtree(folder)


@pytest.fixture
def parts(whole: Path, tmp_path: Path) -> list[Path]:
    """Links to the parts, each of which a test may put something else in the place of."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in NAMES:
        (folder / name).symlink_to(whole.parent / name)
    return [folder / name for name in NAMES]


def client_of(path: Path) -> LlamaClient:
    return LlamaClient.for_provider("gguf", model_path=path, n_ctx=512, n_threads=1)


def asked(client: LlamaClient, **params: Any) -> Any:
    return client.ask("Why is the sky blue?", temperature=0, max_tokens=8, **params)


def small_part(path: Path, **values: Any) -> Path:
    """A small file with these values under `split.`: whole numbers in the types of the format, or any others."""
    writer = gguf.GGUFWriter(str(path), "llama")
    for name, value in values.items():
        key = f"split.{name.replace('_', '.')}"
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                (writer.add_uint16 if 0 <= value < 1 << 16 else writer.add_int64)(key, value)
            case float():
                writer.add_float32(key, value)
            case _:
                writer.add_string(key, value)
    writer.add_tensor("output_norm.weight", np.zeros(64, dtype=np.float32))
    return written(writer, path)


def test_a_split_model_is_loaded_by_its_first_part(whole: Path, parts: list[Path]) -> None:
    with client_of(whole) as one, client_of(parts[0]) as several:
        expected, reply = asked(one), asked(several)
        assert (reply.text, reply.model) == (expected.text, "Tiny-Model")
        assert [model.size_bytes for model in several.models.list()] == [sum(part.stat().st_size for part in parts)]


@pytest.mark.parametrize("number", [2, 3])
def test_another_part_is_refused_with_the_name_of_the_first(parts: list[Path], number: int) -> None:
    with client_of(parts[number - 1]) as client, pytest.raises(ModelLoadError) as told:
        asked(client)
    assert f"it is part {number} of 3: name the first part, {NAMES[0]}" in str(told.value)
    assert told.value.path == str(parts[number - 1])


def broken(parts: list[Path], number: int, how: str) -> None:
    part = parts[number - 1]
    content = part.read_bytes()
    part.unlink()
    match how:
        case "empty":
            part.write_bytes(b"")
        case "cut":
            part.write_bytes(content[: len(content) // 2])
        case "no GGUF":
            part.write_bytes(b"%PDF" + bytes(100))
        case "the first part again":
            part.symlink_to(parts[0])
        case "a model of its own":
            small_part(part)
        case "of another number":
            small_part(part, no=number - 1, count=4, tensors_count=3)
        case "a folder":
            part.mkdir()


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("missing", "there is no such file"),
        ("empty", "the file is empty"),
        ("cut", "it is truncated"),
        ("no GGUF", "it is not a GGUF file"),
        ("the first part again", "it is not"),
        ("a model of its own", "it is not"),
        ("of another number", "it is not"),
        ("a folder", "it is a folder"),
    ],
)
def test_a_part_that_is_not_there_or_not_right_is_named(parts: list[Path], how: str, why: str, number: int) -> None:
    broken(parts, number, how)
    with client_of(parts[0]) as client, pytest.raises(ModelLoadError) as told:
        asked(client)
    assert f"cannot load {parts[number - 1]}: {why}" in str(told.value)
    assert f"part {number} of 3 of {NAMES[0]}" in str(told.value)
    assert told.value.path == str(parts[number - 1])


@pytest.mark.parametrize("name", ["renamed.gguf", "Tiny-Model-00001-of-00004.gguf", "Tiny-Model-00002-of-00003.gguf"])
def test_a_first_part_of_another_name_is_told_what_its_name_must_be(
    parts: list[Path], tmp_path: Path, name: str
) -> None:
    renamed = tmp_path / name
    renamed.hardlink_to(parts[0].resolve())
    with client_of(renamed) as client, pytest.raises(ModelLoadError) as told:
        asked(client)
    assert "it is part 1 of 3, and its name must end in -00001-of-00003.gguf" in str(told.value)


@pytest.mark.parametrize(
    "values",
    [
        {"count": 65535, "no": 0}, {"count": 65535, "no": 65534}, {"count": 1 << 40, "no": 1 << 40}, {"count": -3},
        {"count": "three", "no": "one"}, {"count": 2.5, "no": 0.5}, {"count": True, "no": True}, {"no": 7}, {},
        {"count": 3, "no": 2},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", [NAMES[0], "alone.gguf", "x-00000-of-00000.gguf", "x-99999-of-99999.gguf", *NO_PARTS])
def test_odd_values_and_names_break_nothing(
    store: ModelStore, tmp_path: Path, values: dict[str, Any], name: str
) -> None:
    path = small_part(tmp_path / name, **values)
    try:
        stored = pull(str(path), store, progress=lambda *_: None)
    except ModelLoadError as error:
        assert str(path) in str(error)
    else:
        assert (stored.path, stored.bytes, stored.sha256) == (path, path.stat().st_size, sha256_of(path.read_bytes()))


def test_a_pulled_model_is_all_of_its_parts(store: ModelStore, parts: list[Path]) -> None:
    stored = pull(str(parts[0]), store, progress=lambda *_: None)
    content = b"".join(part.read_bytes() for part in parts)
    assert (stored.name, stored.bytes, stored.sha256) == (
        "tiny-model",
        len(content),
        sha256_of(content),
    )
    with LlamaClient({"providers": {"gguf": {"n_ctx": 512, "n_threads": 1}}}) as client:
        assert asked(client, model="gguf/tiny-model").text
        (listed,) = client.models.list()
    assert (listed.target, listed.size_bytes) == ("gguf/tiny-model", len(content))


@pytest.mark.parametrize("links", [["sym.gguf"], ["one.gguf", "far/two.gguf"], ["far/part-00001-of-00001.gguf"]])
def test_a_link_of_another_name_is_all_of_the_parts_too(
    store: ModelStore, parts: list[Path], tmp_path: Path, links: list[str]
) -> None:
    # The parts are links as well, to files elsewhere, as the cache of the hub has them.
    path = parts[0]
    for link in links:
        there = tmp_path / link
        there.parent.mkdir(exist_ok=True)
        there.symlink_to(os.path.relpath(path, there.parent))
        path = there
    content = b"".join(part.read_bytes() for part in parts)
    stored = pull(str(path), store, progress=lambda *_: None)
    assert (stored.path, stored.bytes, stored.sha256) == (parts[0], len(content), sha256_of(content))
    with client_of(path) as client:
        assert asked(client).text
        sizes = {model.target: model.size_bytes for model in client.models.list()}
    assert sizes["gguf/default"] == len(content)


def test_links_in_a_circle_have_no_size(tmp_path: Path) -> None:
    for name, other in (("one.gguf", "two.gguf"), ("two.gguf", "one.gguf")):
        (tmp_path / name).symlink_to(other)
    with client_of(tmp_path / "one.gguf") as client:
        assert [model.size_bytes for model in client.models.list()] == [None]
        with pytest.raises(ModelLoadError):
            asked(client)


def test_progress_counts_all_parts(store: ModelStore, parts: list[Path]) -> None:
    seen: list[tuple[str, int, int | None]] = []
    stored = pull(str(parts[0]), store, progress=lambda *step: seen.append(step))
    assert {total for _, _, total in seen} == {stored.bytes}
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1] == ("checking", stored.bytes, stored.bytes)


@pytest.mark.parametrize(("number", "why"), [(2, "name the first part"), (1, "there is no such file (part 3 of 3")])
def test_what_is_not_whole_is_not_recorded(store: ModelStore, parts: list[Path], number: int, why: str) -> None:
    parts[2].unlink()
    with pytest.raises(ModelLoadError) as told:
        pull(str(parts[number - 1]), store, progress=lambda *_: None)
    assert why in str(told.value)
    assert store.all() == []


def test_the_hub_gives_all_parts(hub: Hub, store: ModelStore, parts: list[Path]) -> None:
    contents = [part.read_bytes() for part in parts]
    for name, content in zip(NAMES, contents, strict=True):
        hub.add(f"org/repo/q4/{name}", content)
    pulled = pull_in_process(f"hf:org/repo/q4/{NAMES[0]}")
    whole = b"".join(contents)
    assert {key: pulled.values[key] for key in ("name", "bytes", "sha256")} == {
        "name": "tiny-model", "bytes": len(whole), "sha256": sha256_of(whole)
    }  # fmt: skip
    assert Path(pulled.values["path"]).name == NAMES[0]
    with LlamaClient({"providers": {"gguf": {"n_ctx": 512, "n_threads": 1}}}) as client:
        assert asked(client, model="gguf/tiny-model").text


@pytest.mark.parametrize(
    ("how", "source", "error", "why"),
    [
        ("another", NAMES[1], "InvalidRequestError", f"is one part of 3: pull the first, hf:org/repo/{NAMES[0]}"),
        ("missing", NAMES[0], "ModelNotFoundError", "org/repo"),
        ("damaged", NAMES[0], "ModelLoadError", f"the downloaded {NAMES[2]} is damaged"),
    ],
)
def test_a_part_that_the_hub_does_not_give_is_told(
    hub: Hub, store: ModelStore, tmp_path: Path, how: str, source: str, error: str, why: str
) -> None:
    for number, name in enumerate(NAMES):
        if how != "missing" or number != 1:
            path = small_part(tmp_path / name, no=number, count=3, tensors_count=3)
            hub.add(f"org/repo/{name}", path.read_bytes())
    if how == "damaged":
        hub.state_tag(f"org/repo/{NAMES[2]}", "0" * 64)
    kind, message = pull_in_process(f"hf:org/repo/{source}").error
    assert (kind, why in message) == (error, True), json.dumps(message)
    assert store.all() == []
