"""`llama-client crossover`, in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.testing.loopback import WireServer
from tests.cli.conftest import on_terminal, run
from tests.routing.asking import MESSAGES, config, good

PAIR = ("llama-3.3-70b", "--gpu", "h100_sxm", "--gpus", "2")
PRICED = ("--api-input", "0.88", "--api-output", "0.88")
WORKED = ("--tokens-per-second", "4205", "--slo-derate", "0.6", "--max-utilisation", "0.85", "--output-share", "0.5")


def document(*arguments: str) -> Any:
    done = run("crossover", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return done.document


def test_the_options_are_the_scenario() -> None:
    found = document(
        *PAIR, *PRICED, *WORKED, "--gpu-usd-per-hour", "2.69", "--ops-usd-per-month", "2000", "--spare", "0"
    )
    assert found["verdict"] == "depends"
    assert found["first_crossing"] == pytest.approx(7.41e9, rel=0.001)
    assert found["intervals"][-1][1] is None
    assert {"probability", "band", "assumptions", "what_would_flip", "hybrid", "swings"} <= set(found)
    given = {each["name"] for each in found["assumptions"] if each["is_given"]}
    assert {"tokens_per_second", "slo_derate", "max_utilisation", "output_share", "gpu_usd_per_hour", "spare"} <= given


def test_a_volume_may_be_written_as_people_do_and_gets_a_verdict_of_its_own() -> None:
    low, high = (
        document(*PAIR, *PRICED, "--gpu-usd-per-hour", "1", "--volume", volume, "--draws", "0")
        for volume in ("1M", "9.5G")
    )
    assert (low["volume"], low["verdict"]) == (1e6, "api")
    assert (high["volume"], high["verdict"]) == (9.5e9, "self-host")
    assert high["self_host_usd_per_month"] < high["api_usd_per_month"]
    assert high["band"] is None


def test_never_and_no_api_are_answers() -> None:
    assert document(*PAIR, "--api-input", "0.01", "--api-output", "0.01")["verdict"] == "never"
    gone = document("llama-2-7b", "--gpu", "h100_sxm")
    assert gone["verdict"] == "no-api"
    assert gone["sentence"].startswith("None of the ")
    assert {each["name"].split()[0] for each in gone["ended_apis"]} == {"Cloudflare"}
    # Sold by others than those of the catalogue, and said so.
    assert document("llama-4-scout", "--draws", "0")["apis"][0]["provider"] == "DeepInfra"


def test_without_a_gpu_the_cheapest_machine_is_compared_and_the_others_are_named() -> None:
    found = document("llama-3.1-8b", "--draws", "0")
    assert found["other_machines"]
    done = run("crossover", "llama-3.1-8b", "--draws", "0")
    assert "Other machines, next cheapest first" in done.out


def test_the_terminal_says_the_verdict_first_and_fits_into_80_columns() -> None:
    done = run("crossover", *PAIR, *PRICED, "--volume", "1G", env={"COLUMNS": "80"})
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "at 1 G tokens a day" in lines[0]
    assert all(len(line.rstrip()) <= 80 for line in lines)
    for heading in ("Where both would cost the same, each figure on its own", "What it rests on"):
        assert heading in lines


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("lama-3.3-70b",), "MODEL: 'lama-3.3-70b' is not in the tables; did you mean 'llama-3.3-70b'?"),
        (("llama-3.3-70b", "--gpu", "h100"), "--gpu: 'h100' is not in the tables; did you mean"),
        (("llama-3.3-70b", "--gpu", "h100_sxm", "--gpus", "1"), "so 4.0 GB are missing; would fit: 2 GPUs"),
        (
            ("llama-3.3-70b", "--gpu", "h100_sxm", "--gpus", "6"),
            "--gpus: the 64 attention heads of llama-3.3-70b cannot be split by 6; the nearest that can be: 4 or 8",
        ),
        (
            (*PAIR, "--precision", "nvfp4", "--engine", "trtllm"),
            "--precision: H100 SXM has no arithmetic of 4 bits, which trtllm needs for 'nvfp4'; give 'bf16' or 'fp8'",
        ),
        ((*PAIR, "--computer-usd", "5000"), "--computer-usd: goes with --buy"),
        ((*PAIR, "--buy", "0", "--computer-usd", "-5"), "--computer-usd: must be a number of at least 0, got -5"),
        ((*PAIR, "--buy", "0", "--gpus-per-computer", "0"), "--gpus-per-computer: must be a whole number from 1 to"),
        (("llama-3.3-70b", "--buy", "2000"), "--buy: a price needs --gpu, whose price it is; 0 takes the known ones"),
        (("llama-3.1-8b", "--gpu", "m1_max", "--buy", "0"), "--buy: no price is known for the M1 Max; give its price"),
        ((*PAIR, "--gpu-usd-per-hour", "-2"), "--gpu-usd-per-hour: must be a number above 0, got -2"),
        ((*PAIR, "--api-input", "-0.1", "--api-output", "1"), "--api-input: must be a number of at least 0, got -0.1"),
        ((*PAIR, "--api-input", "1"), "--api-output: is required beside the other price"),
        ((*PAIR, "--output-share", "20"), "--output-share: must be a number above 0 and up to 1, got 20"),
        ((*PAIR, "--volume", "many"), "'many' is no number of tokens, such as 20000, 500M or 1.2G"),
        ((*PAIR, "--volume", "0"), "--volume: must be a number above 0, got 0"),
        ((*PAIR, "--volume", "1e400"), "--volume: must be a number up to 1e+18, got inf"),
        (
            (*PAIR, "--tokens-per-second", "1e6"),
            "--tokens-per-second: 1,000,000 output tokens per second are impossible",
        ),
        ((*PAIR, "--api", "groq/llama-3.3-70b-versatile"), "groq retired llama-3.3-70b-versatile on 2026-08-16"),
        ((*PAIR, "--buy", "30000", "--gpu-usd-per-hour", "2"), "a machine is bought or rented"),
        ((*PAIR, "--draws", "-5"), "--draws: must be a whole number from 0 to 1,000,000, got -5"),
        ((*PAIR, "--seed", "-1"), "--seed: must be a whole number from 0 to"),
        (("llama-3.3-70b", "--gpu", "h100_sxm", "--gpus", "2000"), "--gpus: must be from 1 to 1024, got 2000"),
        ((*PAIR, "--api", "foo"), "--api: 'foo' is not in the tables"),
        (("llama-3.3-70b", "--api", "DeepInfra"), "; known are DeepInfra/meta-llama/Llama-3.3-70B-Instruct-Turbo\n"),
        ((*PAIR, "--tokens-per-request", "1e9"), "--tokens-per-request: "),
        ((*PAIR, "--ops-usd-per-month", "1e308"), "--ops-usd-per-month: must be a number up to 1e+12"),
        (("llama-3.3-70b", "--gpu", ""), "--gpu: must not be empty"),
        ((*PAIR, "--plot", "x.jpg"), "--plot: the file must end in .png or .svg"),
        ((*PAIR, "--html", "x.txt"), "--html: the file must end in .html"),
        ((*PAIR, "--plot", "no/where/x.png"), "--plot: no/where/x.png cannot be written"),
        ((*PAIR, "--since", "7d"), "--since and --ledger-target go with --from-ledger"),
        (("llama-3.3-70b", "--gpus", "2"), "--gpus: needs --gpu"),
        (
            ("llama-3.3-70b", "--gpu", "rtx_5090", "--gpus", "4"),
            "--gpu-usd-per-hour: no quote known for renting the RTX 5090",
        ),
        ((*PAIR, "--from-ledger"), "--from-ledger: the ledger is switched off"),
        (
            (*PAIR, "--own-cached-share", "1.5"),
            "--own-cached-share: must be a number of at least 0 and up to 1, got 1.5",
        ),
        (
            (*PAIR, "--own-cached-share", "0.5", "--tokens-per-second", "2000"),
            "--own-cached-share: a measured rate has what its cache saves",
        ),
        ((*PAIR, "--grid-g-per-kwh", "-1"), "--grid-g-per-kwh: must be a number of at least 0"),
    ],
)
def test_wrong_use_names_the_option_and_what_would_be_right(arguments: tuple[str, ...], wanted: str) -> None:
    done = run("crossover", *arguments)
    assert done.code == 2, done
    assert wanted in done.err
    assert done.out == ""
    assert not list(Path.cwd().glob("x.*"))


def test_a_purchase_tells_when_it_has_paid_for_itself() -> None:
    found = document(*PAIR, *PRICED, "--buy", "0", "--volume", "2G", "--peak-to-mean", "1.3")
    servers = -(-2 * found["replicas"] // 8)
    assert found["hardware"]["words"] == f"{8 * servers} GPUs in {servers} servers of 8".replace(
        "1 servers", "1 server"
    )
    assert found["investment"]["price_usd"] == servers * (8 * 30_000 + 70_000)
    assert found["investment"]["payback_months"] > 0
    assert found["investment"]["cash_usd"][0] == -found["investment"]["price_usd"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("llama-3.3-70b", "--gpu", "h100_sxm"), ("of 2 x H100 SXM, fp8",)),
        (
            ("llama-3.3-70b", "--gpu", "h100_sxm", "--precision", "nvfp4"),
            ("The H100 SXM has no arithmetic for nvfp4: vLLM keeps the weights in it and computes in 16 bits.",),
        ),
        (
            ("llama-3.3-70b", "--gpu", "m3_ultra", "--buy", "0"),
            (
                "The machine is slower than asked: answers would come at 14 tokens a second instead of 20 and begin",
                "after 16 s instead of 2 s; the cost is that at its own speed.",
                "Why ",
                "The purchase of $",
            ),
        ),
        (
            ("llama-3.1-8b", "--gpu", "rtx_4090", "--buy", "2000", "--volume", "2G", "--gpus-per-computer", "8"),
            ("The purchase of $38,000 (9 GPUs in 2 workstations of 8)",),
        ),
        (
            ("llama-3.1-8b", "--gpu", "rtx_4090", "--buy", "2000", "--volume", "2G", "--computer-usd", "0"),
            ("The purchase of $18,000 (9 GPUs in ",),
        ),
        (("llama-3.1-8b", "--buy", "0", "--volume", "1G"), ("Other machines, next cheapest first", "a GPU ")),
    ],
    ids=["gpu alone", "four bits on Hopper", "a bought Mac", "computers around", "none around", "any machine"],
)
def test_a_machine_that_exists_is_answered_plainly(arguments: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    done = run("crossover", *arguments, "--draws", "0", env={"COLUMNS": "400"})
    assert (done.code, done.err) == (0, "")
    told = " ".join(done.out.split())
    for each in wanted:
        assert each.strip() in told


def test_pictures_and_the_page_are_written_whole(clean_home: Path) -> None:
    files = [clean_home / "work" / name for name in ("cost.png", "cost.svg", "report.html")]
    for file in files[:2]:
        done = run("crossover", *PAIR, *PRICED, "--volume", "1G", "--plot", str(file), "--draws", "500")
        assert (done.code, done.err) == (0, f"The picture is in {file}\n")
    done = run("crossover", *PAIR, *PRICED, "--volume", "1G", "--html", str(files[2]), "--json")
    assert (done.code, done.err) == (0, f"The page is in {files[2]}\n")
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in files[1].read_text(encoding="utf-8")
    page = files[2].read_text(encoding="utf-8")
    assert done.document["sentence"].replace("'", "&#x27;") in page
    assert page.rstrip().endswith("</html>")


def test_an_empty_ledger_says_so(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    (clean_home / "work" / "llama-client.toml").write_text("[ledger]\nurl = 'sqlite:///ledger.db'\n", encoding="utf-8")
    done = run("crossover", *PAIR, "--from-ledger")
    assert (done.code, done.out) == (2, "")
    assert "--from-ledger: no answered call is recorded" in done.err


def test_the_traffic_may_come_from_ones_own_calls(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    url = f"sqlite:///{clean_home / 'work' / 'ledger.db'}"
    with WireServer(good()) as one, LlamaClient(config(one, ledger={"url": url})) as client:
        usages = [client.chat.completions.create(messages=MESSAGES, model="a/m").usage for _ in range(5)]
    (clean_home / "work" / "llama-client.toml").write_text(
        "[ledger]\nurl = 'sqlite:///ledger.db'\n[providers.a]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\n",
        encoding="utf-8",
    )
    found = document(*PAIR, *PRICED, "--from-ledger")
    total = sum((usage.prompt_tokens or 0) + (usage.completion_tokens or 0) for usage in usages)
    assert len(usages) == 5
    # Within one hour, of a period that counts as a day.
    assert found["volume"] == pytest.approx(total)
    named = {each["name"]: each for each in found["assumptions"]}
    assert named["output_share"]["value"] == pytest.approx(
        sum(usage.completion_tokens or 0 for usage in usages) / total
    )
    assert named["output_share"]["source"] == "your ledger: 5 calls in a day"
    # All in one of its 24 hours; or, where that ended meanwhile, in two.
    assert 12 < named["peak_to_mean"]["value"] <= 24
    assert any("Your ledger has 5 calls" in note for note in found["notes"])
    said = document(*PAIR, *PRICED, "--from-ledger", "--volume", "3G")
    assert said["volume"] == 3e9


def test_the_users_own_tables_are_known(clean_home: Path) -> None:
    (clean_home / "work" / "llama-client.toml").write_text(
        "[[crossover.gpus]]\nname = 'own_card'\nmemory_gib = 96\nbandwidth_gb_per_s = 3000\nmemory_kind = 'hbm'\n"
        "bf16_tflops = 800\nfp8_tflops = 1600\n"
        "[[crossover.gpu_prices]]\ngpu = 'own_card'\nprovider = 'us'\nusd_per_gpu_hour = 1.25\n",
        encoding="utf-8",
    )
    os.chdir(clean_home / "work")
    found = document("llama-3.1-8b", "--gpu", "own_card", *PRICED)
    rent = next(each for each in found["assumptions"] if each["name"] == "gpu_usd_per_hour")
    assert (rent["value"], rent["source"].split(":")[0]) == (1.25, "us")


def test_an_answer_that_cannot_be_is_told_at_once_and_a_machine_that_nobody_rents_is_bought() -> None:
    with on_terminal("crossover", "--draws", "0") as terminal:
        for told, answer in (
            ("Which model [llama-3.3-70b]: ", ""),
            ("empty: any): ", "1e30"),
            ("must be a number up to 1e+18", "0"),
            ("must be a number above 0", "50M"),
            ("empty: not known): ", ""),
            ("empty: the cheapest to rent): ", "6 x h100_sxm"),
            ("the 64 attention heads of llama-3.3-70b cannot be split by 6", "0 x h100_sxm"),
            ("must be a whole number from 1 to", "m1_max"),
            ("neither a rent nor a price of the M1 Max is known", "m3_ultra"),
        ):
            terminal.read_until(told)
            terminal.type(f"{answer}\n")
        shown = " ".join(terminal.read_to_the_end().split())
        assert terminal.end() == 0
    assert "llama-client crossover llama-3.3-70b --volume 50M --gpu m3_ultra --buy 0" in shown


def test_without_a_model_it_asks_on_a_terminal_for_what_it_needs() -> None:
    with on_terminal("crossover", "--draws", "0") as terminal:
        for question, answer in (
            ("Which model [llama-3.3-70b]: ", "lama-3.3-70b"),
            ("did you mean 'llama-3.3-70b'?", ""),
            ("Tokens a day", "many"),
            ("is no number of tokens", "2G"),
            ("busiest hour", "0.5"),
            ("must be a number from 1 to 10,000", "1.3"),
            ("Which GPUs", "2 x H100"),
            ("did you mean", "2 x h100 sxm"),
        ):
            terminal.read_until(question)
            terminal.type(f"{answer}\n")
        shown = " ".join(terminal.read_to_the_end().split())
        assert terminal.end() == 0
    same = "llama-client crossover llama-3.3-70b --volume 2G --peak-to-mean 1.3 --gpu h100_sxm --gpus 2"
    assert f"The same without questions: {same}" in shown
    asked = run(*same.split()[1:], "--draws", "0")
    assert asked.out.split()[:12] == shown.partition(same)[2].split()[:12]


def test_no_answer_takes_what_is_usual() -> None:
    with on_terminal("crossover", "--draws", "0") as terminal:
        for question in ("Which model", "Tokens a day", "busiest hour", "Which GPUs"):
            terminal.read_until(question)
            terminal.type("\n")
        shown = terminal.read_to_the_end()
        assert terminal.end() == 0
    assert "The same without questions: llama-client crossover llama-3.3-70b\r" in shown


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_where_nobody_can_be_asked_a_missing_model_is_an_error(more: tuple[str, ...]) -> None:
    done = run("crossover", *more)
    assert done.code == 2
    assert "MODEL: is missing, as in llama-3.3-70b" in (done.out if more else done.err)


def test_a_fleet_follows_the_hours_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_text("hour,tokens\n" + "\n".join(f"{hour},{30e6 if 8 <= hour < 16 else 1e6}" for hour in range(24)))
    asked = (*PAIR, *PRICED, "--gpu-usd-per-hour", "2.69", "--hours", str(file), "--fleet", "--draws", "0")
    found = document(*asked)
    assert found["volume"] == pytest.approx(256e6)
    fleet = found["fleet"]
    assert (fleet["hours"], fleet["tokens_per_day"]) == (24, pytest.approx(256e6))
    assert sum(part["usd_per_month"] for part in fleet["parts"]) + fleet["fixed_usd_per_month"] == pytest.approx(
        fleet["usd_per_month"]
    )
    assert {"all on demand", "all API"} <= {each["name"] for each in fleet["considered"]}
    shown = run("crossover", *asked, "--html", str(tmp_path / "fleet.html"))
    assert shown.code == 0
    page = (tmp_path / "fleet.html").read_text(encoding="utf-8")
    for heading in ("The cheapest fleet for 256 M", "Why this fleet", "What else was considered", "What it rests on"):
        assert f">{heading}" in page
    assert "The cheapest fleet for 256 M tokens a day, hour by hour" in shown.out
    assert "What else was considered" in shown.out


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        ("1\nmany\n", (), "--hours: line 2: must be a number of tokens, got 'many'"),
        ("0\n", (), "--hours: hours.csv must have an hour with a load"),
        ("1\n", ("--peak-to-mean", "2"), "--hours: has the load and its peak; leave out --peak-to-mean"),
        ("1\n", ("--from-ledger",), "--hours: has the load and its peak; leave out --from-ledger"),
    ],
    ids=["word", "no-load", "peak", "ledger"],
)
def test_a_wrong_file_of_hours_is_told(content: str, more: tuple[str, ...], says: str, tmp_path: Path) -> None:
    file = tmp_path / "hours.csv"
    file.write_text(content)
    done = run("crossover", *PAIR, "--hours", str(file), *more)
    assert done.code == 2
    assert says in " ".join(done.err.split())
