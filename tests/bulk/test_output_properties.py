"""What is written can be read again and is the same, for any values."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_client.bulk.inputs.opening import open_input
from llama_client.bulk.inputs.rows_input import RowsInput
from llama_client.bulk.outputs.csv_files import without_formula
from llama_client.errors import LlamaClientError
from tests.bulk.answered import Reply, written

# Neither NUL, which no file of text may hold, nor half of a character.
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_NAMES = st.sampled_from(["id", "answer", "error", "usd", "a,b", 'a"b', "a\nb", "ä", "target_2", "x;y"])
_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)
_REPLIES: st.SearchStrategy[Reply] = _TEXT | st.builds(LlamaClientError, _TEXT)


@st.composite
def tables(draw: st.DrawFn, values: Any) -> list[dict[str, Any]]:
    names = draw(st.lists(_NAMES, unique=True, max_size=4))
    row = st.fixed_dictionaries({"text": _TEXT, **dict.fromkeys(names, values)})
    return draw(st.lists(row, min_size=1, max_size=4))


@st.composite
def replies(draw: st.DrawFn, count: int) -> list[Reply]:
    return draw(st.lists(_REPLIES, min_size=count, max_size=count))


def _round_trip(folder: str, ending: str, table: Any, answers: list[Reply], *, source: Path | None = None) -> Any:
    """The input, what is read of its output, and the names of the columns that were added."""
    rows = open_input(table if source is None else source, prompt="{text}.")
    path = written(rows, Path(folder) / f"o.{ending}", answers)
    return rows, path, [field.name for field in rows.answers.fields(rows.columns)]


def _answers_of(answers: list[Reply]) -> list[str | None]:
    return [None if isinstance(each, LlamaClientError) else each for each in answers]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_json_lines_hold_what_the_rows_and_the_answers_are(data: st.DataObject) -> None:
    table = data.draw(tables(_VALUES))
    answers = data.draw(replies(len(table)))
    with tempfile.TemporaryDirectory() as folder:
        _, path, (answer, *_) = _round_trip(folder, "jsonl", table, answers)
        again = [dict(row.columns) for row in open_input(path, prompt="{text}.").rows()]
    assert [{name: line[name] for name in row} for line, row in zip(again, table, strict=True)] == table
    assert [line[answer] for line in again] == _answers_of(answers)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_csv_holds_the_texts_of_the_rows_and_of_the_answers(data: st.DataObject) -> None:
    table = data.draw(tables(_TEXT))
    answers = data.draw(replies(len(table)))
    with tempfile.TemporaryDirectory() as folder:
        rows, path, (answer, *_) = _round_trip(folder, "csv", table, answers)
        again = [dict(row.columns) for row in open_input(path, prompt="{text}.").rows()]
        # Once more, of a file whose columns are known before.
        rows, path, _ = _round_trip(folder, "tsv", None, answers, source=path)
        once_more = [dict(row.columns) for row in open_input(path, prompt="{text}.").rows()]
    assert [{name: line[name] for name in row} for line, row in zip(again, table, strict=True)] == table
    assert [line[answer] for line in again] == [without_formula(text or "") for text in _answers_of(answers)]
    assert [{name: line[name] for name in rows.columns} for line in once_more] == again


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_parquet_holds_columns_of_one_kind_as_they_are_and_others_as_text(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([_TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats()]))
    table = data.draw(tables(st.none() | kind))
    answers = data.draw(replies(len(table)))
    with tempfile.TemporaryDirectory() as folder:
        _, path, (answer, *_) = _round_trip(folder, "parquet", table, answers)
        again = pq.read_table(path).to_pylist()
        rows = open_input(path, prompt="{text}.")
        _same_again(rows, Path(folder) / "again.parquet", again)
    assert [line[answer] for line in again] == _answers_of(answers)
    for row, line in zip(table, again, strict=True):
        for name, value in row.items():
            # What JSON cannot say is missing or a text.
            if not isinstance(value, float) or json.dumps(value)[-1].isdigit():
                assert line[name] == value, name


def _same_again(rows: RowsInput, path: Path, first: list[dict[str, Any]]) -> None:
    written(rows, path, ["x"] * len(first))
    names = list(first[0])
    assert repr([{name: line[name] for name in names} for line in pq.read_table(path).to_pylist()]) == repr(first)
