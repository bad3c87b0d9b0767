"""Every example runs as it stands, and prints what it says it prints."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def expected_output(example: Path) -> list[str]:
    """The indented block below "Expected output:" at the top of an example, up to its dots."""
    _, _, block = (ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or "").partition(
        "Expected output:"
    )
    lines = [line.strip() for line in block.strip().splitlines() if line.strip()]
    return [line for line in lines if not line.startswith("...")]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(
    example: Path, demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    # Threads that wait for each other by turning in circles are slow where other processes want the cores too.
    monkeypatch.setenv("LLAMA_CLIENT_PROVIDERS__GGUF__N_THREADS", "1")
    run = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    expected = expected_output(example)
    assert expected
    assert run.stdout.splitlines()[: len(expected)] == expected
