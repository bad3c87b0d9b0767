"""The fixture `cassette`: a file of its own for each test, which is replayed unless an option says otherwise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from llama_client.testing.cassettes.names import file_of_test
from llama_client.testing.loopback import WireServer
from tests.routing.asking import good

TEST = """
import pytest
from llama_client import LlamaClient

@pytest.mark.parametrize("text", ["a", "b/ü"])
def test_it(cassette, text):
    there = {"providers": {"x": {"kind": "openai", "base_url": URL}}, "ledger": {"enabled": False}}
    with LlamaClient(there) as client:
        assert client.ask(text, model="x/m").text == "Hello"
    cassette.assert_all_used()
"""


def _pytest(*options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)


def test_the_fixture_replays_and_records_where_it_is_told(tmp_path: Path) -> None:
    tests = Path("test_app.py")
    with WireServer(good()) as server:
        tests.write_text(TEST.replace("URL", repr(f"{server.url}/v1")), "utf-8")
        missing = _pytest()
        assert missing.returncode == 1
        assert "does not exist" in missing.stdout
        assert "once" in missing.stdout
        assert not server.requests
        assert _pytest("--llama-cassettes=once").returncode == 0
        assert len(server.requests) == 2
    assert len(list(Path("cassettes/test_app").glob("test_it-*.json"))) == 2
    again = _pytest()
    assert again.returncode == 0, again.stdout
    tests.write_text(TEST.replace("URL", repr(f"{server.url}/v1")).replace("ask(text", "ask('Hum? ' + text"), "utf-8")
    changed = _pytest()
    # One fault, reported once.
    assert "2 failed in" in changed.stdout, changed.stdout
    assert "UnrecordedRequestError" in changed.stdout
    # However the test asks for its cassette.
    late = tests.read_text("utf-8").replace(
        "test_it(cassette, text):", "test_it(request, text):\n    cassette = request.getfixturevalue('cassette')"
    )
    tests.write_text(late, "utf-8")
    assert "2 failed in" in _pytest().stdout


def test_each_test_has_a_file_by_a_name_that_every_system_takes() -> None:
    names = {file_of_test(Path("t.py"), f"t.py::{name}").name for name in ("Case::test_a[x/y]", "Case::test_a[x:y]")}
    assert len(names) == 2
    assert all(name.startswith("Case.test_a-x-y") for name in names)
    assert len(file_of_test(Path("t.py"), "t.py::" + "x" * 500).name) < 130
