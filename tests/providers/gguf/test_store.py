"""The folder of pulled models: names, records, and who else writes at the same time."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llama_client import InvalidRequestError
from llama_client.providers.gguf.store import ModelStore, checked_name, name_from


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF, as far as a store can tell")
    return path


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the next records."""
    times = [1000.0]
    monkeypatch.setattr("llama_client.providers.gguf.store.time.time", lambda: times[0])
    return times


def add(store: ModelStore, name: str, path: Path) -> None:
    store.add(name, path, sha256="0" * 64, source="a test")


def test_a_record_is_found_as_it_was_written(store: ModelStore, model_file: Path, at: list[float]) -> None:
    written = store.add("some-model", model_file, sha256="ab" * 32, source="hf:org/repo/some.gguf")
    found = ModelStore(store.folder).find("some-model")
    assert found == written
    assert (written.name, written.path, written.sha256) == ("some-model", model_file, "ab" * 32)
    assert (written.source, written.bytes, written.pulled_at) == ("hf:org/repo/some.gguf", 32, 1000.0)


def test_a_store_that_does_not_exist_yet_is_empty(store: ModelStore) -> None:
    assert (store.find("some-model"), store.all(), store.names(), store.preferred()) == (None, [], [], None)
    assert not store.folder.exists()


def test_a_record_leaves_no_draft(store: ModelStore, model_file: Path) -> None:
    add(store, "some-model", model_file)
    assert [path.name for path in store.folder.iterdir()] == ["some-model.json"]


def test_a_record_that_cannot_be_finished_leaves_the_earlier_one_and_no_draft(
    store: ModelStore, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "some-model", model_file)
    earlier = store.find("some-model")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="No space"):
        add(store, "some-model", model_file)
    assert store.find("some-model") == earlier
    assert [path.name for path in store.folder.iterdir()] == ["some-model.json"]


def test_a_later_record_takes_the_place_of_an_earlier_one(
    store: ModelStore, model_file: Path, tmp_path: Path, at: list[float]
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF")
    add(store, "some-model", model_file)
    add(store, "some-model", other)
    assert [model.path for model in store.all()] == [other]


def test_models_are_listed_newest_first(store: ModelStore, model_file: Path, at: list[float]) -> None:
    for time, name in ((3.0, "third"), (1.0, "first"), (2.0, "second")):
        at[0] = time
        add(store, name, model_file)
    assert store.names() == ["third", "second", "first"]


def test_the_newest_model_is_preferred(store: ModelStore, model_file: Path, at: list[float]) -> None:
    for time, name in ((2.0, "newer"), (1.0, "older")):
        at[0] = time
        add(store, name, model_file)
    preferred = store.preferred()
    assert preferred is not None
    assert preferred.name == "newer"


def test_any_real_model_is_preferred_to_a_newer_demo(store: ModelStore, model_file: Path, at: list[float]) -> None:
    add(store, "real", model_file)
    at[0] += 1
    add(store, "smollm2-135m", model_file)
    preferred = store.preferred()
    assert preferred is not None
    assert preferred.name == "real"


def test_the_demo_is_preferred_to_nothing(store: ModelStore, model_file: Path) -> None:
    add(store, "smollm2-135m", model_file)
    preferred = store.preferred()
    assert preferred is not None
    assert preferred.name == "smollm2-135m"


def test_a_record_whose_file_has_vanished_counts_for_nothing(store: ModelStore, model_file: Path) -> None:
    add(store, "some-model", model_file)
    model_file.unlink()
    assert (store.find("some-model"), store.names(), store.preferred()) == (None, [], None)


def test_a_record_whose_file_became_a_folder_counts_for_nothing(store: ModelStore, model_file: Path) -> None:
    add(store, "some-model", model_file)
    model_file.unlink()
    model_file.mkdir()
    assert store.find("some-model") is None


WHOLE = {"name": "bad", "sha256": "0" * 64, "bytes": 1, "source": "a test", "pulled_at": 1.0}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"name": "bad", "pa', id="cut"),
        pytest.param(b"\xff\xfe\x00", id="bytes"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"bad"', id="a text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(json.dumps({**WHOLE, "path": 5}).encode(), id="a path that is a number"),
        pytest.param(json.dumps({**WHOLE, "path": "\0"}).encode(), id="a path that no file can have"),
        pytest.param(json.dumps({**WHOLE, "path": "x.gguf", "colour": "red"}).encode(), id="a key of no meaning"),
        pytest.param(json.dumps({"name": "bad", "path": "x.gguf"}).encode(), id="keys missing"),
    ],
)
def test_a_garbage_record_is_passed_over(store: ModelStore, model_file: Path, content: bytes) -> None:
    add(store, "good", model_file)
    (store.folder / "bad.json").write_bytes(content)
    assert store.find("bad") is None
    assert store.names() == ["good"]


