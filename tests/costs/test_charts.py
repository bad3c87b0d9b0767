"""What charts are made of, and charts on a terminal."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from llama_client.costs.charts import MAX_BARS, MAX_LAYERS, stack, terminal_chart
from llama_client.types.report import CostGroup, DayCosts

FIRST = date(2026, 11, 1)
HOSTILE = "\x1b]0;owned\x07a\u202eb\r\nc[red]:cat:"


def day(number: int, *groups: CostGroup) -> DayCosts:
    return DayCosts(day=FIRST + timedelta(days=number), groups=list(groups))


def group(key: str, usd: str = "0", calls: int = 1, unpriced: int = 0) -> CostGroup:
    return CostGroup(key=key, usd=Decimal(usd), calls=calls, unpriced_calls=unpriced)


def lines(days: list[DayCosts], width: int = 80, *, ascii_only: bool = False) -> list[str]:
    return [line.plain.rstrip() for line in terminal_chart(days, width, ascii_only=ascii_only)]


@given(
    days=st.lists(
        st.tuples(st.integers(0, 20_000), st.sampled_from("abcdefghijkl"), st.integers(0, 10**21), st.integers(0, 5)),
        min_size=1,
        max_size=40,
    ),
    max_bars=st.integers(1, 500),
)
def test_whatever_is_put_together_nothing_is_lost(days: list[tuple[int, str, int, int]], max_bars: int) -> None:
    costs = [day(number, group(key, f"{pico}e-12", 5, unpriced)) for number, key, pico, unpriced in days]
    chart = stack(costs, max_bars)
    total = sum(pico for _, _, pico, _ in days)
    assert sum(int(bar.total_usd.scaleb(12)) for bar in chart.bars) == total
    assert sum(int(layer.usd.scaleb(12)) for layer in chart.layers) == total
    assert chart.unpriced_calls == sum(unpriced for *_, unpriced in days)
    assert len(chart.layers) == min(MAX_LAYERS, len({key for _, key, _, _ in days}))
    assert len(chart.bars) <= max_bars or chart.unit == "year"
    starts = [bar.first_day for bar in chart.bars]
    assert starts == sorted(set(starts))
    assert starts[0] <= min(each.day for each in costs)


def test_every_day_of_the_span_has_a_bar() -> None:
    chart = stack([day(3, group("a/m", "2")), day(0, group("a/m", "1"))], 31)
    assert [(bar.first_day.day, int(bar.total_usd)) for bar in chart.bars] == [(1, 1), (2, 0), (3, 0), (4, 2)]


def test_more_days_than_bars_are_weeks_then_months_then_years() -> None:
    def starts(days: int) -> tuple[str, str, int]:
        chart = stack([day(0, group("a/m", "1")), day(days, group("a/m", "1"))], 31)
        return chart.unit, chart.bars[1].first_day.isoformat(), len(chart.bars)

    assert starts(30) == ("day", "2026-11-02", 31)
    assert starts(31) == ("week", "2026-11-02", 6)
    assert starts(250) == ("month", "2026-12-01", 9)
    assert starts(2000) == ("year", "2027-01-01", 7)


def test_the_dearest_groups_have_layers_of_their_own_and_the_rest_is_together() -> None:
    groups = [group(f"p/{number}", str(number)) for number in range(10)]
    layers = stack([day(0, *groups)], 31).layers
    assert [layer.name for layer in layers] == ["p/9", "p/8", "p/7", "p/6", "p/5", "p/4", "p/3", "3 others"]
    assert (int(layers[-1].usd), layers[-1].calls, layers[-1].is_rest) == (3, 3, True)
    assert not any(layer.is_rest for layer in stack([day(0, *groups[:8])], 31).layers)


def test_a_day_is_a_line_with_its_amount_and_its_unpriced_calls() -> None:
    shown = lines(
        [day(0, group("a/m", "0.75"), group("b/m", "0.25")), day(2, group("a/m", "0.5"), group("c/m", "0", 3, 3))]
    )
    assert shown[0] == "US dollars a day"
    assert [line.split()[0] for line in shown[1:4]] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    full, empty, half = shown[1:4]
    assert full.endswith("  $1.00")
    assert empty.split() == ["2026-11-02", "$0.00"]
    assert half.endswith("  $0.50  3 unpriced")
    assert abs(full.count("█") - 3 * full.count("▓")) <= 2
    assert abs(full.count("█") + full.count("▓") - 2 * half.count("█")) <= 1
    assert max(map(len, shown)) <= 80


def test_the_key_tells_fills_apart_without_colour() -> None:
    groups = [group(f"p/{number}", str(number + 1)) for number in range(9)]
    key = lines([day(0, *groups)])[3:]
    assert [line.split()[-1] for line in key[:-1]] == [f"p/{number}" for number in range(8, 1, -1)]
    assert key[-1].endswith("$3.00  2 others")
    assert len({line[0] for line in key}) == MAX_LAYERS


def test_what_nobody_knows_the_cost_of_is_no_zero() -> None:
    key = lines([day(0, group("a/m", "1"), group("b/m", "0", 2, 2), group("c/m", "0", 2))])[3:]
    assert key[0].split() == ["██", "$1.00", "a/m"]
    assert sorted(line.split()[1:] for line in key[1:]) == [["$0.00", "c/m"], ["-", "b/m,", "2", "unpriced"]]


def test_a_small_amount_is_seen_and_a_long_span_fits() -> None:
    days = [day(number, group("a/m", "1000000" if number else "0.000001")) for number in range(400)]
    shown = lines(days)
    assert shown[0] == "US dollars a month"
    assert lines(days[:2])[1].count("█") == 1
    assert len(shown) <= MAX_BARS + 4
    assert max(map(len, shown)) <= 80


def test_a_chart_for_terminals_that_know_nothing_else_is_ascii() -> None:
    groups = [group(f"p/{number}", str(number + 1)) for number in range(12)]
    assert all(line.isascii() for line in lines([day(0, *groups)], ascii_only=True))


def test_names_cannot_steer_the_terminal() -> None:
    out = StringIO()
    console = Console(file=out, markup=False, highlight=False, width=80)
    for line in terminal_chart([day(0, group(HOSTILE, "1"), group("", "2"))], 80):
        assert isinstance(line, Text)
        console.print(line)
    shown = out.getvalue()
    assert not any(sign in shown for sign in ("\x1b", "\x07", "\u202e", "\r"))
    assert "c[red]:cat:" in shown
    assert "(none)" in shown


def test_costs_of_nothing_are_no_error() -> None:
    assert lines([]) == ["US dollars a day", ""]
    assert lines([day(0, group("a/m"))])[1].split() == ["2026-11-01", "$0.00"]
    assert max(map(len, lines([day(0, group("a/m", "1"))], 10))) < 40
