"""`llama-client chat`: one question, standard input, a conversation, and what happens when it is stopped."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import WireServer
from tests.cli.conftest import TIMEOUT_S, asked, finished, on_terminal, require_no_traceback, run, running

JAPAN = "What is the capital of Japan?"
TOKYO = "The capital of Japan is Tokyo."
LONG = ["--temperature", "0", "--max-tokens", "1500", "Write a long story about a llama."]
EXACT = ["--temperature", "0"]
# Longer than the context of `tiny_config_file`.
TOO_LONG = "hello " * 500


# One question


@pytest.mark.parametrize("mode", [[], ["--no-stream"]], ids=["stream", "no-stream"])
def test_stdout_is_the_answer_and_nothing_else(model: ModelStore, mode: list[str]) -> None:
    ran = run("chat", *EXACT, *mode, JAPAN)
    assert (ran.code, ran.out, ran.err) == (0, f"{TOKYO}\n", "")


def test_the_configuration_s_default_model_answers(desk: WireServer) -> None:
    ran = run("chat", "--json", JAPAN)
    assert (ran.document["text"], ran.document["target"]) == ("Hello", "desk/default")


def test_the_model_that_is_named_answers(desk: WireServer, store: ModelStore, tiny_model: Path) -> None:
    store.add("smollm2-135m", tiny_model, sha256="", source="a test")
    assert run("chat", "--json", "--max-tokens", "1", "-m", "gguf/smollm2-135m", "hi").document["target"] == (
        "gguf/smollm2-135m"
    )


def test_another_configuration_file_may_be_named(desk: WireServer) -> None:
    other = Path("llama-client.toml").rename("other.toml")
    assert run("chat", "--config", str(other), JAPAN).out == "Hello\n"


def test_a_prompt_needs_no_quotes(desk: WireServer) -> None:
    assert run("chat", *JAPAN.split()).out == "Hello\n"
    assert asked(desk) == [("user", JAPAN)]


def test_instructions_are_added_before_the_prompt(desk: WireServer) -> None:
    assert run("chat", "--system", "Be brief.", "hi").code == 0
    assert asked(desk) == [("system", "Be brief."), ("user", "hi")]


def test_an_answer_that_was_cut_is_said_to_be_on_stderr(model: ModelStore) -> None:
    ran = run("chat", *EXACT, "--max-tokens", "3", JAPAN)
    assert (ran.code, ran.out) == (0, "The capital of\n")
    assert ran.err == "llama-client: the answer was cut at its maximum length\n"


def test_with_json_the_answer_is_one_document_on_stdout(model: ModelStore) -> None:
    ran = run("chat", *EXACT, "--json", JAPAN)
    assert (ran.code, ran.err) == (0, "")
    document = ran.document
    assert document["text"] == document["choices"][0]["message"]["content"] == TOKYO
    assert document["target"] == "gguf/default"
    assert document["usage"]["completion_tokens"] > 0
    assert (document["cost"]["usd"], document["cost"]["status"]) == ("0", "free")
    assert [attempt["outcome"] for attempt in document["attempts"]] == ["ok"]
    assert "raw" not in document


# Standard input


def test_standard_input_is_the_prompt_where_there_is_none(desk: WireServer) -> None:
    ran = run("chat", stdin=f"{JAPAN}\n")
    assert (ran.code, ran.out, ran.err) == (0, "Hello\n", "")
    assert asked(desk) == [("user", JAPAN)]


def test_standard_input_is_added_below_the_prompt(desk: WireServer) -> None:
    assert run("chat", "Summarise:", stdin="Llamas hum.\n").code == 0
    assert asked(desk) == [("user", "Summarise:\n\nLlamas hum.")]


@pytest.mark.parametrize("stdin", ["", " \n\n"])
def test_nothing_to_ask_is_wrong_usage(model: ModelStore, stdin: str) -> None:
    ran = run("chat", stdin=stdin)
    assert (ran.code, ran.out) == (2, "")
    assert "there is nothing to ask" in ran.err


def test_an_empty_standard_input_adds_nothing(desk: WireServer) -> None:
    assert run("chat", "hi", stdin="").code == 0
    assert asked(desk) == [("user", "hi")]


def test_a_pipe_that_nobody_writes_to_does_not_hold_a_prompt_up(desk: WireServer) -> None:
    with running("chat", JAPAN, stdin=subprocess.PIPE, stdin_waits_s="0.2 1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = [process.stderr.readline().decode() for _ in range(2)]
        answer = process.stdout.readline()
        assert process.wait(TIMEOUT_S) == 0, "it ended while the pipe was open"
        ran = finished(process)
    assert (answer, ran.out) == (b"Hello\n", "")
    assert said == [
        "llama-client: waiting 1 s for standard input\n",
        "llama-client: nothing came from standard input; continuing without it\n",
    ]
    assert (ran.err, asked(desk)) == ("", [("user", JAPAN)])


def test_a_pipe_that_has_begun_to_write_is_read_to_its_end(desk: WireServer) -> None:
    with running("chat", "Summarise:", stdin=subprocess.PIPE, stdin_waits_s="0.5 0") as process:
        assert process.stdin is not None
        process.stdin.write(b"Llamas hum. ")
        # The rest comes late: after the wait for a first word would have ended.
        assert process.stderr is not None
        assert not select.select([process.stderr], [], [], 2.5)[0]
        process.stdin.write(b"They also spit.")
        assert finished(process).out == "Hello\n"
    assert asked(desk) == [("user", "Summarise:\n\nLlamas hum. They also spit.")]


@pytest.mark.parametrize("arguments", [[], ["Summarise:"]], ids=["alone", "below a prompt"])
@pytest.mark.parametrize("encoding", [pytest.param("utf-8:strict", marks=pytest.mark.long), "utf-8:surrogateescape"])
def test_bytes_that_are_no_text_are_replaced(desk: WireServer, arguments: list[str], encoding: str) -> None:
    # In the mode of UTF-8, in which commands run here, standard input has the second without being told.
    env = {"PYTHONIOENCODING": encoding} if encoding.endswith("strict") else {}
    ran = run("chat", *arguments, stdin="Größe".encode("latin-1"), env=env)
    assert ran.code == 0, ran.err
    assert asked(desk) == [("user", "\n\n".join([*arguments, "Gr\ufffd\ufffde"]))]


# While it answers


def test_the_answer_appears_in_pieces_while_it_is_made(model: ModelStore) -> None:
    with running("chat", "--temperature", "0", "--max-tokens", "24", LONG[-1]) as process:
        assert process.stdout is not None
        pieces = [os.read(process.stdout.fileno(), 4096)]
        assert process.poll() is None, "it still runs when the first piece is here"
        while piece := os.read(process.stdout.fileno(), 4096):
            pieces.append(piece)
        assert finished(process).code == 0
    assert len(pieces) > 12
    assert max(map(len, pieces)) < len(b"".join(pieces)) / 2


def test_with_no_stream_the_answer_appears_at_once(model: ModelStore) -> None:
    with running("chat", "--no-stream", "--temperature", "0", "--max-tokens", "28", LONG[-1]) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1 << 16)
        assert os.read(process.stdout.fileno(), 1) == b""
        assert finished(process).code == 0
    assert first.endswith(b"\n")
    assert len(first) > 100


def test_a_reader_who_leaves_ends_it_without_a_word(model: ModelStore) -> None:
    with running("chat", *LONG) as process:
        assert process.stdout is not None
        assert process.stdout.read(5)
        process.stdout.close()
        process.stdout = None
        assert process.wait(TIMEOUT_S) == 1
        assert finished(process).err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize(
    "mode",
    [[], pytest.param(["--no-stream"], marks=pytest.mark.long), pytest.param(["--json"], marks=pytest.mark.long)],
    ids=["stream", "no-stream", "json"],
)
def test_ctrl_c_ends_an_answer_with_130(model: ModelStore, mode: list[str]) -> None:
    with running("chat", *mode, *LONG) as process:
        assert process.stdout is not None
        if mode:
            wait_until_busy(process.pid, for_s=2.5)
        else:
            assert process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        finished(process)


def wait_until_busy(pid: int, *, for_s: float) -> None:
    """Waits until a process has worked for so long from now on: a model is loaded in 1.5 s, a long answer takes 8."""
    process, deadline = psutil.Process(pid), time.monotonic() + TIMEOUT_S
    before = sum(process.cpu_times()[:2])
    while sum(process.cpu_times()[:2]) < before + for_s:
        assert process.status() != psutil.STATUS_ZOMBIE, "it ended before it was stopped"
        assert time.monotonic() < deadline
        time.sleep(0.05)


# A conversation


def test_a_conversation_remembers_what_was_said(model: ModelStore) -> None:
    with on_terminal("chat", *EXACT, "--max-tokens", "30") as terminal:
        assert "Ctrl-D ends the conversation" in terminal.read_until("> ")
        terminal.type(f"{JAPAN}\n")
        assert TOKYO in terminal.read_until("> ")
        terminal.type("And of Germany?\n")
        assert "The capital of Germany is Berlin." in terminal.read_until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0


# The control of the test above.
@pytest.mark.long
def test_without_the_earlier_turn_the_same_question_has_another_answer(model: ModelStore) -> None:
    assert "Berlin" not in run("chat", *EXACT, "--max-tokens", "30", "And of Germany?").out


def test_an_empty_line_asks_nothing(model: ModelStore) -> None:
    with on_terminal("chat", *EXACT) as terminal:
        terminal.read_until("> ")
        terminal.type("\n")
        assert terminal.read_until("> ").strip() == ">"
        terminal.type("\x04")
        assert terminal.end() == 0


@pytest.mark.parametrize("mode", [[], ["--no-stream"]], ids=["stream", "no-stream"])
def test_ctrl_c_stops_an_answer_and_returns_to_the_prompt(model: ModelStore, mode: list[str]) -> None:
    with on_terminal("chat", *mode, *EXACT) as terminal:
        terminal.read_until("> ")
        terminal.type(f"{JAPAN}\n")
        terminal.read_until("> ")
        terminal.type("Write a very long story about a llama.\n")
        terminal.read_until("llama.")
        if mode:
            wait_until_busy(terminal.pid, for_s=0.7)
        else:
            terminal.read_until(" the ")
        terminal.type("\x03")
        assert "(stopped)" in terminal.read_until("> ")
        terminal.type(f"{JAPAN}\n")
        assert TOKYO in terminal.read_until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_a_question_that_fails_does_not_end_the_conversation(config_file: Path) -> None:
    text = config_file.read_text(encoding="utf-8").replace("n_ctx = 2048", "n_ctx = 256")
    config_file.write_text(text, encoding="utf-8")
    with on_terminal("chat", *EXACT) as terminal:
        terminal.read_until("> ")
        terminal.type("hello " * 400 + "\n")
        assert "tokens and the context holds 256" in " ".join(terminal.read_until("raise n_ctx").split())
        terminal.read_until("> ")
        terminal.type(f"{JAPAN}\n")
        assert TOKYO in terminal.read_until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0


# Failures


@pytest.mark.parametrize("mode", [[], ["--no-stream"]], ids=["stream", "no-stream"])
def test_a_prompt_that_is_too_long_ends_with_1(tiny_config_file: Path, mode: list[str]) -> None:
    ran = run("chat", *mode, stdin=TOO_LONG)
    assert (ran.code, ran.out) == (1, "")
    first, second = ran.err.splitlines()
    told = r"llama-client: laptop/default: the prompt has \d+ tokens and the context holds 256: .*"
    assert re.fullmatch(told, first)
    assert second.startswith("Try: a shorter prompt, ")


def test_with_json_a_failed_request_is_one_document_on_stdout(tiny_config_file: Path) -> None:
    ran = run("chat", "--json", stdin=TOO_LONG)
    assert ran.code == 1
    error = ran.document["error"]
    assert error["type"] == "ContextLengthError"
    assert [attempt["outcome"] for attempt in error["attempts"]] == ["error"]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("nobody/some-model", 2, "no provider is named 'nobody'"),
        ("some-model", 2, "must be 'provider/model-id'"),
        ("smollm2-135m", 2, "did you mean 'gguf/smollm2-135m'"),
        ("gguf/smolm2-135m", 1, "did you mean 'smollm2-135m'"),
        ("gguf/../secret", 1, "no model named"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_the_nearest(model: ModelStore, name: str, code: int, says: str) -> None:
    ran = run("chat", "-m", name, "hi")
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err


@pytest.mark.parametrize("arguments", [["--temperature", "-1"], ["--temperature", "nan"], ["--max-tokens", "0"]])
def test_a_value_that_no_model_takes_ends_with_2(model: ModelStore, arguments: list[str]) -> None:
    ran = run("chat", *arguments, "hi")
    assert (ran.code, ran.out) == (2, "")
    assert arguments[0].strip("-").replace("-", "_") in ran.err


def test_a_configuration_file_that_is_not_there_ends_with_2() -> None:
    ran = run("chat", "--config", "nowhere.toml", "hi")
    assert (ran.code, ran.out) == (2, "")
    assert "nowhere.toml: there is no such file" in ran.err


def test_a_model_file_that_is_not_there_ends_with_1(config_file: Path) -> None:
    config_file.write_text("[providers.gguf]\nmodel_path = 'nowhere.gguf'\n", encoding="utf-8")
    ran = run("chat", "hi")
    assert (ran.code, ran.out) == (1, "")
    assert "nowhere.gguf: there is no such file" in ran.err


# The first minute


def test_without_anything_the_demo_is_pulled_once_and_said_to_be(store: ModelStore, index_with_demo: None) -> None:
    first = run("chat", *EXACT, JAPAN)
    assert (first.code, first.out) == (0, f"{TOKYO}\n")
    assert first.err.count("No model is configured, so this uses smollm2-135m") == 1
    assert "llama-client pull hf:" in first.err
    assert store.names() == ["smollm2-135m"]
    second = run("chat", *EXACT, JAPAN)
    assert (second.code, second.out, second.err) == (0, f"{TOKYO}\n", "")


def test_with_json_the_demo_is_pulled_and_stdout_stays_one_document(index_with_demo: None) -> None:
    ran = run("chat", *EXACT, "--json", JAPAN)
    assert (ran.code, ran.document["text"]) == (0, TOKYO)
    assert "No model is configured" in ran.err


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["plain", "json"])
def test_local_only_does_not_pull_the_demo(store: ModelStore, index_with_demo: None, options: list[str]) -> None:
    ran = run("chat", *options, "hi", env={"LLAMA_CLIENT_LOCAL_ONLY": "true"})
    assert ran.code == 1
    assert "local_only is on" in ran.err
    assert ran.document["error"]["type"] == "LocalOnlyError" if options else ran.out == ""
    assert not store.folder.exists()


def test_an_index_that_cannot_be_reached_ends_with_1(store: ModelStore, tmp_path: Path, index_with_demo: None) -> None:
    ran = run("chat", "hi", env={name: str(tmp_path) for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS")})
    assert (ran.code, ran.out) == (1, "")
    assert "cannot download" in ran.err
    assert "from the package index" in ran.err
    assert store.names() == []


def test_a_model_that_is_named_is_not_replaced_by_the_demo(store: ModelStore, index_with_demo: None) -> None:
    ran = run("chat", "-m", "gguf/other", "hi")
    assert ran.code == 1
    assert "run `llama-client pull other`" in ran.err
    assert store.names() == []


def test_a_pipe_that_begins_late_is_waited_for(desk: WireServer) -> None:
    with running("chat", JAPAN, stdin=subprocess.PIPE, stdin_waits_s="0.2 60") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"llama-client: waiting")
        process.stdin.write(b"Answer in one word.")
        assert finished(process).out == "Hello\n"
    assert asked(desk) == [("user", f"{JAPAN}\n\nAnswer in one word.")]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell's way of closing a stream is not Windows'")
@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        (">&-", 0),
        pytest.param("--no-stream >&-", 0, marks=pytest.mark.long),
        pytest.param("2>&-", 0, marks=pytest.mark.long),
        ("<&-", 0),
        ("> /dev/full", 1),
    ],
)
def test_a_closed_or_full_stream_gives_no_traceback(
    desk: WireServer, redirection: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("this platform has no /dev/full")
    command = f'"{sys.executable}" -m llama_client chat --temperature 0 "{JAPAN}" {redirection}'
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    done = subprocess.run(
        command, shell=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False
    )
    require_no_traceback(done.stderr.decode())
    assert done.returncode == code


@pytest.mark.parametrize(
    "path", ["a" * 5000 + ".gguf", "a" * 5000, "~nobody-of-that-name/x.gguf"], ids=["long", "name", "home"]
)
def test_a_path_that_can_be_none_gives_no_traceback(path: str) -> None:
    assert run("pull", path).code in (1, 2)