@pytest.mark.parametrize(
    ("key", "value"), [("pulled_at", None), ("pulled_at", "yesterday"), ("bytes", "many"), ("sha256", 5)]
)
def test_a_record_with_a_value_of_the_wrong_kind_is_passed_over(
    store: ModelStore, model_file: Path, key: str, value: object
) -> None:
    add(store, "good", model_file)
    record = json.dumps({**WHOLE, "path": str(model_file), key: value})
    (store.folder / "bad.json").write_text(record, encoding="utf-8")
    assert store.find("bad") is None
    assert store.names() == ["good"]


def test_a_folder_in_the_place_of_a_record_is_passed_over(store: ModelStore, model_file: Path) -> None:
    add(store, "good", model_file)
    (store.folder / "bad.json").mkdir()
    assert store.names() == ["good"]


@pytest.mark.parametrize("name", ["llama-3.2-3b", "a", "0", "qwen2.5_coder", "con-artist", "com", "x" * 128])
def test_a_name_of_small_letters_digits_and_marks_may_be_given(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:x", "x\0", "x\n", ".hidden", "-m"),
        *("", " ", "Llama", "lläma", "x" * 129),
        *("con", "prn", "aux", "nul", "com1", "lpt9", "nul.gguf", "aux.a.b"),
    ],
)
def test_a_name_that_could_be_more_than_a_name_is_refused(store: ModelStore, model_file: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="name: must be") as caught:
        add(store, name, model_file)
    assert caught.value.param == "name"
    assert not store.folder.exists()


@pytest.mark.parametrize("name", ["../outside", "..\\outside", "/outside", "a/../../outside"])
def test_a_name_cannot_find_a_record_outside_the_store(store: ModelStore, model_file: Path, name: str) -> None:
    add(ModelStore(store.folder.parent), "outside", model_file)
    add(store, "inside", model_file)
    assert store.find(name) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Llama-3.2-3B-Instruct-Q4_K_M.gguf", "llama-3.2-3b-instruct-q4_k_m"),
        ("Mixtral.GGUF", "mixtral"),
        ("llama3.2:3b", "llama3.2-3b"),
        ("org/model:tag", "org-model-tag"),
        ("../../etc/passwd", "etc-passwd"),
        ("ein schönes Modell.gguf", "ein-sch-nes-modell"),
        ("CON.gguf", "model-con"),
        ("nul.x.gguf", "model-nul.x"),
        ("模型.gguf", "model"),
        (".gguf", "model"),
    ],
)
def test_a_name_is_made_from_a_file_s_own(text: str, name: str) -> None:
    assert name_from(text) == name


def test_a_name_made_from_a_long_one_may_be_given() -> None:
    assert checked_name(name_from("x" * 500)) == "x" * 128


def test_who_reads_while_two_write_the_same_name_always_finds_a_whole_record(store: ModelStore, tmp_path: Path) -> None:
    files = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for file in files:
        file.write_bytes(b"GGUF")
    add(store, "some-model", files[0])
    done = threading.Event()

    def write(file: Path) -> None:
        for _ in range(200):
            add(store, "some-model", file)

    def read() -> set[Path | None]:
        seen: set[Path | None] = set()
        while not done.is_set():
            found = store.find("some-model")
            seen.add(found.path if found is not None else None)
        return seen

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, file) for file in files]
        for writer in writers:
            writer.result(60)
        done.set()
        assert reader.result(60) <= set(files)
    assert [path.name for path in store.folder.iterdir()] == ["some-model.json"]


def test_the_user_s_store_is_where_the_variable_says(tmp_path: Path) -> None:
    assert ModelStore.of_user({"LLAMA_CLIENT_CACHE_DIR": str(tmp_path)}).folder == tmp_path / "models"


def test_the_variable_may_begin_with_the_home(clean_home: Path) -> None:
    assert ModelStore.of_user({"LLAMA_CLIENT_CACHE_DIR": "~/cache"}).folder == clean_home / "cache" / "models"


def test_without_the_variable_the_store_is_in_the_user_s_cache_folder(clean_home: Path) -> None:
    folder = ModelStore.of_user({}).folder
    assert folder.name == "models"
    assert clean_home in folder.parents
