"""`llama-client costs`, in a process of its own, over a ledger that real calls were written to."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llama_client import LlamaClient
from llama_client.testing.loopback import WireServer
from tests.cli.conftest import Ran, on_terminal, run
from tests.costs.filling import Spent, ago, fill
from tests.routing.asking import MESSAGES, config, good

PRICES = [{"target": "a/m", "input_usd_per_mtok": 100, "output_usd_per_mtok": 1000}]
HEADER = [
    "key", "calls", "input_tokens", "output_tokens", "usd", "unpriced_calls", "errors", "cached_calls", "saved_usd",
]  # fmt: skip
HOSTILE = "\x1b]0;owned\x07[red]x\u202e:cat:"


@pytest.fixture(autouse=True)
def ledger(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a ledger that is switched on and empty, which the configuration in the working folder names."""
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED", raising=False)
    file = clean_home / "work" / "ledger.db"
    (clean_home / "work" / "llama-client.toml").write_text(
        "[ledger]\nurl = 'sqlite:///ledger.db'\n[providers.a]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\n",
        encoding="utf-8",
    )
    return file


@pytest.fixture
def asked(ledger: Path) -> Decimal:
    """Two calls to a target with a price, one of them of Ann's, and one to a target without; returns what they cost."""
    url = f"sqlite:///{ledger}"
    with WireServer(good()) as one, WireServer(good()) as other:
        with LlamaClient(config(one, other, prices=PRICES, ledger={"url": url})) as client:
            create = client.chat.completions.create
            costs = [create(messages=MESSAGES, model="a/m").cost.usd]
            costs.append(create(messages=MESSAGES, model="a/m", tags={"user": "ann"}).cost.usd)
            assert create(messages=MESSAGES, model="b/m").cost.usd is None
    assert None not in costs
    return sum((usd for usd in costs if usd is not None), Decimal(0))


def rows(ran: Ran) -> list[list[str]]:
    """A table's lines as words."""
    assert (ran.code, ran.err) == (0, "")
    return [line.split() for line in ran.out.splitlines()]


def test_the_table_has_a_row_a_group_and_says_apart_what_is_not_known(asked: Decimal) -> None:
    ran = run("costs")
    table = rows(ran)
    assert table[0] == ["target", "calls", "input", "output", "spent", "unpriced", "errors"]
    assert table[1][:2] + table[1][4:] == ["a/m", "2", f"${asked}"]
    assert table[2][:2] + table[2][4:] == ["b/m", "1", "-", "1"]
    assert f"${asked} spent in 3 calls." in ran.out
    assert "1 call has a part of unknown cost, not included in the sums: b/m" in " ".join(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("provider", ["a", "b"]),
        ("target", ["a/m", "b/m"]),
        ("route", [""]),
        ("tag:user", ["", "ann"]),
    ],
)
def test_it_groups_by_what_was_asked_for(asked: Decimal, by: str, keys: list[str]) -> None:
    groups = run("costs", "--by", by, "--json").document["groups"]
    assert sorted(group["key"] for group in groups) == keys
    assert sum(Decimal(group["usd"]) for group in groups) == asked
    first = run("costs", "--by", by).out.split()
    assert first[0] == by
    assert ("(none)" in first) == ("" in keys)


def test_days_are_groups_in_their_order(ledger: Path) -> None:
    fill(ledger, [Spent("a/m", "1", ago(0)), Spent("a/m", "2", ago(5)), Spent("a/m", "3", ago(3))])
    groups = run("costs", "--by", "day", "--json").document["groups"]
    assert [group["key"] for group in groups] == [ago(days).isoformat() for days in (5, 3, 0)]


def test_json_is_one_document_with_exact_money_and_nothing_else(ledger: Path) -> None:
    fill(
        ledger, [Spent("a/m", "0.0000000375"), Spent("a/m", None), Spent("b/m", "0", error="ServerError")], lost_calls=2
    )
    ran = run("costs", "--json", "--since", "7d")
    assert (ran.code, ran.err) == (0, "")
    document = ran.document
    assert datetime.fromisoformat(document.pop("since")).tzinfo is not None
    cached = {"cached_calls": 0, "saved_usd": "0"}
    group = {"input_tokens": 200, "output_tokens": 40, "unpriced_calls": 1, "errors": 0, **cached}
    nothing = {"input_tokens": 100, "output_tokens": 20, "unpriced_calls": 0, "errors": 1, **cached}
    assert document == {
        "total_usd": "0.0000000375",
        "calls": 3,
        "unpriced_calls": 1,
        "unrecorded_calls": 2,
        "cached_calls": 0,
        "saved_usd": "0",
        "groups": [
            {"key": "a/m", "calls": 2, "usd": "0.0000000375", **group},
            {"key": "b/m", "calls": 1, "usd": "0", **nothing},
        ],
    }
    assert list(document["groups"][0]) == HEADER


