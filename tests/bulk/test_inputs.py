"""What rows are made of files, tables and iterables."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llama_client.bulk.inputs.opening import open_input
from llama_client.errors import InvalidRequestError, JobError, MissingExtraError

_MESSAGES = [{"role": "user", "content": "Hi"}]


def _prompts(source: Any, **arguments: Any) -> list[str]:
    return [row.params["messages"][-1]["content"] for row in open_input(source, **arguments).rows()]


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


_CSV = 'id,text\n1,"late, again"\n2,"two\nlines"\n\n3,"a ""quote"""\n'
_PROMPTS = ["late, again", "two\nlines", 'a "quote"']
_JSONL = "".join(json.dumps({"id": str(at + 1), "text": text}) + "\n" for at, text in enumerate(_PROMPTS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", _CSV),
        ("a.csv", "\ufeff" + _CSV),
        ("a.CSV", _CSV),
        ("a.csv", _CSV.replace(",", ";").replace("late;", "late,")),
        ("a.csv", _CSV.replace(",", "\t").replace("late\t", "late,")),
        ("a.tsv", _CSV.replace(",", "\t").replace("late\t", "late,")),
        ("a.jsonl", _JSONL),
        ("a.jsonl", "\ufeff\n" + _JSONL.replace("\n", "\r\n\r\n").strip()),
        ("a.ndjson", _JSONL),
        ("a.jsonl.gz", gzip.compress(_JSONL.encode())),
        # By the first bytes, not by the name.
        ("a.jsonl", gzip.compress(_JSONL.encode())),
        ("a.csv.bz2", bz2.compress(_CSV.encode())),
        ("a.csv.xz", lzma.compress(_CSV.encode())),
    ],
    ids=[
        "csv", "csv with a BOM", "CSV", "semicolons", "tabs", "tsv", "jsonl", "jsonl with a BOM and CRLF", "ndjson",
        "gzip", "gzip without its name", "bzip2", "xz",
    ],
)  # fmt: skip
def test_a_file_gives_its_rows_with_all_columns(tmp_path: Path, name: str, content: str | bytes) -> None:
    rows = open_input(_file(tmp_path, name, content))
    made = list(rows.rows())
    assert [row.params for row in made] == [{"messages": [{"role": "user", "content": text}]} for text in _PROMPTS]
    assert [row.columns for row in made] == [{"id": str(at + 1), "text": text} for at, text in enumerate(_PROMPTS)]
    assert rows.columns == ("id", "text")
    assert [row.position for row in made] == [0, 1, 2]
    assert (rows.name, rows.count(), rows.is_replayable) == (name, 3, True)


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    rows = open_input(_file(tmp_path, "a.csv", _CSV))
    assert [row.where for row in rows.rows()] == ["a.csv, line 2", "a.csv, line 3", "a.csv, line 6"]
    rows = open_input(_file(tmp_path, "a.csv", "\n\r\ntext\na\n"))
    assert [row.where for row in rows.rows()] == ["a.csv, line 4"]
    rows = open_input(_file(tmp_path, "a.jsonl", '\n{"text": "a"}\r\n\r\n{"text": "b"}'))
    assert [row.where for row in rows.rows()] == ["a.jsonl, line 2", "a.jsonl, line 4"]


def test_a_field_longer_than_the_csv_module_allows_is_read(tmp_path: Path) -> None:
    assert _prompts(_file(tmp_path, "a.csv", "text\n" + "x" * 200_000)) == ["x" * 200_000]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("Sort: {text}", "Sort: Hi"),
        ("{text}, {text}", "Hi, Hi"),
        ('{{"t": "{text}"}}', '{"t": "Hi"}'),
        ("{{text}} {text}", "{text} Hi"),
        ("{two words}", "yes"),
        ("{none}|{nan}", "|"),
        ("{whole} {count} {price} {small} {large}", "5 5 1.1 0.0000001 1e+300"),
        ("{money} {yes} {no}", "1.50 true false"),
        ("{day} {moment}", "2026-12-01 2026-12-01 09:30:00"),
        ("{numpy} {numpy_float}", "7 7.5"),
        ("{braces}", "{text}"),
    ],
)
def test_a_template_writes_values_as_people_do(template: str, prompt: str) -> None:
    row = {
        "text": "Hi", "two words": "yes", "none": None, "nan": float("nan"), "whole": 5, "count": 5.0, "price": 1.1,
        "small": 1e-07, "large": 1e300, "money": Decimal("1.50"), "yes": True, "no": False, "day": date(2026, 12, 1),
        "moment": datetime(2026, 12, 1, 9, 30), "numpy": np.int64(7), "numpy_float": np.float32(7.5),  # noqa: DTZ001
        "braces": "{text}",
    }  # fmt: skip
    if not prompt.strip("|"):
        template, prompt = template + "!", prompt + "!"
    assert _prompts([row], prompt=template) == [prompt]


