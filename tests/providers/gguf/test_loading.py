"""Files that are no model, adapters, and what an error says about them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client import LlamaClient, LlamaClientError, MissingExtraError, ModelLoadError
from llama_client.providers.gguf.engine import reason_in_log
from llama_client.providers.gguf.header import read_header
from tests.providers.gguf.conftest import written
from tests.providers.gguf.test_adapters import write_adapter as write_adapter_of_one_layer

STORY: Any = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "temperature": 0, "max_tokens": 8}
# The demo model's shape.
LAYERS, WIDTH, RANK = 30, 576, 8


def ask(**options: Any) -> str:
    with LlamaClient.for_provider("gguf", n_ctx=512, n_threads=1, **options) as client:
        return str(client.chat.completions.create(**STORY).text)


def write_adapter(path: Path, architecture: str = "llama", width: int = WIDTH) -> Path:
    """A LoRA adapter that changes every attention layer at random."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(str(path), architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for layer in range(LAYERS):
        for half, shape in (("lora_a", (RANK, width)), ("lora_b", (width, RANK))):
            values = 0.2 * random.normal(size=shape).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.{half}", values)
    return written(writer, path)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "adapter.gguf")


def test_an_adapter_changes_the_answers_by_its_scale(tiny_model: Path, tmp_path: Path) -> None:
    adapter = write_adapter_of_one_layer(tmp_path / "adapter.gguf", 1)
    plain = ask(model_path=tiny_model)
    assert ask(model_path=tiny_model, lora=[{"path": adapter, "scale": 0.0}]) == plain
    changed = ask(model_path=tiny_model, lora=[{"path": adapter}])
    assert changed != plain
    assert ask(model_path=tiny_model, lora=[{"path": adapter, "scale": 3.0}]) not in (plain, changed)


def damaged(demo: Path, how: str) -> bytes:
    data = demo.read_bytes()
    match how:
        case "empty":
            return b""
        case "no GGUF":
            return b"%PDF-1.7 " + bytes(4000)
        case "cut in its head":
            return data[:3000]
        case "cut in its tensors":
            return data[:50_000_000]
        case "short by a few bytes":
            return data[:-100]
        case "damaged metadata":
            return data[:200] + b"\xff" * 60 + data[260:]
        case "an unknown version":
            return data[:4] + b"\x09\x00\x00\x00" + data[8:]
        case "an unknown architecture":
            return data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0zlama", 1)
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("empty", "the file is empty"),
        ("no GGUF", "not a GGUF file"),
        ("cut in its head", "truncated: its header does not fit into its 3000 bytes"),
        ("cut in its tensors", "truncated: it has 50000000 bytes"),
        ("short by a few bytes", "not within the file bounds"),
        ("damaged metadata", "damaged"),
        ("an unknown version", "GGUF version is 9"),
        ("an unknown architecture", "unknown model architecture: 'zlama'"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_the_reason(
    demo_model: Path, tmp_path: Path, how: str, why: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damaged(demo_model, how))
    with pytest.raises(ModelLoadError, match=why) as caught:
        ask(model_path=path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert (caught.value.retryable, caught.value.failover, caught.value.target) == (False, True, "gguf/default")
    assert [(attempt.outcome, attempt.sent) for attempt in caught.value.attempts] == [("error", False)]


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="there is no such file"):
        ask(model_path=tmp_path / "nothing.gguf")
    with pytest.raises(ModelLoadError, match=r"folder|cannot be read"):
        ask(model_path=tmp_path)


def test_an_adapter_that_is_none_is_refused(demo_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="as a LoRA adapter: it is not one"):
        ask(model_path=demo_model, lora=[{"path": demo_model}])
    with pytest.raises(ModelLoadError, match=r"nothing\.gguf: there is no such file"):
        ask(model_path=demo_model, lora=[{"path": tmp_path / "nothing.gguf"}])


def test_an_adapter_is_refused_as_a_model(adapter: Path) -> None:
    with pytest.raises(ModelLoadError, match="it is a LoRA adapter, not a model"):
        ask(model_path=adapter)


def test_an_adapter_of_another_model_is_refused_with_llama_cpps_reason(demo_model: Path, tmp_path: Path) -> None:
    other = write_adapter(tmp_path / "other.gguf", width=64)
    with pytest.raises(ModelLoadError, match=r"cannot load .*demo|cannot load .*smollm2.*: .*(shape|dim)"):
        ask(model_path=demo_model, lora=[{"path": other}])


def test_after_a_failed_load_the_same_provider_can_load_again(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with LlamaClient.for_provider("gguf", model_path=path, n_ctx=512, n_threads=1) as client:
        with pytest.raises(ModelLoadError):
            client.chat.completions.create(**STORY)
        path.symlink_to(tiny_model)
        assert client.chat.completions.create(**STORY).text


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, demo_model: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r'pip install "llama-client\[gguf\]"') as caught:
        ask(model_path=demo_model, n_parallel=3)
    assert caught.value.extra == "gguf"


@pytest.mark.parametrize(
    ("set_before", "seen"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["nothing", "the count", "the policy"],
)  # fmt: skip
def test_threads_wait_for_each_other_shortly_unless_the_user_has_said_how(
    set_before: dict[str, str], seen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, demo_model: Path
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_before.items():
        monkeypatch.setenv(name, value)
    library = 'import os\nfrom pathlib import Path\nPath("seen").write_text(str(os.environ.get("GOMP_SPINCOUNT")))\n'
    (tmp_path / "xllamacpp.py").write_text(f"{library}raise ImportError", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    with pytest.raises(MissingExtraError):
        ask(model_path=demo_model)
    assert Path("seen").read_text(encoding="utf-8") == seen
    assert os.environ.get("GOMP_SPINCOUNT") == set_before.get("GOMP_SPINCOUNT")


def test_the_default_context_is_the_models_own_up_to_a_bound(tiny_model: Path) -> None:
    with LlamaClient.for_provider("gguf", model_path=tiny_model) as client:
        with pytest.raises(LlamaClientError, match="the context holds 8192"):
            client.ask("word " * 9000)


def test_each_slot_holds_the_whole_context(tiny_model: Path) -> None:
    with LlamaClient.for_provider("gguf", model_path=tiny_model, n_ctx=256, n_parallel=2, n_threads=1) as client:
        reply = client.ask("word " * 200, max_tokens=1)
    assert reply.usage.prompt_tokens is not None
    assert reply.usage.prompt_tokens > 200


@pytest.fixture(scope="module")
def head(adapter: Path) -> bytes:
    """A whole small GGUF file's first bytes: metadata and tensor descriptions."""
    return adapter.read_bytes()[:8000]


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 7999), change=st.binary(min_size=1, max_size=16), length=st.integers(0, 8000))
def test_no_damage_to_a_file_makes_reading_it_fail_in_any_other_way(
    head: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, change: bytes, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes((head[:place] + change + head[place + len(change) :])[:length])
    try:
        read_header(path)
    except ModelLoadError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "0.00.1 E llama_model_load: error loading model: unknown model architecture: 'z'\n",
            "unknown model architecture: 'z'",
        ),
        ("0.00.2 W something: odd\n0.00.3 E llama_adapter_lora_init: failed to open 'x'\n", "failed to open 'x'"),
        ("0.00.4 E srv    load_model: failed to load model, 'x'\n", "failed to load model, 'x'"),
        ("nothing of the kind\n", None),
        ("", None),
    ],
)
def test_the_first_error_of_llama_cpps_log_is_the_reason(log: str, reason: str | None) -> None:
    assert reason_in_log(log) == reason
