"""What a terminal shows: no line is too long or cut, and each colour can be seen on black and on white."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client import LlamaClient
from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import asked, on_terminal, run

_CODES = re.compile(r"\x1b\[([0-9;]*)m")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Off, bold, italic; red, green, yellow, blue, magenta and cyan as the terminal has them, grey and the bright blue of
# charts. No white, no black, no dim, no background: these vanish on one of the two.
_ALLOWED = {"0", "1", "3", *map(str, range(31, 37)), "90", "94", "95"}
# What is coloured is a bar with a pattern of its own, or a status that has its word; and never a whole table.
_ERRORS = (["chat", "-m", "groq/openai/gpt-oss-20b", "hi"], ["chat", "-m", "ollama/llama3.1:8b", "hi"])
_VIEWS = (
    ["models"],
    ["costs"],
    ["costs", "--plot"],
    ["fit", "llama-3.1-8b", "--gpu", "rtx_4090"],
    ["crossover", "llama-3.3-70b", "--volume", "500M", "--draws", "50"],
    ["crossover", "llama-3.1-8b", "--gpu", "rtx_4090", "--buy", "2000", "--draws", "0"],
    ["doctor", "--offline"],
    *_ERRORS,
)
_NARROW = (["models"], ["costs"], ["costs", "--plot"], ["doctor", "--offline"], _ERRORS[0])
_WITH_SIGNS = (["costs", "--plot"], ["crossover", "llama-3.3-70b", "--draws", "0"], ["doctor", "--offline"])

on_unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


def groq(asked: Received) -> Answer:
    if asked.path.endswith("/models"):
        return as_json({"data": [{"id": "openai/gpt-oss-20b"}, {"id": "an/extraordinarily-long-name-of-a-model-20b"}]})
    usage = {"prompt_tokens": 1400, "completion_tokens": 800, "total_tokens": 2200}
    message = {"role": "assistant", "content": "Tokyo."}
    return as_json({"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})


@pytest.fixture
def used(clean_home: Path, demo_pulled: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which something was asked: a few calls are written down."""
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    with WireServer(groq) as server:
        monkeypatch.setenv("GROQ_BASE_URL", server.url)
        monkeypatch.setenv("GROQ_API_KEY", "gsk-x")
        with LlamaClient() as client:
            for model in ("groq/openai/gpt-oss-20b", "groq/openai/gpt-oss-120b", "groq/an/unpriced-model"):
                client.ask("What is the capital of Japan?", model=model)
        yield


def shown(arguments: list[str], columns: int) -> str:
    # A key that nobody takes, so that what is shown is an error; the pages that are no errors do not need it.
    env = {"GROQ_API_KEY": ""} if arguments in _ERRORS else {}
    with on_terminal(*arguments, columns=columns, term="xterm-256color", env=env) as terminal:
        return terminal.read_to_the_end().replace("\r\n", "\n")


def require_lines(text: str, columns: int) -> None:
    """No line is longer than the terminal, and nothing is cut."""
    plain = _CONTROL.sub("", text)
    assert plain.strip()
    assert [line for line in plain.splitlines() if len(line) > columns and not _is_one_word(line)] == []
    assert "…" not in plain


def colours(text: str) -> set[str]:
    return {code for found in _CODES.findall(text) for code in found.split(";")}


@on_unix
@pytest.mark.parametrize("arguments", _VIEWS, ids=" ".join)
def test_every_view_fits_80_columns_and_can_be_seen_on_black_and_on_white(used: None, arguments: list[str]) -> None:
    text = shown(arguments, 80)
    require_lines(text, 80)
    assert colours(text) <= _ALLOWED


@on_unix
@pytest.mark.parametrize("arguments", _NARROW, ids=" ".join)
def test_on_a_narrow_terminal_nothing_is_cut(used: None, arguments: list[str]) -> None:
    require_lines(shown(arguments, 40), 40)


@on_unix
@pytest.mark.parametrize("arguments", [["costs", "--plot"], ["doctor", "--offline"]], ids=" ".join)
def test_no_color_is_honoured(used: None, arguments: list[str]) -> None:
    with on_terminal(*arguments, term="xterm-256color", env={"NO_COLOR": "1"}) as terminal:
        assert colours(terminal.read_to_the_end()) <= {"0", "1", "3"}


@on_unix
def test_a_bar_is_seen_on_black_and_on_white_and_goes_away(demo_model: Path) -> None:
    with on_terminal("pull", str(demo_model), term="xterm-256color") as terminal:
        text = terminal.read_to_the_end()
    assert "35" in colours(text)
    assert colours(text) <= _ALLOWED


@pytest.mark.parametrize("arguments", _WITH_SIGNS, ids=" ".join)
def test_an_old_code_page_of_windows_gets_what_it_has_letters_for(used: None, arguments: list[str]) -> None:
    ran = run(*arguments, env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"})
    assert ran.out.strip()
    assert ran.code in (0, 1)


@on_unix
def test_what_is_said_beside_the_answer_ends_its_lines_between_words() -> None:
    text = shown(["chat", "-m", "ollama/llama3.1:8b", "hi"], 40)
    assert "start it with\n`ollama serve`" in text or "with `ollama serve`" in text
    assert all(len(line) <= 40 for line in text.splitlines())


@on_unix
def test_a_conversation_says_what_can_be_typed(model: ModelStore) -> None:
    with on_terminal("chat", "--temperature", "0") as terminal:
        assert "/help tells more" in terminal.read_until("> ")
        terminal.type("/help\n")
        told = terminal.read_until("being written.")
        assert all(command in told for command in ("/new", "/exit", "Ctrl-C"))
        terminal.read_until("> ")
        terminal.type("/dance\n")
        assert "/dance is no command." in terminal.read_until("being written.")
        terminal.read_until("> ")
        terminal.type("/exit\n")
        assert terminal.end() == 0


@on_unix
def test_a_new_conversation_forgets_the_old_one(desk: WireServer) -> None:
    with on_terminal("chat", "--temperature", "0", "--max-tokens", "30") as terminal:
        terminal.read_until("> ")
        terminal.type("What is the capital of Japan?\n")
        assert "Hello" in terminal.read_until("> ")
        terminal.type("/new\n")
        terminal.read_until("> ")
        terminal.type("And of Germany?\n")
        assert "Hello" in terminal.read_until("> ")
        assert asked(desk) == [("user", "And of Germany?")]
        terminal.type("/exit\n")
        assert terminal.end() == 0


def _is_one_word(line: str) -> bool:
    """A word that is longer than the terminal, such as a path, is not broken: it is to be copied."""
    return " " not in line.strip()
