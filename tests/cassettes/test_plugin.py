"""The fixture `cassette`: a file of its own for each test, which is replayed unless an option says otherwise."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from llama_client.testing.cassettes.names import file_of_test
from llama_client.testing.loopback import WireServer
from tests.nested import pytest_command
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
    command = pytest_command("--rootdir", ".", "--import-mode", "importlib", *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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
    recorded = tests.read_text("utf-8")
    changed = recorded.replace("ask(text", "ask('Hum? ' + text")
    # However the test asks for its cassette.
    late = changed.replace(
        "test_it(cassette, text):", "test_it(request, text):\n    cassette = request.getfixturevalue('cassette')"
    )
    # At once, since a start of pytest takes a second.
    for folder, text in {"again": recorded, "changed": changed, "late": late}.items():
        shutil.copytree("cassettes", Path(folder, "cassettes"))
        Path(folder, "test_app.py").write_text(text, "utf-8")
    replayed = _pytest("-rA", "again", "changed", "late")
    # One fault, reported once.
    assert "4 failed, 2 passed in" in replayed.stdout, replayed.stdout
    told = Counter(re.findall(r"^([A-Z]+ \w+)[/\\]test_app\.py::", replayed.stdout, re.MULTILINE))
    assert told == {"PASSED again": 2, "FAILED changed": 2, "FAILED late": 2}, replayed.stdout
    assert "UnrecordedRequestError" in replayed.stdout


def test_each_test_has_a_file_by_a_name_that_every_system_takes() -> None:
    names = {file_of_test(Path("t.py"), f"t.py::{name}").name for name in ("Case::test_a[x/y]", "Case::test_a[x:y]")}
    assert len(names) == 2
    assert all(name.startswith("Case.test_a-x-y") for name in names)
    assert len(file_of_test(Path("t.py"), "t.py::" + "x" * 500).name) < 130
