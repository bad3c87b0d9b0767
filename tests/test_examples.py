"""Every example runs as it stands, after what it says that it needs, and prints what it says it prints."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import platformdirs
import pytest

from llama_client.providers.gguf.store import ModelStore
from tests.cli.forks import forks
from tests.lengths import values

TIMEOUT_S = 120
FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(each for each in FOLDER.glob("*.py") if not each.stem.startswith("test_"))
TESTED = sorted(FOLDER.glob("test_*.py"))
each = pytest.mark.parametrize(
    "example",
    values(EXAMPLES, long=[FOLDER / "lora_adapter.py"]),
    ids=lambda path: path.stem,
)


def top_of(example: Path) -> str:
    """The text at the top of an example."""
    return ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""


def needs_model(example: Path) -> bool:
    """Whether it says that the demo model has to be pulled before."""
    top = " ".join(top_of(example).split())
    return "un it after" in top and "`llama-client pull smollm2-135m`" in top


def installed_for(example: Path) -> set[str]:
    """The packages that it says to install."""
    return {name for line in re.findall(r"`pip install ([^`]+)`", top_of(example)) for name in line.split()}


def expected_output(example: Path) -> list[str]:
    """The indented block below "Expected output:" at the top of an example, up to its dots."""
    _, _, block = top_of(example).partition("Expected output:")
    lines = [line.strip() for line in block.strip().splitlines() if line.strip()]
    return [line for line in lines if not line.startswith("...")]


@pytest.fixture
def ready(example: Path, request: pytest.FixtureRequest, store: ModelStore) -> None:
    """The store of somebody who did what the top of the example says, and not more."""
    if needs_model(example):
        request.getfixturevalue("demo_pulled")


def ran(example: Path) -> tuple[int, str, str]:
    """Its exit code, stdout and stderr."""
    forking, environment = forks(), {**os.environ, "PYTHONUTF8": "1"}
    forked = None if forking is None else forking.run([], b"", environment, TIMEOUT_S, program=example)
    if forked is not None:
        return forked[0], forked[1].decode(), forked[2].decode()
    command = [sys.executable, str(example)]
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False, encoding="utf-8"
    )
    return done.returncode, done.stdout, done.stderr


@each
def test_an_example_prints_what_it_promises(example: Path, ready: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    source = example.read_text(encoding="utf-8")
    # The quick start tells what answers where nothing at all is configured.
    if example.stem != "quick_start":
        # Threads that wait for each other by turning in circles are slow where other processes want the cores too.
        provider = "LAPTOP" if '"laptop"' in source else "GGUF"
        monkeypatch.setenv(f"LLAMA_CLIENT_PROVIDERS__{provider}__N_THREADS", "1")
    code, out, err = ran(example)
    assert (code, err) == (0, "")
    expected = expected_output(example)
    assert expected
    assert out.splitlines()[: len(expected)] == expected
    ledger = platformdirs.user_data_path("llama-client", appauthor=False) / "ledger.db"
    if "import standin" in source:
        assert not ledger.exists(), "what is paid to a stand-in is in the reader's own ledger"
    if example.stem == "quick_start":
        assert ledger.exists()  # where the line above looks


@each
def test_an_example_says_which_packages_it_needs_beside_this_one(example: Path) -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]} | {"llama_client", "standin"}
    tree = ast.parse(example.read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {module.partition(".")[0] for module in modules}
    assert named - ours - sys.stdlib_module_names == installed_for(example)


@each
def test_the_index_of_examples_says_what_each_needs(example: Path) -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = next(line for line in index.splitlines() if f"]({example.name})" in line)
    needs = row.split("|")[3]
    assert ("the model" in needs, set(" ".join(re.findall(r"`pip install ([^`]+)`", needs)).split())) == (
        needs_model(example),
        installed_for(example),
    )


@pytest.mark.parametrize("tests", TESTED, ids=lambda path: path.stem)
def test_the_tests_of_an_example_pass_in_a_project_of_their_own(tests: Path, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "project", ignore=shutil.ignore_patterns("lora", "__pycache__"))
    command = [sys.executable, "-m", "pytest", "-q", tests.name]
    done = subprocess.run(
        command, cwd=tmp_path / "project", capture_output=True, timeout=TIMEOUT_S, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