def test_csv_is_read_back_as_it_was_written(ledger: Path) -> None:
    names = ['say "hum", twice', "a\r\nb", "c\rd", "=1+1", "日本", "plain"]
    fill(ledger, [Spent("a/m", "0.0000000375", tags={"user": name}) for name in names])
    ran = run("costs", "--csv", "--by", "tag:user")
    assert (ran.code, ran.err) == (0, "")
    header, *found = csv.reader(io.StringIO(ran.out, newline=""), strict=True)
    assert header == HEADER
    assert sorted(row[0] for row in found) == sorted(names)
    assert {tuple(row[1:]) for row in found} == {("1", "100", "20", "0.0000000375", "0", "0", "0", "0")}
    assert ran.out.startswith(",".join(HEADER) + "\n")
    assert ran.out.endswith("\n")


def test_since_leaves_out_what_was_before(ledger: Path) -> None:
    fill(ledger, [Spent("a/m", "1", ago(20)), Spent("a/m", "2", ago(3)), Spent("a/m", "4")])
    assert run("costs", "--json").document["total_usd"] == "7"
    assert run("costs", "--json", "--since", "7d").document["total_usd"] == "6"
    assert run("costs", "--json", "--since", ago(3).isoformat()).document["total_usd"] == "6"
    assert run("costs", "--json", "--since", ago(2).isoformat()).document["total_usd"] == "4"
    assert f"since {ago(2)} 00:00" in run("costs", "--since", ago(2).isoformat()).out


def test_budgets_say_what_is_spent_set_aside_and_left_and_when_they_begin_anew(clean_home: Path, ledger: Path) -> None:
    budgets: list[dict[str, Any]] = [
        {"usd": 1, "window": "month"},
        {"usd": 0.001, "window": "total", "on_exceeded": "warn"},
    ]
    tables = {"prices": PRICES, "ledger": {"url": f"sqlite:///{ledger}"}, "budgets": budgets, "timezone": "Asia/Tokyo"}
    with WireServer(good()) as server:
        with LlamaClient(config(server, **tables)) as client:
            usd = client.chat.completions.create(messages=MESSAGES, model="a/m", max_tokens=50).cost.usd
    assert usd is not None
    path = clean_home / "work" / "llama-client.toml"
    path.write_text(
        f"timezone = 'Asia/Tokyo'\n{path.read_text(encoding='utf-8')}"
        "[[budgets]]\nusd = 1\nwindow = 'month'\n[[budgets]]\nusd = 0.001\nwindow = 'total'\non_exceeded = 'warn'\n",
        encoding="utf-8",
    )
    lines = run("costs").out.splitlines()
    month, total = (index for index, line in enumerate(lines) if line.startswith("Budget "))
    assert re.fullmatch(r"Budget all a month: \$1\.00, resets \d{4}-\d\d-01 00:00 Asia/Tokyo", lines[month])
    assert lines[month + 1] == f"  ${usd} spent, $0.00 reserved, ${1 - usd} left"
    assert lines[total] == "Budget all in total: $0.001"
    assert lines[total + 1] == f"  ${usd} spent, $0.00 reserved, over by ${usd - Decimal('0.001')}"


def test_calls_that_were_not_written_down_are_told(ledger: Path) -> None:
    fill(ledger, [Spent("a/m", "1")], lost_calls=1)
    ran = run("costs")
    assert "The cost of every call is known." in ran.out
    assert "1 call was not recorded, or not completely, and not included above." in ran.out


def test_without_calls_it_says_where_they_would_come_from(clean_home: Path, ledger: Path) -> None:
    ran = run("costs")
    assert (ran.code, ran.err) == (0, "")
    assert "No calls are recorded. Each call through llama_client is" in ran.out
    assert not ledger.exists(), "who only looks creates nothing"
    assert run("costs", "--csv").out == ",".join(HEADER) + "\n"
    assert run("costs", "--json").document["groups"] == []
    picture = run("costs", "--plot", "costs.png")
    assert (picture.code, picture.err) == (0, "llama-client: no calls, so costs.png is not drawn\n")
    assert not Path("costs.png").exists()
    path = clean_home / "work" / "llama-client.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[ledger]", "[ledger]\nenabled = false"), encoding="utf-8")
    assert "ledger.enabled = false" in run("costs").out


