"""Names and messages of others stay within their line: none of them looks like a line of the command's own."""

from __future__ import annotations

import json
import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client import LlamaClient
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import on_terminal, run

# Whatever line begins with this word was made of a name.
EVIL = "x\nforged\x1b[2J\u202e"
SHOWN = r"x\nforged\x1b[2J\u202e"
COMMANDS: dict[str, list[str]] = {
    "config check": ["config", "check"],
    "config show": ["config", "show"],
    "doctor": ["doctor"],
    "models": ["models"],
    "an error": ["chat", "-m", f"{EVIL}/refused", "hi"],
    "an unknown name": ["chat", "-m", "z" + EVIL, "hi"],
    "several errors": ["chat", "-m", EVIL, "hi"],
    "costs by route": ["costs", "--by", "route"],
    "costs of a tag": ["costs", "--by", "tag:user"],
    "a chart": ["costs", "--by", "tag:user", "--plot"],
}
BLANKED = ("costs by route", "costs of a tag", "a chart")
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def named_badly(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A configuration, a server and a ledger whose names hold line ends and controls."""
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    name, is_over = json.dumps(EVIL), threading.Event()

    def answer(asked: Received) -> Answer:
        if asked.method == "GET":
            return as_json({"object": "list", "data": [{"id": EVIL}]})
        if asked.json["model"] == "refused" or is_over.is_set():
            return as_json({"error": {"message": f"no: {EVIL}", "type": EVIL, "code": EVIL}}, status=401)
        return OPENAI.good(streams=False)

    with WireServer(answer) as server:
        (clean_home / "work" / "llama-client.toml").write_text(
            f'[providers.{name}]\nkind = "openai"\nbase_url = "{server.url}"\n'
            f"[routes.{name}]\ntargets = [{json.dumps(f'{EVIL}/refused')}, {json.dumps(f'{EVIL}/{EVIL}')}]\n"
            f'[routes.{json.dumps("y" + EVIL)}]\ntargets = ["groq/llama-3.1-8b-instant"]\n'
            f"[[models]]\ntarget = {json.dumps(f'{EVIL}/a')}\nname = {name}\n"
            '[[budgets]]\nusd = 1\nwindow = "day"\nscope = "tag:user"\non_unpriced = "allow"\n',
            encoding="utf-8",
        )
        with LlamaClient() as client:
            client.ask("hi", model=EVIL, tags={"user": EVIL})
        is_over.set()
        yield


def require_whole(text: str, command: str) -> None:
    assert not [line for line in text.split("\n") if line.strip().startswith("forged")]
    assert {"\x1b", "\u202e", "\r"}.isdisjoint(text)
    # A report of costs has a blank in the place of each; what `config show` prints is TOML.
    shown = "x forged" if command in BLANKED else SHOWN.replace(r"\x1b", r"\u001b") if "show" in command else SHOWN
    assert shown in text


def test_what_a_configuration_named_stays_in_its_line(named_badly: None) -> None:
    checked, shown = run("config", "check"), run("config", "show")
    require_whole(checked.out + checked.err, "config check")
    require_whole(shown.out + shown.err, "config show")
    assert list(tomllib.loads(shown.out)["routes"]) == [EVIL, "y" + EVIL]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal_too(command: str, named_badly: None) -> None:
    with on_terminal(*COMMANDS[command], columns=1000) as terminal:
        require_whole(_CODES.sub("", terminal.read_to_the_end()).replace("\r\n", "\n"), command)
