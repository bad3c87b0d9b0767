"""The plugin of pytest: its fixtures in a project of a user's own, and nothing where they are not used."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.nested import pytest_command

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
FILES = {"test_good.py": GOOD, "test_other.py": OTHER, "test_unscripted.py": UNSCRIPTED, "test_dynamic.py": DYNAMIC}


@cache
def ran() -> str:
    """The output of pytest for all files at once, with a line for each test: a start takes a second."""
    for name, tests in FILES.items():
        Path(name).write_text(tests, encoding="utf-8")
    command = pytest_command("-rA", *FILES)
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, encoding="utf-8")
    out = done.stdout + done.stderr
    assert done.returncode == 1, out
    assert re.search(r"^3 failed, 4 passed, 1 error in", out, re.MULTILINE), out
    return out


def told(out: str, file: str) -> list[str]:
    """What the lines for each test say of one file."""
    return re.findall(rf"^([A-Z]+ {re.escape(file)}::\w+)", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "test"),
    [("test_good.py", "test_answers"), ("test_other.py", "test_is_mine")],
    ids=["used", "another fixture of that name"],
)
def test_a_test_passes(file: str, test: str) -> None:
    out = ran()
    assert told(out, file) == [f"PASSED {file}::{test}"], out


def test_a_request_without_a_reply_fails_the_test_and_says_which() -> None:
    out = ran()
    file = "test_unscripted.py"
    assert told(out, file) == [f"FAILED {file}::test_caught", f"FAILED {file}::test_compared"], out
    parts = re.split(r"^_{3,} (.+) _{3,}$", out, flags=re.MULTILINE)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    error = "UnscriptedRequestError: no reply is scripted for request 1 to groq/openai/gpt-oss-20b: 'Why do llamas"
    assert error in said["test_caught"]
    assert "FakeProvider: no reply is scripted" in said["test_compared"]


def test_a_request_without_a_reply_is_seen_whoever_asked_and_when() -> None:
    out = ran()
    file = "test_dynamic.py"
    assert sorted(told(out, file)) == [
        f"ERROR {file}::test_asks_when_it_ends",
        f"FAILED {file}::test_asked_for_by_name",
        f"PASSED {file}::test_asks_when_it_ends",
        f"PASSED {file}::test_expects_it",
    ], out