def test_the_system_message_the_model_and_the_parameters_are_each_rows() -> None:
    rows = open_input(["Hi"], system="Be {brief}", model="cloud/tiny", params={"max_tokens": 8, "seed": None})
    assert next(rows.rows()).params == {
        "max_tokens": 8,
        "model": "cloud/tiny",
        "messages": [{"role": "system", "content": "Be {brief}"}, {"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize(
    ("items", "columns"),
    [
        (["Hi"], {"text": "Hi"}),
        ([np.str_("Hi")], {"text": "Hi"}),
        ([{"text": "Hi", "n": 1}], {"text": "Hi", "n": 1}),
        (pd.Series(["Hi"], name="other"), {"text": "Hi"}),
        ([{"prompt": "Hi"}], {"prompt": "Hi"}),
        ([_MESSAGES], {"messages": _MESSAGES}),
        ([{"messages": _MESSAGES, "n": 1}], {"messages": _MESSAGES, "n": 1}),
        ([{"messages": json.dumps(_MESSAGES)}], {"messages": json.dumps(_MESSAGES)}),
    ],
    ids=["text", "numpy", "Series", "dict", "prompt", "messages", "dict of messages", "messages as text"],
)
def test_an_iterable_may_hold_texts_dicts_and_messages(items: Any, columns: dict[str, Any]) -> None:
    for source in (items, iter(items)):
        (row,) = open_input(source).rows()
        assert row.params == {"messages": _MESSAGES}
        assert row.columns == columns


def test_only_the_first_item_of_an_iterator_is_read_before_its_rows_are() -> None:
    read = []

    def items() -> Any:
        for at in range(5):
            read.append(at)
            yield f"text {at}"

    rows = open_input(items())
    assert read == [0]
    assert next(rows.rows()).columns == {"text": "text 0"}
    assert read == [0]


@pytest.mark.parametrize("kind", ["list", "iterator", "csv", "jsonl", "parquet", "pandas", "arrow"])
def test_a_limit_takes_the_first_rows(tmp_path: Path, kind: str) -> None:
    texts = [f"text {at}" for at in range(9)]
    sources: dict[str, Any] = {
        "list": texts,
        "iterator": iter(texts),
        "csv": _file(tmp_path, "a.csv", "text\n" + "\n".join(texts)),
        # What follows the limit is not read.
        "jsonl": _file(tmp_path, "a.jsonl", "".join(f'{{"text": "{text}"}}\n' for text in texts) + "broken"),
        "pandas": pd.DataFrame({"text": texts}),
        "arrow": pa.table({"text": texts}),
    }
    pq.write_table(sources["arrow"], tmp_path / "a.parquet")
    source = sources.get(kind, tmp_path / "a.parquet")
    rows = open_input(source, limit=4)
    assert [row.columns["text"] for row in rows.rows()] == texts[:4]
    assert rows.count() == 4


def test_a_batch_line_goes_before_the_jobs_parameters(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": _MESSAGES, "seed": 1}},
        {"custom_id": "b", "body": {"model": "cloud/large", "messages": _MESSAGES, "max_tokens": 9, "store": True}},
        {"custom_id": "c", "body": {"messages": _MESSAGES, "max_completion_tokens": 7}, "note": "mine"},
    ]
    path = _file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    rows = open_input(path, model="cloud/tiny", system="Brief", params={"max_tokens": 8, "extra_body": {"top": 1}})
    made = list(rows.rows())
    messages = [{"role": "system", "content": "Brief"}, *_MESSAGES]
    shared = {"model": "cloud/tiny", "max_tokens": 8, "extra_body": {"top": 1}, "messages": messages}
    assert [{name: value for name, value in row.params.items() if value is not None} for row in made] == [
        {**shared, "seed": 1},
        {**shared, "model": "cloud/large", "max_tokens": 9, "extra_body": {"top": 1, "store": True}},
        {**{k: v for k, v in shared.items() if k != "max_tokens"}, "max_completion_tokens": 7},
    ]
    assert [row.custom_id for row in made] == ["a", "b", "c"]
    assert [row.columns for row in made] == [{}, {}, {"note": "mine"}]


def test_a_column_custom_id_is_the_id_of_any_row() -> None:
    rows = list(open_input([{"custom_id": "a", "text": "Hi"}, {"custom_id": None, "text": "Ho"}]).rows())
    assert [row.custom_id for row in rows] == ["a", None]
    assert rows[0].columns == {"custom_id": "a", "text": "Hi"}
    with pytest.raises(InvalidRequestError, match="item 1: custom_id must be text, got a number"):
        open_input([{"custom_id": 1, "text": "Hi"}])


def test_a_dataframe_gives_its_columns_and_no_index() -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None],
            "count": pd.array([1, None], dtype="Int64"),
            "score": [0.5, float("nan")],
            "at": pd.to_datetime(["2026-12-01 09:30", None]),
            5: ["x", "y"],
        },
        index=[7, 8],
    )
    rows = open_input(frame, prompt="{text}{5}")
    made = list(rows.rows())
    at = datetime(2026, 12, 1, 9, 30)  # noqa: DTZ001
    assert [row.columns for row in made] == [
        {"text": "a", "count": 1, "score": 0.5, "at": at, "5": "x"},
        {"text": None, "count": None, "score": None, "at": None, "5": "y"},
    ]
    assert [row.where for row in made] == ["a DataFrame, row 1", "a DataFrame, row 2"]
    assert (rows.count(), rows.is_replayable) == (2, True)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "a DataFrame: two columns are named 'text'; rename one"),
        (pd.DataFrame([["a"]], columns=[""]), "a DataFrame: column 1 has no name; name it"),
        (pd.DataFrame([["a"]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "its columns have several levels"),
        (pd.DataFrame({"text": []}), "a DataFrame has no rows"),
    ],
    ids=["twice", "no name", "levels", "no rows"],
)
def test_a_dataframe_that_is_no_table_of_rows_is_told(frame: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        open_input(frame)


class _Capsule:
    """What gives itself through the Arrow PyCapsule interface and is no class of pyarrow's: a polars DataFrame, say."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.height = table.num_rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("kind", "is_replayable"),
    [("Table", True), ("_Capsule", True), ("RecordBatchReader", False), ("a.parquet", True)],
    ids=["table", "capsule", "stream", "parquet"],
)
def test_arrow_and_parquet_give_their_columns(tmp_path: Path, kind: str, is_replayable: bool) -> None:
    nanoseconds = pa.array([1_764_581_400_123_456_789, None], pa.timestamp("ns"))
    table = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "n": pa.array([1, None]),
            "at": nanoseconds,
            "tags": [["x"], []],
            "usd": [Decimal("1.50"), None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    sources: dict[str, Any] = {"Table": table, "_Capsule": _Capsule(table), "RecordBatchReader": table.to_reader()}
    rows = open_input(sources.get(kind, tmp_path / "a.parquet"))
    made = list(rows.rows())
    at = datetime(2025, 12, 1, 9, 30, 0, 123456)  # noqa: DTZ001
    assert [row.columns for row in made] == [
        {"text": "a", "n": 1, "at": at, "tags": ["x"], "usd": Decimal("1.50")},
        {"text": "b", "n": None, "at": None, "tags": [], "usd": None},
    ]
    assert rows.is_replayable == is_replayable
    assert rows.count() == 2
    assert made[1].where == f"{kind if kind == 'a.parquet' else f'a {kind}'}, row 2"


def test_an_arrow_array_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="a ChunkedArray is no table with named columns"):
        open_input(pa.chunked_array([["a"]]))


def test_messages_of_parquet_leave_out_what_is_null(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi", "name": None}, {"role": "assistant", "content": None, "name": None}]
    kind = pa.list_(pa.struct([(name, pa.string()) for name in ("role", "content", "name")]))
    pq.write_table(pa.table({"messages": pa.array([messages[:1]], kind)}), tmp_path / "a.parquet")
    assert next(open_input(tmp_path / "a.parquet").rows()).params == {"messages": _MESSAGES}


def test_a_nested_column_is_no_part_of_a_template(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "tags": [["x"]]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidRequestError, match=r"a.parquet, row 1: column 'tags' holds a list; a template"):
        open_input(tmp_path / "a.parquet", prompt="{tags}")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'Parquet needs pyarrow: pip install "llama-client\[bulk\]"') as caught:
        open_input(tmp_path / "a.parquet")
    assert caught.value.extra == "bulk"


def test_a_parquet_that_grows_is_another_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    rows = open_input(tmp_path / "a.parquet")
    with (tmp_path / "a.parquet").open("ab") as more:
        more.write(b"x")
    with pytest.raises(JobError, match=r"a.parquet was written to while the job read it"):
        list(rows.rows())
