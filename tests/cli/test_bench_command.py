"""`llama-client bench`, in a process of its own, against servers on loopback and a model in that process."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.cli import bench
from llama_client.cli.app import main
from llama_client.crossover.throughput.measurements import Measurements
from llama_client.crossover.throughput.points import MeasuredPoint
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, silence, streamed
from tests.cli.conftest import Ran, finished, on_terminal, run, running

BRIEF = ("--concurrency", "1,2", "--input-tokens", "64", "--output-tokens", "6", "--requests", "8")
# A card that is faster than the server.
ON_A_CARD = ("--model", "llama-3.1-8b", "--gpu", "b200_sxm", "--precision", "fp8", "--engine", "vllm")
PRICE = "[[prices]]\ntarget = 'vllm/m'\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n"


def good(_: Received) -> Answer:
    usage = {"prompt_tokens": 64, "completion_tokens": 6}
    told = [OPENAI.event(OPENAI._chunk({}, "stop")), OPENAI.counted(usage)]
    return streamed([*(OPENAI.text("hum ") for _ in range(6)), *told, b"data: [DONE]\n\n"], delay_s=0.002)


@pytest.fixture
def server(clean_home: Path) -> Iterator[WireServer]:
    """A server whose answers have six tokens, which the configuration in the working folder names `vllm`."""
    with WireServer(good) as replay:
        configure(clean_home, replay)
        yield replay


def configure(clean_home: Path, server: WireServer, more: str = "") -> None:
    (clean_home / "work" / "llama-client.toml").write_text(
        f"[providers.vllm]\nkind = 'openai'\nbase_url = '{server.url}/v1'\n{more}", encoding="utf-8"
    )


def subject_of(point: MeasuredPoint) -> tuple[object, ...]:
    return point.model, point.gpu, point.n_gpus, point.precision, point.engine


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_answer_is_a_sentence_a_table_and_where_it_is_kept(server: WireServer) -> None:
    ran = run("bench", "vllm/m", *BRIEF, *ON_A_CARD)
    assert (ran.code, ran.err) == (0, "")
    assert re.match(r"vllm/m on 1 x b200_sxm gives [\d,.]+ output tokens a second to [12] at once", words(ran.out))
    lines = ran.out.splitlines()
    [header] = [number for number, line in enumerate(lines) if line.startswith("at once")]
    rows = [line.split() for line in lines[header + 1 : header + 3]]
    assert [(row[0], row[-3:]) for row in rows] == [("1", ["64.0", "6.0", "8"]), ("2", ["64.0", "6.0", "8"])]
    assert max(map(len, lines)) <= 80
    file = Measurements.of_user().file
    assert f"2 of 2 levels stored in {file}".replace(" ", "") in "".join(ran.out.split())
    assert "llama-client crossover llama-3.1-8b --gpu b200_sxm --precision fp8 --engine vllm" in words(ran.out)
    kept = Measurements.of_user().read().points
    assert {subject_of(point) for point in kept} == {("llama-3.1-8b", "b200_sxm", 1, "fp8", "vllm")}
    assert [(point.concurrency, point.input_tokens, point.output_tokens) for point in kept] == [(1, 64, 6), (2, 64, 6)]


def test_json_is_one_document_that_says_all(server: WireServer) -> None:
    ran = run("bench", "vllm/m", *BRIEF, *ON_A_CARD, "--gpus", "2", "--json")
    assert (ran.code, ran.err) == (0, "")
    document = ran.document
    assert {name: document[name] for name in ("target", "model", "gpu", "n_gpus", "precision", "engine")} == {
        "target": "vllm/m",
        "model": "llama-3.1-8b",
        "gpu": "b200_sxm",
        "n_gpus": 2,
        "precision": "fp8",
        "engine": "vllm",
    }
    assert document["asked"] == {"input_tokens": 64, "output_tokens": 6}
    assert (document["stored_in"], document["stored_levels"]) == (str(Measurements.of_user().file), 2)
    assert (document["stopped"], document["usd"], document["unpriced_requests"]) == (None, None, 17)
    assert document["threads"] is None
    first, second = document["levels"]
    assert (first["concurrency"], second["concurrency"]) == (1, 2)
    point = Measurements.of_user().read().points[0]
    assert subject_of(point) == ("llama-3.1-8b", "b200_sxm", 2, "fp8", "vllm")
    assert first["output_tokens_per_s"] == point.output_tokens_per_s
    assert (first["ttft_ms"]["mean"], first["tpot_ms"]["mean"]) == (point.ttft_ms, point.tpot_ms)
    assert (first["answered"], first["failed"], first["errors"], first["estimated"]) == (8, 0, {}, 0)


def test_nothing_is_kept_where_that_is_not_wanted_or_not_all_is_known(server: WireServer) -> None:
    unwanted = run("bench", "vllm/m", *BRIEF, *ON_A_CARD, "--no-store")
    unknown = run("bench", "vllm/m", *BRIEF, "--gpu", "l4")
    assert (unwanted.code, unknown.code) == (0, 0)
    assert "tored" not in unwanted.out
    assert "Not stored, as the subject is not fully known: give --model, --precision" in words(unknown.out)
    assert not Measurements.of_user().file.exists()


@pytest.mark.parametrize("width", [40, 60])
def test_in_a_narrow_terminal_each_figure_stands_whole_beside_its_name(server: WireServer, width: int) -> None:
    ran = run("bench", "vllm/m", *BRIEF[:-1], "4", env={"COLUMNS": f"{width}"})
    assert max(map(len, ran.out.splitlines())) <= width
    for name, figure in (("tokens in", "64.0"), ("tokens out", "6.0"), ("requests", "4"), ("at once", "2")):
        assert re.search(rf"^{name} +{re.escape(figure)} *$", ran.out, re.MULTILINE)
    assert re.search(r"^tpot ms p95 +\d[\d,.]*\d *$", ran.out, re.MULTILINE)


def test_a_rate_above_the_data_sheet_is_not_kept_and_said_to_be_impossible(server: WireServer) -> None:
    # 8 GB of weights at 300 GB/s: 37 tokens a second to one, at most.
    ran = run("bench", "vllm/m", *BRIEF, *ON_A_CARD, "--gpu", "l4")
    assert ran.code == 0
    for part in ("Not stored, at 1 at once: ", "output tokens per second are impossible", "cannot exceed 37, the data"):
        assert part in words(ran.out)
    assert "levels stored" not in words(ran.out)
    assert "steady" not in words(ran.out)
    told = run("bench", "vllm/m", *BRIEF, *ON_A_CARD, "--gpu", "l4", "--json").document
    assert (told["stored_in"], told["stored_levels"]) == (None, 0)
    assert any("Not stored, at 2 at once: " in note for note in told["notes"])
    assert not Measurements.of_user().file.exists()


def test_a_server_that_claims_more_than_it_was_asked_for_is_not_believed(clean_home: Path) -> None:
    def boasting(_: Received) -> Answer:
        usage = {"prompt_tokens": 64, "completion_tokens": 4000}
        told = [
            OPENAI.event(OPENAI._chunk({}, "stop")),
            OPENAI.counted(usage),
        ]
        return streamed([*(OPENAI.text("hum ") for _ in range(6)), *told, b"data: [DONE]\n\n"], delay_s=0.002)

    with WireServer(boasting) as replay:
        configure(clean_home, replay)
        ran = run("bench", "vllm/m", *BRIEF, *ON_A_CARD)
    assert ran.code == 0
    assert "The server reported more output tokens than max_tokens, 6, which is not believed" in words(ran.out)
    assert "Not stored: no level had a steady phase with the server's own counts." in words(ran.out)
    assert not Measurements.of_user().file.exists()


def test_a_place_that_cannot_be_written_is_said_once_with_its_name(server: WireServer) -> None:
    file = Measurements.of_user().file
    file.mkdir(parents=True)
    ran = run("bench", "vllm/m", *BRIEF, *ON_A_CARD)
    assert ran.code == 0
    assert ran.err.startswith("llama-client: not stored: ")
    assert str(file) in ran.err
    assert "tored" not in ran.out


def test_a_server_that_does_not_answer_is_told_of_and_left_as_the_user_wants(
    clean_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "_SILENT_S", 0.2)
    monkeypatch.setattr("llama_client.providers.http.exchange._LIVENESS_TIMEOUT_S", 0.3)
    with WireServer(lambda _: silence()) as silent:
        configure(clean_home, silent, "[routing]\nfirst_content_s = 0.8\n")
        code = main(["bench", "vllm/m", *BRIEF])
    out, err = capfd.readouterr()
    first, _, last = err.splitlines()
    assert first == "llama-client: waiting for the first answer (a model may be loading), up to 0.8 s"
    assert (code, out, last) == (1, "", "Try: llama-client doctor")


def test_answers_that_are_shorter_than_asked_for_are_told(server: WireServer) -> None:
    ran = run("bench", "vllm/m", *BRIEF[:4], "--output-tokens", "50", "--requests", "4")
    assert "The model stopped early: its answers have 6 tokens on average, not 50." in words(ran.out)


def test_what_costs_money_is_not_begun_without_a_word(clean_home: Path, server: WireServer) -> None:
    configure(clean_home, server, PRICE)
    for form in ([], ["--json"]):
        ran = run("bench", "vllm/m", *BRIEF, *form)
        assert ran.code == 2
        assert "17 requests to vllm/m will cost about $0.00" in words(ran.err)
        assert "give --yes to spend it" in words(ran.err)
        if form:
            assert "give --yes" in ran.document["error"]["message"]
    assert server.requests == []
    ran = run("bench", "vllm/m", *BRIEF, "--yes", "--json")
    assert (ran.code, Decimal(ran.document["usd"])) == (0, 17 * Decimal("0.000076"))


def test_a_price_that_nobody_knows_is_no_price_of_nothing(clean_home: Path) -> None:
    (clean_home / "work" / "llama-client.toml").write_text(
        "[providers.far]\nkind = 'openai'\nbase_url = 'http://192.0.2.1/v1'\n", encoding="utf-8"
    )
    ran = run("bench", "far/m", *BRIEF)
    assert ran.code == 2
    assert "17 requests to far/m, at an unknown price: give --yes" in words(ran.err)


def test_a_machine_that_is_paid_by_the_hour_is_asked_without_a_word(clean_home: Path, server: WireServer) -> None:
    configure(clean_home, server, "usd_per_hour = 2\n")
    ran = run("bench", "vllm/m", *BRIEF, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert 0 < Decimal(ran.document["usd"]) < 1


@pytest.mark.parametrize(("answer", "code"), [("n", 130), ("y", 0)])
def test_on_a_terminal_it_asks(answer: str, code: int, clean_home: Path, server: WireServer) -> None:
    configure(clean_home, server, PRICE)
    with on_terminal("bench", "vllm/m", *BRIEF) as terminal:
        terminal.read_until("Continue? [y/N]: ")
        assert server.requests == []
        terminal.type(f"{answer}\r")
        assert terminal.end() == code
    assert bool(server.requests) == (code == 0)


def test_a_run_that_cannot_go_on_shows_what_it_has_and_fails(clean_home: Path, server: WireServer) -> None:
    for form in ([], ["--json"]):
        (clean_home / "work" / "llama-client.toml").write_text(
            f"[ledger]\nurl = 'sqlite:///ledger{len(form)}.db'\n[[budgets]]\nusd = 0.001\nwindow = 'total'\n"
            f"[providers.vllm]\nkind = 'openai'\nbase_url = '{server.url}/v1'\n{PRICE}",
            encoding="utf-8",
        )
        ran = run("bench", "vllm/m", *BRIEF, "--yes", *form)
        assert ran.code == 1
        assert "at 1 at once 1 request failed, the last with BudgetExceededError: " in words(ran.err)
        if form:
            assert "BudgetExceededError" in ran.document["stopped"]
            assert [level["answered"] > 0 for level in ran.document["levels"]] == [True]
        else:
            assert "output tokens a second to 1 at once." in words(ran.out)


def test_a_target_that_refuses_is_told_with_its_name_and_what_to_do(clean_home: Path) -> None:
    with WireServer(lambda _: as_json({"error": {"message": "no such model"}}, status=404)) as refusing:
        configure(clean_home, refusing)
        ran, told = run("bench", "vllm/m"), run("bench", "vllm/m", "--json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "llama-client: vllm/m: no such model\nTry: llama-client models\n"
    assert (told.code, told.document["error"]["type"]) == (1, "ModelNotFoundError")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody/m"], "no provider is named 'nobody'"),
        (["vllm/m", "--concurrency", "1,two"], "must be whole numbers such as 1,8,32, got '1,two'"),
        (["vllm/m", "--concurrency", "0"], "concurrency: must be from 1 to 512, got 0"),
        (["vllm/m", "--seconds", "0"], "seconds: must be above 0"),
        (["vllm/m", "--gpus", "2"], "--gpus is the number of --gpu: give one"),
        (["vllm/m", "--gpu", "h100_smx"], "gpu: 'h100_smx' is not in the tables; did you mean 'h100_sxm'?"),
        (["vllm/m", "--model", "llama-3.1-9b"], "model: 'llama-3.1-9b' is not in the tables; did you mean"),
        (["vllm/m", "--precision", "fp7"], "precision: 'fp7' is not in the tables; did you mean"),
        ([], "Missing argument 'TARGET'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(server: WireServer, arguments: list[str], says: str) -> None:
    ran = run("bench", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in words(ran.err)
    assert server.requests == []


def test_ctrl_c_leaves_nothing_open_and_nothing_half_written(clean_home: Path) -> None:
    busy = threading.Event()

    def endless(request: Received) -> Answer:
        if len(slow.requests) == 1:
            return good(request)
        if len(slow.requests) == 4:
            busy.set()
        return streamed([OPENAI.text("hum ")] * 5000, delay_s=0.01)

    with WireServer(endless) as slow:
        configure(clean_home, slow)
        with running("bench", "vllm/m", *ON_A_CARD, "--concurrency", "3") as process:
            assert busy.wait(60)
            process.send_signal(signal.SIGINT)
            ran = finished(process)
        assert slow.wait_until_idle()
    assert (ran.code, ran.out) == (130, "")
    assert not Measurements.of_user().file.exists()


def test_a_bar_is_drawn_on_a_terminal_alone(server: WireServer) -> None:
    # As rich is told of a terminal that is not one of the system's.
    terminal = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "TERM": "xterm"}
    drawn = run("bench", "vllm/m", *BRIEF, "--json", env=terminal)
    assert "2 at once" in drawn.err
    assert "/17" in drawn.err
    assert drawn.document["target"] == "vllm/m"
    assert run("bench", "vllm/m", *BRIEF).err == ""


def test_local_only_measures_only_what_is_here(clean_home: Path, server: WireServer) -> None:
    config = clean_home / "work" / "llama-client.toml"
    config.write_text(
        f"local_only = true\n{config.read_text(encoding='utf-8')}"
        "[providers.far]\nkind = 'openai'\nbase_url = 'http://192.0.2.1/v1'\n",
        encoding="utf-8",
    )
    assert run("bench", "vllm/m", *BRIEF).code == 0
    ran = run("bench", "far/m", *BRIEF, "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert "local_only is on" in ran.err


def test_its_calls_are_nobodys_traffic(clean_home: Path, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "true")
    assert run("bench", "vllm/m", *BRIEF).code == 0
    with LlamaClient() as client:
        assert client.costs.report().calls == 17
        assert client.costs.traffic().calls == 0


def test_of_a_model_in_this_process_it_says_with_how_many_threads_and_why(config_file: Path) -> None:
    brief = ("--concurrency", "1", "--input-tokens", "8", "--output-tokens", "2", "--requests", "1", "--no-store")
    assert "The CPU computes with 1 thread: n_threads in the configuration." in words(
        run("bench", "laptop/default", *brief).out
    )


@pytest.mark.long
def test_a_model_in_this_process_needs_no_word_and_tells_its_limits(config_file: Path) -> None:
    ran: Ran = run("bench", "laptop/default", *BRIEF[:-1], "3", "--ignore-eos", "--model", "llama-3.2-1b", "--json")
    assert ran.code == 0
    document: dict[str, Any] = ran.document
    assert (document["engine"], document["usd"]) == ("llama.cpp", "0")
    assert [level["mean_output_tokens"] for level in document["levels"]] == [6, 6]
    assert any("Only 1 at once leave this client" in note for note in document["notes"])
