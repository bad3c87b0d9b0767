"""`llama-client bulk`, in a process of its own, against a server on loopback."""

from __future__ import annotations

import csv
import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.cli.conftest import finished, on_terminal, run, running

TEXTS = [f"ticket {number}" for number in range(6)]
SCHEMA = {"title": "Team", "type": "object", "properties": {"team": {"enum": ["a", "b"]}}, "required": ["team"]}
REFUSED = {"error": {"message": "not this one", "type": "invalid_request_error", "code": None}}


class Desk:
    """A model that says what it is asked, and refuses what it is told to.

    Attributes:
        refuses: The prompt that it refuses.
        says: Its answer; None: the prompt.
        goes_on: Set: all calls are answered, and not the first one alone.
        waits: Set: a call waits for that.
    """

    def __init__(self, server: WireServer) -> None:
        self.server = server
        self.refuses: str | None = None
        self.says: str | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waits = threading.Event()

    def answer(self, received: Received) -> Answer:
        prompt = received.json["messages"][-1]["content"]
        if prompt == self.refuses:
            return as_json(REFUSED, status=400)
        if len(self.server.requests) > 1:
            self.waits.set()
            self.goes_on.wait(60)
        return OPENAI.good(streams=False, text=self.says or prompt)

    @property
    def prompts(self) -> list[str]:
        return sorted(each.json["messages"][-1]["content"] for each in self.server.requests)


