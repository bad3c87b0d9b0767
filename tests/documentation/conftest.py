"""Where blocks run: an empty folder and home, the demo model pulled, the ledger on, a stand-in for the clouds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llama_client.providers.gguf import prompt, provider
from llama_client.providers.gguf.codec import bodies
from llama_client.providers.gguf.engine import EngineOptions
from llama_client.providers.gguf.engine_registry import EngineLease, lease
from llama_client.providers.gguf.store import ModelStore
from llama_client.types.request import ChatRequest
from tests.documentation.models import stand_in_for
from tests.documentation.pages import ROOT

# So many loaded models stay for the next block; each takes some 300 MB.
_KEPT_ENGINES = 3
# Where a page lets a model talk as long as it likes, it has said enough by then.
_LONGEST_ANSWER_TOKENS = 24
NOTES = "The llamas were shorn on Monday. Two of them did not like it. Order hay before the end of the month.\n"


@pytest.fixture(scope="session")
def standin() -> Iterator[str]:
    """The address of what plays the clouds: the stand-in of the examples."""
    spec = importlib.util.spec_from_file_location("standin", ROOT / "examples" / "standin" / "server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serve() as url:
        yield url


@pytest.fixture(scope="package")
def engines() -> Iterator[None]:
    """What a block has loaded stays loaded for the next one, computes in one thread, and ends its answers some time.

    One thread: llama.cpp's threads wait for each other by spinning, which on a busy machine takes minutes. It ends
    with the last test of these, as others count loaded engines.
    """
    kept: dict[EngineOptions, EngineLease] = {}

    def keeping(options: EngineOptions) -> EngineLease:
        # Models of one file under the names of many pages are one.
        options = replace(options, n_threads=1, model_path=options.model_path.resolve())
        if options not in kept:
            kept[options] = lease(options)
            for oldest in list(kept)[:-_KEPT_ENGINES]:
                kept.pop(oldest).release()
        return lease(options)

    def bounded(request: ChatRequest, n_parallel: int) -> Iterator[tuple[dict[str, Any], int]]:
        for body, slots in bodies(request, n_parallel):
            yield {"max_tokens": _LONGEST_ANSWER_TOKENS, **body}, slots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provider, "lease", keeping)
        patch.setattr(prompt, "bodies", bounded)
        yield
    for one in kept.values():
        one.release()


@pytest.fixture
def reader(
    clean_home: Path,
    demo_pulled: ModelStore,
    demo_model: Path,
    standin: str,
    engines: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Somebody who has the demo model and a key for Groq, and types what a page says; returns their folder.

    In it is nothing but `notes.txt`, a text to ask about.
    """
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    monkeypatch.setenv("GROQ_BASE_URL", standin)
    monkeypatch.setenv("GROQ_API_KEY", "gsk_the-key-of-the-reader")
    # The model that the pages call their own.
    models = clean_home / "models"
    models.mkdir()
    stand_in_for(models / "Llama-3.2-3B-Instruct-Q4_K_M.gguf", demo_model)
    folder = clean_home / "work"
    (folder / "notes.txt").write_text(NOTES, encoding="utf-8")
    return folder


@pytest.fixture
def migrant(reader: Path, standin: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader who still has the official packages, which reach the stand-in as well."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{standin}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-key-of-the-reader")
    monkeypatch.setenv("OLLAMA_HOST", standin)
    return reader
