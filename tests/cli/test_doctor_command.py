"""`llama-client doctor`, in a process of its own: its exit codes, its one document, and how it looks on a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llama_client.providers.gguf.store import ModelStore
from llama_client.testing.loopback import WireServer, as_json, silence
from tests.cli.conftest import Ran, on_terminal, run

KEY = "gsk_planted_1234567890"
SECTIONS = ("Configuration", "Providers", "Local engines", "Models", "Money", "Machine")
STATUSES = ("ok", "info", "warning", "problem", "skipped")


@pytest.fixture
def work(clean_home: Path) -> Path:
    return clean_home / "work"


def write(work: Path, text: str) -> Path:
    path = work / "llama-client.toml"
    path.write_text(text, encoding="utf-8")
    return path


def check_document(ran: Ran) -> None:
    """The form of the document, whatever it says."""
    assert ran.err == ""
    document = ran.document
    assert list(document) == ["status", "summary", "counts", "findings"]
    assert list(document["counts"]) == list(STATUSES)
    assert sum(document["counts"].values()) == len(document["findings"])
    for finding in document["findings"]:
        assert list(finding) == ["check", "section", "subject", "status", "message", "remedy", "facts"]
        assert re.fullmatch("[a-z_]+", finding["check"])
        assert finding["status"] in STATUSES
        assert finding["remedy"] is None or finding["remedy"].endswith(".")


def test_where_all_is_well_it_exits_with_0(demo_pulled: ModelStore) -> None:
    ran = run("doctor", "--json")
    check_document(ran)
    assert (ran.code, ran.document["status"]) == (0, "ok")
    assert ran.document["summary"] == "Nothing to do: no problem was found."


def test_a_problem_exits_with_1_and_says_what_to_do_first(work: Path) -> None:
    write(work, '[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n')
    ran = run("doctor", "--json")
    check_document(ran)
    assert (ran.code, ran.document["status"]) == (1, "problem")
    assert "First: Start the server, or correct providers.vllm.base_url." in ran.document["summary"]


def test_a_wrong_configuration_exits_with_2_and_is_told_all_the_same(work: Path) -> None:
    write(work, "default_model = ")
    ran = run("doctor", "--json")
    write(work, "defalt_model = 'x'\n")
    shown = run("doctor")
    check_document(ran)
    assert (ran.code, shown.code, shown.err) == (2, 2, "")
    assert any(f["check"] == "config_file" and f["status"] == "problem" for f in ran.document["findings"])
    assert any(f["check"] == "disk" for f in ran.document["findings"])
    assert "defalt_model: unknown name; did you mean 'default_model'?" in " ".join(shown.out.split())
    assert "Machine" in shown.out


@pytest.mark.parametrize("arguments", [("--config", "nowhere.toml"), ("--timeout", "0"), ("--nonsense",)])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert run("doctor", *arguments).code == 2


def test_a_model_is_looked_at_in_the_place_of_the_default(demo_pulled: ModelStore) -> None:
    assert run("doctor", "-m", "gguf/smollm2-135m").code == 0
    assert run("doctor", "-m", "gguf/none-such").code == 1


def test_a_server_that_hangs_does_not_hang_it_nor_its_end(work: Path, demo_pulled: ModelStore) -> None:
    with WireServer(lambda _: silence()) as server:
        write(work, f'[providers.vllm]\nkind = "openai"\nbase_url = "{server.url}"\n')
        ran = run("doctor", "--json", "--timeout", "1")
    check_document(ran)
    assert ran.code == 1
    assert "did not answer within 1 s" in ran.out


def test_no_key_is_printed(work: Path) -> None:
    with WireServer(lambda asked: as_json({"error": {"message": str(asked.headers)}}, status=401)) as server:
        write(work, f'[providers.cloud]\nkind = "openai"\nbase_url = "{server.url}"\napi_key = "{KEY}"\n')
        ran, shown = run("doctor", "--json", "--timeout", "30"), run("doctor")
    assert "it refused the key in providers.cloud.api_key (401)" in ran.out
    assert KEY not in ran.out + ran.err + shown.out + shown.err


def test_what_servers_say_cannot_steer_the_terminal(work: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r"
    with WireServer(lambda _: as_json({"error": {"message": evil}}, status=500)) as server:
        write(work, f'[providers.cloud]\nkind = "openai"\nbase_url = "{server.url}"\n')
        shown = run("doctor")
    assert not any(sign in shown.out + shown.err for sign in ("\x1b", "\x07", "\u202e", "\r"))


def on_screen(columns: int, env: dict[str, str]) -> str:
    """What a terminal of that width is sent."""
    with on_terminal("doctor", columns=columns, term="xterm-256color", env=env) as terminal:
        return terminal.read_to_the_end()


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("columns", [80, 32])
def test_no_line_is_wider_than_the_terminal(work: Path, columns: int) -> None:
    write(work, '[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n')
    lines = [COLOUR.sub("", line) for line in on_screen(columns, {}).splitlines()]
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if line.strip() in SECTIONS] == list(SECTIONS)


def test_only_plain_colours_are_used_and_each_status_has_its_word(work: Path) -> None:
    write(work, '[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n')
    seen = on_screen(80, {})
    codes = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", seen) for code in codes.split(";")}
    # Bold, off, red, green and yellow: no bright ones, no white, no background.
    assert codes <= {"0", "1", "31", "32", "33"}
    assert {"31", "32"} <= codes
    assert "✗ problem" in seen
    assert "✓ ok" in seen


def test_without_colours_nothing_is_lost(work: Path) -> None:
    write(work, '[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n')
    plain = on_screen(80, {"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    # The memory that is free changes from one moment to the next.
    words = [re.sub(r"[0-9.]+", "0", COLOUR.sub("", seen)).split() for seen in (on_screen(80, {}), plain)]
    assert words[0] == words[1]


def test_the_last_line_says_what_to_do_first(work: Path) -> None:
    write(work, '[providers.vllm]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n')
    last = run("doctor", env={"COLUMNS": "200"}).out.splitlines()[-1]
    assert last == "2 problems. First: Start the server, or correct providers.vllm.base_url."


def test_an_encoding_without_signs_gets_others(demo_pulled: ModelStore) -> None:
    shown = run("doctor", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert "+ ok" in shown.out
    assert "?" not in shown.out


@pytest.mark.parametrize("seconds", ["nan", "-nan", "inf", "0", "301"])
def test_a_wait_that_is_none_is_wrong_usage(seconds: str) -> None:
    ran = run("doctor", "--json", "--timeout", seconds)
    assert (ran.code, ran.document["error"]["type"]) == (2, "BadParameter")
    assert "Invalid value for '--timeout'" in ran.err