@pytest.fixture
def model(clean_home: Path) -> Iterator[Desk]:
    """It is the default of the configuration; `in.jsonl` and `team.json` are in the working folder."""
    desks: list[Desk] = []
    with WireServer(lambda received: desks[0].answer(received)) as server:
        desks.append(Desk(server))
        work = clean_home / "work"
        (work / "llama-client.toml").write_text(
            f"default_model = 'desk/m'\n[providers.desk]\nkind = 'openai'\nbase_url = '{server.url}/v1'\n"
            "[[prices]]\ntarget = 'desk/m'\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n"
            "[[prices]]\ntarget = 'desk/m'\nservice_tier = 'batch'\ninput_usd_per_mtok = 0.5\n"
            "output_usd_per_mtok = 1\n",
            encoding="utf-8",
        )
        (work / "in.jsonl").write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS), encoding="utf-8")
        (work / "team.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        yield desks[0]


def test_each_row_is_asked_and_the_answers_are_in_the_order_of_the_input(model: Desk) -> None:
    Path("rules.txt").write_text("Be short.\n", encoding="utf-8")
    ran = run(
        "bulk", "in.jsonl", "out.csv", "-p", "Sort: {text}", "--system", "@rules.txt", "--temperature", "0",
        "--max-tokens", "8", "--seed", "7",
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    with open("out.csv", encoding="utf-8", newline="") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == [f"Sort: {text}" for text in TEXTS]
    assert ran.out.startswith("out.csv: 6 rows: 6 answered\ncost $0.")
    asked = model.server.requests[0].json
    assert asked["messages"][0] == {"role": "system", "content": "Be short.\n"}
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0, 8, 7)


def test_a_schema_makes_columns(model: Desk) -> None:
    model.says = '{"team": "b"}'
    assert run("bulk", "in.jsonl", "out.jsonl", "-p", "{text}", "--schema", "team.json", "--limit", "2").code == 0
    assert [json.loads(line)["team"] for line in Path("out.jsonl").read_text().splitlines()] == ["b", "b"]


def test_json_is_one_document_with_the_receipt(model: Desk) -> None:
    ran = run("bulk", "in.jsonl", "out.jsonl", "--json", "--job", "night", "-m", "desk/m")
    assert (ran.code, ran.err) == (0, "")
    told = ran.document
    assert (told["output"], told["job"], told["receipt"]["answered"]) == ("out.jsonl", "night", 6)
    assert isinstance(told["receipt"]["usd"], str)
    assert Path("night/manifest.json").exists()


def test_failed_rows_are_told_and_asked_again(model: Desk) -> None:
    model.refuses = "ticket 3"
    for more in ("6 rows: 5 answered, 1 failed\n", "6 done by earlier runs (1 of them failed)"):
        ran = run("bulk", "in.jsonl", "out.jsonl")
        assert (ran.code, more in ran.out) == (1, True)
        assert "1 row failed; why is in out.jsonl.job" in ran.err
        assert "--retry-failed" in ran.err
    model.refuses = None
    again = run("bulk", "in.jsonl", "out.jsonl", "--retry-failed")
    assert (again.code, again.err) == (0, "")
    assert model.prompts == sorted([*TEXTS, "ticket 3"])
    assert all(json.loads(line)["error"] is None for line in Path("out.jsonl").read_text().splitlines())


def test_a_dry_run_asks_nothing_and_prices_each_venue(model: Desk) -> None:
    ran = run("bulk", "in.jsonl", "out.jsonl", "--dry-run", "--max-tokens", "10", "--deadline", "6h", "--json")
    assert (ran.code, ran.err, model.server.requests) == (0, "", [])
    told = ran.document
    assert (told["rows"], told["deadline_s"], told["venue"]) == (6, 21_600, "batch")
    assert {(quote["venue"], quote["target"]) for quote in told["quotes"]} == {("now", "desk/m"), ("batch", "desk/m")}
    assert told["most_usd"] >= told["usd"] > "0"
    text = run("bulk", "in.jsonl", "out.jsonl", "--dry-run", "--max-tokens", "10")
    assert (text.code, text.err, model.server.requests) == (0, "", [])
    assert text.out.startswith("6 rows to ask, about ")
    assert any(line.split()[:3] == ["now", "desk/m", "6"] for line in text.out.splitlines())
    assert not Path("out.jsonl.job").exists()


def test_a_dry_run_prices_idle_hours_too(model: Desk) -> None:
    dry = ("bulk", "in.jsonl", "out.jsonl", "--dry-run", "--idle", "mon-fri 22:00-06:00, weekends", "--json")
    told = run(*dry, "--venue", "idle", "--venue", "now", "--deadline", "7d").document
    assert (told["idle_rows"], model.server.requests) == (6, [])
    [idle] = [quote for quote in told["quotes"] if quote["venue"] == "idle"]
    # The server is one on loopback, and its price is known; how fast it is not.
    assert (idle["target"], idle["is_possible"], idle["ends_in_s"]) == ("desk/m", True, None)
    wrong = run("bulk", "in.jsonl", "out.jsonl", "--idle", "22-06")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--idle: '22-06' is no window: write '22:00-06:00'" in wrong.err
    assert (
        "needs the hours in which this machine is idle" in run("bulk", "in.jsonl", "out.jsonl", "--venue", "idle").err
    )


def test_a_dry_run_of_a_job_that_was_begun_is_about_the_rest(model: Desk) -> None:
    model.refuses = "ticket 3"
    run("bulk", "in.jsonl", "out.jsonl")
    assert run("bulk", "in.jsonl", "out.jsonl", "--dry-run", "--retry-failed", "--json").document["rows"] == 1


def test_the_most_that_a_job_may_cost_stops_it(model: Desk) -> None:
    ran = run("bulk", "in.jsonl", "out.jsonl", "--max-usd", "0.0000001", "--max-tokens", "10")
    assert (ran.code, ran.out, model.server.requests) == (1, "", [])
    assert "max_usd" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.jsonl", "out.csv"], "none.jsonl does not exist"),
        (["in.jsonl", "out.xls"], "out.xls ends in '.xls'; an output must end in"),
        (["in.jsonl", "in.jsonl"], "is the input"),
        (["in.jsonl", "out.csv", "-p", "{txt}"], "--prompt: in.jsonl, line 1 has no column 'txt'; did you mean"),
        (["in.jsonl", "out.csv", "--limit", "0"], "--limit: must be a whole number from 1, got 0"),
        (["in.jsonl", "out.csv", "--max-concurrency", "0"], "--max-concurrency: must be a whole number from 1, got 0"),
        (["in.jsonl", "out.csv", "--deadline", "6 hours"], "--deadline: must be a time such as 90m, 6h or 1d"),
        (["in.jsonl", "out.csv", "--max-usd", "much"], "--max-usd: must be an amount above 0 in US dollars"),
        (["in.jsonl", "out.csv", "--schema", "none.json"], "--schema: none.json cannot be read"),
        (["in.jsonl", "out.csv", "--system", "@none.txt"], "--system: none.txt: cannot be read"),
        (["in.jsonl", "out.csv", "--ray-workers", "2"], "--ray-workers: only with --engine ray"),
        (["in.jsonl", "out.csv", "--ray-address", "auto"], "--ray-address: only with --engine ray"),
        (["in.jsonl", "out.csv", "--engine", "ray", "--ray-workers", "0"], "--ray-workers: must be a whole number"),
        (["broken.jsonl", "out.csv"], "broken.jsonl, line 2"),
        (["in.jsonl", "out.csv", "-m", "nobody/m"], "no provider is named 'nobody'"),
    ],
    ids=[
        "no input", "ending", "same file", "column", "limit", "concurrency", "deadline", "usd", "schema", "system",
        "workers of no ray", "address of no ray", "no workers", "broken line", "model",
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence_and_nothing_is_asked(model: Desk, arguments: list[str], said: str) -> None:
    Path("broken.jsonl").write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    ran = run("bulk", *arguments)
    assert (ran.code, ran.out, model.server.requests) == (2, "", [])
    assert said in ran.err
    assert not Path("out.csv").exists()


def test_a_file_of_others_is_replaced_only_when_that_is_said(model: Desk) -> None:
    Path("out.csv").write_text("mine", encoding="utf-8")
    refused = run("bulk", "in.jsonl", "out.csv")
    assert (refused.code, model.server.requests) == (1, [])
    assert "file exists, and is not of this job" in refused.err
    assert run("bulk", "in.jsonl", "out.csv", "--replace").code == 0
    assert Path("out.csv").read_text(encoding="utf-8").startswith("text,")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole groups of processes")
def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(model: Desk) -> None:
    model.goes_on.clear()
    with running("bulk", "in.jsonl", "out.jsonl", "--max-concurrency", "2") as process:
        assert model.waits.wait(60)
        process.send_signal(signal.SIGINT)
        model.goes_on.set()
        ran = finished(process)
    assert (ran.code, ran.out) == (130, "")
    assert "rows are done, and kept in out.jsonl.job" in ran.err
    assert "Try: the same command, which goes on from there" in ran.err
    assert not Path("out.jsonl").exists()
    assert run("bulk", "in.jsonl", "out.jsonl").code == 0
    assert model.prompts == TEXTS


def test_a_terminal_shows_one_line_that_goes_away(model: Desk) -> None:
    model.goes_on.clear()
    with on_terminal("bulk", "in.jsonl", "out.jsonl", "--max-concurrency", "1", columns=120, term="xterm") as terminal:
        terminal.read_until("1 of 6 rows")
        model.goes_on.set()
        rest = terminal.read_to_the_end()
    assert "6 answered" in rest
    assert "cost $" in rest


def test_what_follows_the_command_is_completed(
    model: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cli.test_completion import offered

    assert set(offered("llama-client bulk --retry", capfd, monkeypatch)) == {"--retry-failed"}
    assert "desk/m" in offered("llama-client bulk in.jsonl out.csv -m de", capfd, monkeypatch)
