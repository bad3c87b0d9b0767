"""The proof: a program that uses everything, beside providers elsewhere with keys, sends no packet under `local_only`.

It runs in a process of its own, watched from within (where Python connects to, and whose name it asks for) and, where
the system has network namespaces, from without: there every packet that would leave is counted, native code's and
lookups of names included. The same without `local_only` is seen to leave.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_client.providers.gguf.pull import pull
from llama_client.providers.gguf.store import ModelStore
from tests.privacy.program import FAR

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--map-root-user", "--net", "--mount"]
TIMEOUT_S = 280
EVERYTHING = ("use", "ause", "commands")


@pytest.fixture(scope="module")
def can_confine() -> bool:
    """Whether there are network namespaces, and this user may make one with a way out."""
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("ip")):
        return False
    tried = subprocess.run([*UNSHARE, sys.executable, "-m", "tests.privacy.confined"], cwd=ROOT, capture_output=True)
    return tried.returncode == 0


@pytest.fixture(scope="module")
def environ(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Nobody's environment, with the demo model pulled."""
    home = tmp_path_factory.mktemp("nobody")
    pull(str(demo_model), ModelStore(home / "cache" / "models"), progress=lambda *_: None, name="smollm2-135m")
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP") if name in os.environ}
    folders = dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"), str(home))
    return {**kept, **folders, "LLAMA_CLIENT_CACHE_DIR": str(home / "cache"), "PYTHONUTF8": "1"}


def ran(parts: tuple[str, ...], environ: Mapping[str, str], *, confined: bool) -> dict[str, Any]:
    """What the program said of these parts, and what was seen of it."""
    start = [*UNSHARE, sys.executable, "-m", "tests.privacy.confined"]
    if not confined:
        start, parts = [sys.executable, "-m", "tests.privacy.program"], (*parts, "blocked")
    done = subprocess.run(
        [*start, *parts],
        cwd=ROOT,
        env=dict(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    assert said.get("stderr", "") == ""
    return said


@pytest.fixture(scope="module")
def local(can_confine: bool, environ: dict[str, str]) -> dict[str, Any]:
    """Everything, under `local_only`."""
    return ran(EVERYTHING, {**environ, "LLAMA_CLIENT_LOCAL_ONLY": "true"}, confined=can_confine)


@pytest.fixture(scope="module")
def free(can_confine: bool, environ: dict[str, str]) -> dict[str, Any]:
    """A few questions to those who are elsewhere, without `local_only`."""
    return ran(("leave",), environ, confined=can_confine)


@pytest.mark.parametrize("colour", ["", "async "])
def test_all_that_is_here_answers(colour: str, local: dict[str, Any]) -> None:
    told = local["told"]
    assert "Tokyo" in str(told[f"{colour}chat"])
    assert "Tokyo" in told[f"{colour}stream"]
    assert told[f"{colour}parse"] == "Capital"
    assert told[f"{colour}ollama"] == "Hello"
    assert told[f"{colour}sdk"] == ["some/model"]
    assert told[f"{colour}models"] == ["gguf", "ollama", "vllm"]
    assert told[f"{colour}budgets"] == 1


def test_tools_images_estimates_the_ledger_and_commands_work(local: dict[str, Any]) -> None:
    told = local["told"]
    assert (told["tools"], told["image"], told["tokens"], told["estimate"]) == (
        "Hello",
        "Hello",
        True,
        "gguf/smollm2-135m",
    )
    assert told["async report"] > told["report"][0] > 5
    assert told["report"][1:] == ["0", 0]
    assert told["$ crossover llama-3.1-8b"] == [0, False]
    assert told["$ pull hf:o/r/m.gguf"] == [1, True]


def test_all_that_is_elsewhere_is_refused_by_its_rule(local: dict[str, Any]) -> None:
    rules = dict.fromkeys(FAR, "connection") | {"proxied": "proxy", "ollama": "cloud_model"}
    expected = {f"{colour}ask {name}": rule for colour in ("", "async ") for name, rule in rules.items()}
    expected |= {f"sdk {name}": "connection" for name in ("groq", "together", "cloud", "address")}
    assert local["told"]["refused"] == {**expected, "image": "remote_image", "ledger": "ledger"}


def test_a_route_says_of_each_target_that_it_was_skipped(local: dict[str, Any]) -> None:
    assert local["told"]["chat"][1] == ["skipped"] * len(FAR) + ["ok"]


def test_nobody_elsewhere_is_connected_to_or_asked_for_a_name(local: dict[str, Any]) -> None:
    assert local["outside"] == []


def test_no_packet_leaves(local: dict[str, Any]) -> None:
    if "packets" not in local:
        pytest.skip("needs Linux, the commands unshare and ip, and the right to make a network namespace")
    assert (local["packets"], local["sent"]) == ([], 0)


def test_without_local_only_the_same_is_seen_to_leave(free: dict[str, Any]) -> None:
    asked = {target for event, target in free["outside"] if event == "socket.getaddrinfo"}
    assert {"api.groq.com", "llm.example.com"} <= asked
    assert ["socket.connect", "('203.0.113.5', 80)"] in free["outside"] or "packets" not in free


def test_without_local_only_packets_are_seen_to_leave(free: dict[str, Any]) -> None:
    if "packets" not in free:
        pytest.skip("needs Linux, the commands unshare and ip, and the right to make a network namespace")
    assert {"udp 198.51.100.53 53", "tcp 203.0.113.5 80"} <= set(free["packets"])
    assert free["sent"] >= len(free["packets"]) > 0
