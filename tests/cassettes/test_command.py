"""`llama-client record`: any command, in any number of processes, recorded into one file or answered from it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client import LlamaClient
from llama_client.testing.cassettes import cassette
from llama_client.testing.clock import FakeClock
from llama_client.testing.loopback import WireServer
from tests.cli.conftest import run
from tests.cli.forks import python
from tests.routing.asking import config, failing, good, in_turn

# Asks in this process and in others, and ends as its arguments say.
PROGRAM = """
import json, os, signal, subprocess, sys
from llama_client import LlamaClient, LlamaClientError

text, children, code = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with LlamaClient() as client:
    try:
        print(client.ask(text, model="a/m").text, flush=True)
    except LlamaClientError as error:
        print(type(error).__name__, flush=True)
for child in range(children):
    subprocess.run([*json.loads(os.environ["PYTHON"]), __file__, f"{text}{child}", "0", "0"])
if code == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(code))
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    """What the programs' configuration names."""
    monkeypatch.setenv("PYTHON", json.dumps(python()))
    with WireServer(good()) as server:
        Path("app.py").write_text(PROGRAM, "utf-8")
        Path("llama-client.toml").write_text(f'[providers.a]\nkind = "openai"\nbase_url = "{server.url}/v1"\n', "utf-8")
        yield server


def _asked(path: str) -> list[str]:
    content = json.loads(Path(path).read_text("utf-8"))
    return [each["request"]["body"]["messages"][0]["content"] for each in content["exchanges"]]


def app(text: str, children: int = 0, code: str = "0") -> list[str]:
    return ["--", *python(), "app.py", text, str(children), code]


def test_several_processes_are_recorded_into_one_file_and_replayed(server: WireServer) -> None:
    ran = run("record", "--to", "tapes/c.json", *app("hum", children=2))
    assert (ran.code, ran.out.split()) == (0, ["Hello"] * 3)
    assert "tapes/c.json: written, 3 exchanges" in ran.err
    assert _asked("tapes/c.json") == ["hum", "hum0", "hum1"]
    server.close()
    again = run("record", "--replay", "--to", "tapes/c.json", *app("hum", children=2))
    assert (again.code, again.out, again.err) == (0, ran.out, "")


@pytest.mark.parametrize(
    "code", ["3", pytest.param("kill", marks=pytest.mark.skipif(os.name == "nt", reason="signals"))]
)
def test_the_file_is_written_however_the_command_ends(server: WireServer, code: str) -> None:
    ran = run("record", *app("hum", code=code))
    assert ran.code == (137 if code == "kill" else 3)
    assert _asked("cassette.json") == ["hum"]


def test_a_replay_says_what_has_no_answer_though_the_program_has_caught_it(server: WireServer) -> None:
    run("record", *app("hum"))
    ran = run("record", "--replay", *app("sing"))
    assert (ran.code, ran.out.split()) == (1, ["UnrecordedRequestError"])
    assert '-      "content": "hum"' in ran.err
    assert '+      "content": "sing"' in ran.err
    assert "llama-client record --refresh" in ran.err


def test_refreshing_asks_anew_only_what_has_changed(server: WireServer) -> None:
    run("record", *app("hum", children=1))
    ran = run("record", "--refresh", "--json", *app("hum", children=2))
    assert ran.document["changes"] == ['+ a: POST chat/completions m "hum1"']
    assert (ran.document["exchanges"], ran.document["exit_code"]) == (3, 0)
    assert "Hello" in ran.err
    assert [each.json["messages"][0]["content"] for each in server.requests] == ["hum", "hum0", "hum1"]
    assert _asked("cassette.json") == ["hum", "hum0", "hum1"]


def test_a_command_that_fails_drops_nothing(server: WireServer) -> None:
    run("record", *app("hum", children=1))
    ran = run("record", "--refresh", *app("sing", code="3"))
    assert ran.code == 3
    assert _asked("cassette.json") == ["hum", "hum0", "sing"]


def test_a_replay_is_in_no_ledger(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    run("record", *app("hum"))
    assert run("costs", "--json").document["calls"] == 1
    run("record", "--replay", *app("hum"))
    assert run("costs", "--json").document["calls"] == 1


def test_a_command_that_asks_nothing_takes_nothing_away(server: WireServer) -> None:
    run("record", *app("hum"))
    before = Path("cassette.json").read_bytes()
    ran = run("record", "--", sys.executable, "-c", "print(7)")
    assert (ran.code, ran.out.strip()) == (0, "7")
    assert Path("cassette.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["record"], "name the command to run"),
        (["record", "--refresh", "--replay", "--", "true"], "exclude each other"),
        (["record", "--", "no-such-program-here"], "no program is named 'no-such-program-here'"),
    ],
    ids=["nothing", "both", "no program"],
)
def test_wrong_usage_is_told(arguments: list[str], told: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_a_broken_cassette_is_told_before_the_command_runs() -> None:
    Path("cassette.json").write_text("{", "utf-8")
    ran = run("record", "--replay", "--", sys.executable, "-c", "print(7)")
    assert (ran.code, ran.out) == (1, "")
    assert "cassette.json: line 1, column 2: is no JSON" in ran.err


@pytest.mark.parametrize("value", ["nonsense", "record:", "record:no-such-folder", "replay:no-such-file"])
def test_a_wrong_variable_is_told(value: str) -> None:
    ran = run("chat", "-m", "groq/x", "hi", env={"LLAMA_CLIENT_CASSETTE": value, "GROQ_API_KEY": "k" * 20})
    assert ran.code == 1
    assert "LLAMA_CLIENT_CASSETTE" in ran.err or "no-such-file" in ran.err


def test_a_cassette_can_be_named_in_the_environment(server: WireServer) -> None:
    run("record", *app("hum"))
    server.close()
    ran = run("chat", "-m", "a/m", "--no-stream", "hum", env={"LLAMA_CLIENT_CASSETTE": "replay:cassette.json"})
    assert "Hello" in ran.out


def test_a_replay_named_in_the_environment_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_s = 3600.0
    with WireServer(in_turn(failing(429, retry_after=str(int(hour_s))), None)) as server:
        configuration = config(server, routing={"retries": 1, "deadline_s": 2 * hour_s})
        with cassette(tmp_path / "c.json", "record", clock=FakeClock()), LlamaClient(configuration) as client:
            recorded = client.ask("hum")
    monkeypatch.setenv("LLAMA_CLIENT_CASSETTE", f"replay:{tmp_path / 'c.json'}")
    with LlamaClient(configuration) as client:
        replayed = client.ask("hum")
    assert (
        [each.outcome for each in replayed.attempts] == [each.outcome for each in recorded.attempts] == ["error", "ok"]
    )
    assert (replayed.timing.total_s or 0) >= hour_s
