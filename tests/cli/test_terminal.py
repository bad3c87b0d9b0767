"""Tables of the terminal: whatever its width, no figure is broken, and each is named."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from llama_client.cli.terminal import one_line, printable, table_of, wrapped

COLUMNS = [("", False), ("figure", False), ("value", True), ("source", False)]
ROWS = [
    ["low", "throughput", "12,345,678.9", "measured on 2026-11-23 with 8 requests at once"],
    ["high", "price", "$0.001", "https://example.com/a/very/long/address/that/no/terminal/has/room/for"],
    ["", "cut", "", "\x1b[31mred\u202e"],
]


def printed(width: int, columns: list[tuple[str, bool]] = COLUMNS, rows: list[list[str]] = ROWS) -> str:
    console = Console(file=StringIO(), width=width, markup=False, highlight=False)
    console.print(table_of(columns, rows, width=width))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", range(20, 121))
def test_each_figure_stands_whole_and_no_line_is_too_long(width: int) -> None:
    text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    assert "12,345,678.9" in text
    assert "$0.001" in text
    assert "…" not in text
    assert {"\x1b", "\u202e"}.isdisjoint(text)


@pytest.mark.parametrize("width", range(1, 20))
def test_not_even_the_narrowest_terminal_loses_a_digit(width: int) -> None:
    assert "12,345,678.9" in re.sub(r"\s", "", printed(width, [("value", True)], [["12,345,678.9"]]))


def test_without_room_each_row_is_a_block_of_names_and_values() -> None:
    assert [line.rstrip() for line in printed(30, rows=[ROWS[0], ROWS[2]]).splitlines()] == [
        "low",
        "figure  throughput",
        "value   12,345,678.9",
        "source  measured on 2026-11-23",
        "        with 8 requests at",
        "        once",
        "",
        "figure  cut",
        r"source  \x1b[31mred\u202e",
    ]


def test_headings_are_broken_between_words_before_the_table_is() -> None:
    columns = [("longest context", True), ("longest gpu context", True)]
    lines = [line.split() for line in printed(20, columns, [["131,072", "19,200"]]).splitlines()]
    assert lines == [["longest"], ["longest", "gpu"], ["context", "context"], ["131,072", "19,200"]]


def test_a_table_without_rows_is_its_headings() -> None:
    assert printed(40, rows=[]).split() == ["figure", "value", "source"]
    assert printed(5, rows=[]).strip() == ""


def test_in_one_line_each_control_is_shown_as_what_it_is() -> None:
    told = "a\nb\r\tc\x00\x1b\x7f\x85\xad\u061c\u200b\u200f\u2028\u2029\u202e\u2060\u2069\ufeffd"
    assert one_line(told) == (r"a\nb\r\tc\x00\x1b\x7f\x85\xad\u061c\u200b\u200f\u2028\u2029\u202e\u2060\u2069\ufeffd")


@pytest.mark.parametrize("text", ["C:\\Users\\new", "Grüße, 世界…", "می‌خواهم", "👩‍👧", "$(touch x)", ""])
def test_in_one_line_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_only_a_line_feed_begins_a_line() -> None:
    assert wrapped(printable("one\x0btwo\x85three\x1cfour\u2028five\nsix"), 80).split("\n") == [
        "onetwothreefour\u2028five",
        "six",
    ]