def test_a_png_is_one_and_the_table_is_there_too(asked: Decimal) -> None:
    ran = run("costs", "--plot", "costs.png")
    assert ran.code == 0
    assert "Wrote costs.png\n" in ran.err
    assert f"${asked} spent in 3 calls." in ran.out
    assert Path("costs.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in Path().iterdir() if "costs" in path.name or path.name.startswith(".")] == [
        "costs.png"
    ]


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_a_picture_may_go_beside_another_form_that_stays_alone_on_stdout(asked: Decimal, form: str) -> None:
    ran = run("costs", form, "--by", "day", "--plot", "costs.svg")
    assert ran.code == 0
    assert ran.out == run("costs", form, "--by", "day").out
    texts = ["".join(each.itertext()).strip() for each in ElementTree.parse("costs.svg").getroot().iter()]
    assert "Costs by target" in texts
    assert f"a/m  ${asked}" in texts
    assert "b/m  1 unpriced" in texts


def test_a_chart_in_the_terminal_has_a_line_a_day(ledger: Path) -> None:
    calls = [Spent("a/m", "0.75", ago(2)), Spent("b/m", "0.25", ago(2)), Spent("a/m", "0.5"), Spent("c/m", None)]
    fill(ledger, calls)
    ran = run("costs", "--plot", "--by", "target")
    table = rows(ran)
    assert table[0] == ["US", "dollars", "a", "day"]
    assert [line[0] for line in table[1:4]] == [str(ago(days)) for days in (2, 1, 0)]
    assert [line[-1] for line in table[1:4]] == ["$1.00", "$0.00", "unpriced"]
    assert "calls spent" not in ran.out
    assert "$1.50 spent in 4 calls." in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert run("costs", "--plot", "--by", "day").out.splitlines()[:4] == ran.out.splitlines()[:4]
    assert run("costs", "--plot", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}).out.isascii()


def test_names_cannot_steer_the_terminal(ledger: Path) -> None:
    fill(ledger, [Spent("a/m", usd, tags={"user": HOSTILE}) for usd in ("1", None)])
    shown = "".join(run("costs", "--by", "tag:user", *more).out for more in ([], ["--plot"]))
    with on_terminal("costs", "--by", "tag:user", "--csv") as terminal:
        shown += terminal.read_until(",2,").replace("\r\n", "\n")
        assert terminal.end() == 0
    assert shown.count("[red]x") >= 4
    assert ":cat:" in shown
    assert not any(sign in shown for sign in ("\x1b", "\x07", "\u202e", "\r"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--json", "--csv"], "give one of them"),
        (["--csv", "--plot"], "FILE.png or FILE.svg"),
        (["--plot", "--json"], "FILE.png or FILE.svg"),
        (["--plot", "costs.pdf"], "must end in .png or .svg, got 'costs.pdf'"),
        (["--plot", "costs"], "must end in .png or .svg, got 'costs'"),
        (["--plot", "nowhere/costs.png"], "nowhere/costs.png cannot be written: No such file or directory"),
        (["--by", "colour"], "'provider', 'target', 'route', 'day' or 'tag:<key>', got 'colour'"),
        (["--since", "yesterday"], "'7d', '24h' or '30m'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_ends_with_2_and_says_what_is_right(asked: Decimal, arguments: list[str], says: str) -> None:
    ran = run("costs", *arguments)
    assert ran.code == 2
    assert says in ran.err
    if "--json" in arguments:
        assert says in ran.document["error"]["message"]
    else:
        assert ran.out == ""


def test_without_matplotlib_the_extra_is_named(asked: Decimal, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    ran = run("costs", "--plot", "costs.png", env={"PYTHONPATH": str(tmp_path)})
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == 'llama-client: a picture of costs needs matplotlib: pip install "llama-client[plot]"\n'
    assert run("costs", "--plot", env={"PYTHONPATH": str(tmp_path)}).code == 0


def test_a_ledger_that_cannot_be_read_is_one_line(ledger: Path) -> None:
    ledger.write_text("this is no database, however long it may be " * 100)
    ran = run("costs")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("llama-client: ledger.url: the ledger cannot be read: ")
    assert len(ran.err.splitlines()) == 1
