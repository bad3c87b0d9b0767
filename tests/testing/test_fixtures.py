"""The fixtures of the plugin, in a project that has nothing but them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import llama_client
from tests.nested import pytest_command

TESTS = """
import socket
import sys

def test_without_a_fixture_nothing_is_imported():
    assert "llama_client.testing.clock" not in sys.modules

def test_time(llama_clock):
    from llama_client import LlamaClient
    with LlamaClient({"ledger": {"enabled": False}}) as client:
        assert client._context.clock is llama_clock.clock

def test_after_it_time_is_real():
    from llama_client import LlamaClient
    from llama_client.testing import FakeClock
    with LlamaClient({"ledger": {"enabled": False}}) as client:
        assert not isinstance(getattr(client._context.clock.monotonic, "__self__", None), FakeClock)

def test_network(no_network):
    try:
        socket.create_connection(("192.0.2.1", 443), timeout=1)
    except OSError:
        pass
"""


def test_the_fixtures_do_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    root = str(Path(llama_client.__file__).parents[1])
    ran = subprocess.run(
        pytest_command("test_it.py"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=120,
        check=False,
    )
    # The error is told where the fixture ends, since the program swallowed it.
    assert "4 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert "connect to 192.0.2.1:443" in ran.stdout
    assert "in test_network" in ran.stdout
