"""In which line a key stands: the same keys as `tomllib` reads, in every form that TOML allows, or no lines at all."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_client.config.effective import key_lines
from llama_client.config.toml_write import toml_key, toml_value

ROOT = Path(__file__).parents[2]
DOCUMENT = '''# a comment = 1
title = "a # is no comment here"
'quoted "key"' = 'literal \\'
"dotted.name".below = 1
text = """
fake = 1
[fake]
ends with two quotes"" """ # behind it
quotes = """a"""""
raw = \'\'\'
also = "fake"
\'\'\'
[providers.laptop]
n_ctx = 1_024
lora = [
    { path = "a", scale = 1.0 },  # the first
    { path = "]}", scale = 2.0 },
]
inline = { a.b = [1, [2, 3]], c = {} }
day = 1979-05-27 07:32:00
[[budgets]]
usd = 1
[[budgets]]
usd = 2
[budgets.below]
deep = true
[ "spaced" . name ]
x = 0x_ff
'''.replace("0x_ff", "0xff")


def test_each_key_has_its_line() -> None:
    lines = key_lines(DOCUMENT)
    assert {path: line for path, line in lines.items() if path[-1] != "scale"} == {
        ("title",): 2,
        ('quoted "key"',): 3,
        ("dotted.name",): 4,
        ("dotted.name", "below"): 4,
        ("text",): 5,
        ("quotes",): 9,
        ("raw",): 10,
        ("providers",): 13,
        ("providers", "laptop"): 13,
        ("providers", "laptop", "n_ctx"): 14,
        ("providers", "laptop", "lora"): 15,
        ("providers", "laptop", "lora", 0): 16,
        ("providers", "laptop", "lora", 0, "path"): 16,
        ("providers", "laptop", "lora", 1): 17,
        ("providers", "laptop", "lora", 1, "path"): 17,
        ("providers", "laptop", "inline"): 19,
        ("providers", "laptop", "inline", "a"): 19,
        ("providers", "laptop", "inline", "a", "b"): 19,
        ("providers", "laptop", "inline", "a", "b", 0): 19,
        ("providers", "laptop", "inline", "a", "b", 1): 19,
        ("providers", "laptop", "inline", "a", "b", 1, 0): 19,
        ("providers", "laptop", "inline", "a", "b", 1, 1): 19,
        ("providers", "laptop", "inline", "c"): 19,
        ("providers", "laptop", "day"): 20,
        ("budgets",): 21,
        ("budgets", 0): 21,
        ("budgets", 0, "usd"): 22,
        ("budgets", 1): 23,
        ("budgets", 1, "usd"): 24,
        ("budgets", 1, "below"): 25,
        ("budgets", 1, "below", "deep"): 26,
        ("spaced",): 27,
        ("spaced", "name"): 27,
        ("spaced", "name", "x"): 28,
    }


def test_lines_that_end_as_windows_has_them_are_counted_alike() -> None:
    assert key_lines(DOCUMENT.replace("\n", "\r\n")) == key_lines(DOCUMENT)


REAL = [*sorted(ROOT.glob("llama_client/**/*.toml")), ROOT / "pyproject.toml"]


@pytest.mark.parametrize("file", REAL, ids=lambda file: file.name)
def test_a_real_document_has_lines(file: Path) -> None:
    assert key_lines(file.read_text(encoding="utf-8"))


def test_what_is_no_document_has_no_lines() -> None:
    assert key_lines("a = ") == {}
    assert key_lines("a = " + "[" * 20_000) == {}


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
SCALARS: st.SearchStrategy[Any] = (
    st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | KEYS | st.dates()
)
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3))


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
def test_whatever_we_write_is_read_back_and_has_its_lines(tables: dict[str, dict[str, Any]]) -> None:
    written: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for name, table in tables.items():
        written.append(f"[{toml_key(name)}]")
        expected[(name,)] = len(written)
        for key, value in table.items():
            written.append(f"{toml_key(key)} = {toml_value(value)}")
            expected[(name, key)] = len(written)
    text = "\n".join(written)
    assert tomllib.loads(text) == tables
    found = key_lines(text)
    assert {path: found[path] for path in expected} == expected
