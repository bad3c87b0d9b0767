"""The plugin of pytest: its fixtures in a project of a user's own, and nothing where they are not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
from llama_client import LlamaClient, RateLimitError

def test_answers(llama, llama_clock):
    llama.fails(RateLimitError, retry_after_s=60).says("Hello")
    with LlamaClient(llama.config()) as client:
        assert client.ask("hi").text == "Hello"
    assert sum(llama_clock.slept) >= 60
"""
UNSCRIPTED = """
from llama_client import LlamaClient, LlamaClientError

def app(config):
    try:
        with LlamaClient(config) as client:
            return client.ask("Why do llamas hum?").text
    except LlamaClientError:
        return "sorry"

def test_caught(llama):
    app(llama.config())

def test_compared(llama):
    assert app(llama.config()) == "They do not know the words."
"""
OTHER = """
import pytest

@pytest.fixture
def llama():
    return "an animal"

def test_is_mine(llama):
    assert llama == "an animal"
"""


def ran(tests: str, folder: Path) -> tuple[int, str]:
    """The exit code and output of pytest for a file of tests."""
    (folder / "test_app.py").write_text(tests, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("tests", [GOOD, OTHER], ids=["used", "another fixture of that name"])
def test_a_test_passes(tests: str, tmp_path: Path) -> None:
    code, out = ran(tests, tmp_path)
    assert code == 0, out


def test_a_request_without_a_reply_fails_the_test_and_says_which(tmp_path: Path) -> None:
    code, out = ran(UNSCRIPTED, tmp_path)
    assert code == 1, out
    assert "2 failed" in out
    assert "error" not in out.splitlines()[-1]
    assert (
        "UnscriptedRequestError: no reply is scripted for request 1 to groq/openai/gpt-oss-20b: 'Why do llamas" in out
    )
    assert "FakeProvider: no reply is scripted" in out


DYNAMIC = """
import pytest
from llama_client import LlamaClient, LlamaClientError

CONFIG = {"default_model": "groq/openai/gpt-oss-20b", "ledger": {"enabled": False}}

def swallowed():
    try:
        with LlamaClient(CONFIG) as client:
            client.ask("hi")
    except LlamaClientError:
        pass

def test_asked_for_by_name(request):
    request.getfixturevalue("llama")
    swallowed()

@pytest.fixture
def farewell(llama):
    yield
    swallowed()

def test_asks_when_it_ends(farewell):
    pass

def test_expects_it(llama):
    swallowed()
    llama.faults.pop()
"""


def test_a_request_without_a_reply_is_seen_whoever_asked_and_when(tmp_path: Path) -> None:
    code, out = ran(DYNAMIC, tmp_path)
    assert code == 1, out
    assert "1 failed, 2 passed, 1 error" in out
    assert "FAILED test_app.py::test_asked_for_by_name" in out
    assert "ERROR test_app.py::test_asks_when_it_ends" in out
