"""What a job writes: the input's columns and the answers, in the input's order, whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, Field

from llama_client.bulk.inputs.opening import open_input
from llama_client.bulk.outputs.writers import writer_of
from llama_client.bulk.results import BulkResult
from llama_client.errors import InvalidRequestError, JobError, LlamaClientError, RateLimitError
from tests.bulk.answered import Reply, completion, result, written

_LIMITED = RateLimitError("too many\nrequests", target="cloud/tiny", http_status=429, provider_code="slow_down")
_TICKET = {
    "title": "Ticket",
    "type": "object",
    "properties": {
        "urgent": {"type": "boolean"},
        "score": {"type": ["integer", "null"]},
        "weight": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "kind": {"enum": ["bug", "wish"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["urgent", "kind"],
}
_ANSWERS = [
    '{"urgent": true, "score": 5, "weight": 1, "kind": "bug", "tags": ["a", "b"]}',
    '{"urgent": false, "score": null, "kind": "wish"}',
    '{"urgent": "no", "kind": "wish"}',
]


def _json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _parquet(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_answers_stand_beside_the_columns_of_the_input(tmp_path: Path) -> None:
    rows = open_input([{"text": "a", "n": 1}, {"text": "b"}])
    replies: list[Reply] = ["Yes", _LIMITED]
    told = "RateLimitError: too many requests"
    path = written(rows, tmp_path / "o.jsonl", replies, Decimal("0.0000012"))
    assert _json_lines(path) == [
        {"text": "a", "n": 1, "answer": "Yes", "error": None, "usd": "0.0000012", "target": "cloud/tiny"},
        {"text": "b", "answer": None, "error": told, "usd": "0.0000012", "target": "cloud/tiny"},
    ]
    path = written(rows, tmp_path / "o.csv", replies, Decimal("0.0000012"))
    assert path.read_bytes() == (
        b"text,n,answer,error,usd,target\r\n"
        b"a,1,Yes,,0.0000012,cloud/tiny\r\n"
        b"b,,,RateLimitError: too many requests,0.0000012,cloud/tiny\r\n"
    )
    path = written(rows, tmp_path / "o.tsv", replies)
    assert path.read_text().splitlines()[1] == "a\t1\tYes\t\t\tcloud/tiny"
    path = written(rows, tmp_path / "o.parquet", replies, Decimal("0.0000012"))
    assert _parquet(path) == [
        {"text": "a", "n": 1, "answer": "Yes", "error": None, "usd": Decimal("0.0000012"), "target": "cloud/tiny"},
        {"text": "b", "n": None, "answer": None, "error": told, "usd": Decimal("0.0000012"), "target": "cloud/tiny"},
    ]


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    rows = open_input(["a"])
    refused = completion(None)
    refused.choices[0].message.refusal = "I cannot."
    path = tmp_path / "o.jsonl"
    writer_of(path, rows).write(path, (BulkResult(row, refused) for row in rows.rows()))
    (line,) = _json_lines(path)
    assert (line["answer"], line["error"]) == (None, "GenerationFailedError: the model refused: I cannot.")


def test_answers_as_objects_are_checked_and_become_columns(tmp_path: Path) -> None:
    rows = open_input(["a", "b", "c"], schema=_TICKET)
    told = "GenerationFailedError: the answer does not fit Ticket (urgent: must be boolean, got a text)"
    path = written(rows, tmp_path / "o.jsonl", _ANSWERS)
    facts = {"usd": None, "target": "cloud/tiny"}
    no = dict.fromkeys(("urgent", "score", "weight", "kind", "tags"))
    assert _json_lines(path) == [
        {"text": "a", **json.loads(_ANSWERS[0]), "error": None, **facts},
        {"text": "b", **no, **json.loads(_ANSWERS[1]), "error": None, **facts},
        {"text": "c", **no, "error": told, **facts},
    ]
    assert [list(line) for line in _json_lines(path)] == [["text", *no, "error", "usd", "target"]] * 3
    path = written(rows, tmp_path / "o.csv", _ANSWERS)
    assert path.read_text().splitlines()[:3] == [
        "text,urgent,score,weight,kind,tags,error,usd,target",
        'a,true,5,1,bug,"[""a"", ""b""]",,,cloud/tiny',
        "b,false,,,wish,,,,cloud/tiny",
    ]
    path = written(rows, tmp_path / "o.parquet", _ANSWERS)
    table = pq.read_table(path)
    assert {field.name: str(field.type) for field in table.schema} == {
        "text": "string", "urgent": "bool", "score": "int64", "weight": "double", "kind": "string", "tags": "string",
        "error": "string", "usd": "decimal128(38, 12)", "target": "string",
    }  # fmt: skip
    assert table.column("tags").to_pylist() == ['["a", "b"]', None, None]


class _Answer(BaseModel):
    """An answer."""

    kind: Literal["bug", "wish"]
    count: int = Field(alias="howMany")
    price: Decimal | None = None


@pytest.mark.parametrize("form", ["class", "dict", "file"])
def test_a_schema_may_be_a_class_a_dict_or_a_file(tmp_path: Path, form: str) -> None:
    schema = _Answer.model_json_schema()
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    schemas = {"class": _Answer, "dict": schema, "file": tmp_path / "schema.json"}
    rows = open_input(["a"], schema=schemas[form])
    asked = next(rows.rows()).params["response_format"]
    assert asked["type"] == "json_schema"
    assert set(asked["json_schema"]["schema"]["properties"]) == {"kind", "howMany", "price"}
    # In a fence, as models write that are not held to a schema.
    path = written(rows, tmp_path / "o.jsonl", ['```json\n{"kind": "bug", "howMany": 2}\n```'])
    assert _json_lines(path) == [
        {"text": "a", "kind": "bug", "howMany": 2, "price": None, "error": None, "usd": None, "target": "cloud/tiny"}
    ]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_no_column_of_the_input_is_overwritten(tmp_path: Path, ending: str) -> None:
    rows = open_input([{"text": "a", "answer": "gold", "answer_2": "silver", "target": "label"}])
    path = written(rows, tmp_path / f"o.{ending}", ["mine"])
    (record,) = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet}[ending](path)
    assert (record["answer"], record["answer_2"], record["answer_3"]) == ("gold", "silver", "mine")
    assert (record["target"], record["target_2"]) == ("label", "cloud/tiny")


def test_a_field_of_the_schema_may_have_a_name_of_the_facts(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"error": {"type": "string"}, "usd": {"type": "number"}}}
    path = written(open_input(["a"], schema=schema), tmp_path / "o.jsonl", ['{"error": "E1", "usd": 5}'])
    assert _json_lines(path) == [
        {"text": "a", "error": "E1", "usd": 5, "error_2": None, "usd_2": None, "target": "cloud/tiny"}
    ]


def _batch(folder: Path) -> Path:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    lines = [{"custom_id": name, "body": body} for name in "abc"]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "a.jsonl"


def test_a_batch_file_gets_the_output_of_openais_batches(tmp_path: Path) -> None:
    path = written(open_input(_batch(tmp_path)), tmp_path / "o.jsonl", ["Yes", _LIMITED, LlamaClientError("stopped")])
    answered, refused, failed = _json_lines(path)
    assert answered == {
        "id": answered["id"],
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req-1", "body": completion("Yes").to_openai()},
        "error": None,
    }
    assert answered["response"]["body"]["choices"][0]["message"]["content"] == "Yes"
    assert (refused["custom_id"], refused["error"], refused["response"]["status_code"]) == ("b", None, 429)
    assert refused["response"]["body"]["error"]["code"] == "slow_down"
    assert (failed["response"], failed["error"]) == (None, {"code": "LlamaClientError", "message": "stopped"})
    assert len({line["id"] for line in (answered, refused, failed)}) == 3


def test_a_batch_file_may_become_a_table(tmp_path: Path) -> None:
    path = written(open_input(_batch(tmp_path)), tmp_path / "o.csv", ["x", "y", "z"])
    assert [(row["custom_id"], row["answer"]) for row in _csv(path)] == [("a", "x"), ("b", "y"), ("c", "z")]


def test_a_field_of_the_schema_may_have_the_name_of_the_id(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"custom_id": {"type": "string"}}}
    path = written(open_input(_batch(tmp_path), schema=schema), tmp_path / "o.csv", ['{"custom_id": "x"}'] * 3)
    assert [(row["custom_id"], row["custom_id_2"]) for row in _csv(path)] == [("a", "x"), ("b", "x"), ("c", "x")]


def test_parquet_takes_the_texts_that_a_job_kept_of_typed_columns(tmp_path: Path) -> None:
    at = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
    table = pa.table({"text": ["a"], "at": [at], "usd": [Decimal("1.50")], "n": [1]})
    rows = open_input(table)
    kept = (
        result(replace(row, columns={name: str(value) for name, value in row.columns.items()}), "Yes")
        for row in rows.rows()
    )
    writer_of(tmp_path / "o.parquet", rows).write(tmp_path / "o.parquet", kept)
    assert pq.read_table(tmp_path / "o.parquet").select(table.column_names).equals(table)


def test_numbers_of_parquet_are_rounded_or_made_whole(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    usd = Decimal("0.00000000000149")
    (row,) = _parquet(written(open_input(["a"], schema=schema), tmp_path / "o.parquet", ['{"n": 5.0}'], usd))
    assert (row["n"], row["usd"]) == (5, Decimal("0.000000000001"))


def test_parquet_keeps_the_types_of_the_input(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", None],
            "n": pa.array([1, None], pa.int16()),
            "at": pa.array([datetime(2026, 12, 1), None], pa.timestamp("ms", "UTC")),  # noqa: DTZ001
            "tags": [["x"], []],
            "usd": [Decimal("1.50"), None],
            "raw": [b"\xff", None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", table, table.to_reader()):
        rows = open_input(source, prompt="{text}!")
        path = written(rows, tmp_path / "o.parquet", ["Yes", "No"]) if source is not table else None
        if path is not None:
            found = pq.read_table(path)
            assert found.select(table.column_names).equals(table)
            assert found.column("answer").to_pylist() == ["Yes", "No"]
            path.unlink()


def test_parquet_of_a_dataframe_keeps_its_types(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "n": [1, 2], "day": pd.to_datetime(["2026-12-01", None])})
    frame["mixed"] = [1, "x"]
    table = pq.read_table(written(open_input(frame), tmp_path / "o.parquet", ["Yes", "No"]))
    assert str(table.schema.field("n").type) == "int64"
    assert str(table.schema.field("day").type) == "timestamp[us]"
    assert table.column("mixed").to_pylist() == ["1", "x"]


def test_columns_of_several_kinds_become_text(tmp_path: Path) -> None:
    items: list[dict[str, Any]] = [
        {"text": "a", "n": 1, "mixed": 1, "nested": {"k": [1]}, "big": 2**70, "flag": True},
        {"text": "b", "n": 1.5, "mixed": "x", "nested": None, "big": 1, "new": "only here"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, items)))
    rows = open_input(tmp_path / "a.jsonl")
    table = pq.read_table(written(rows, tmp_path / "o.parquet", ["Yes", "No"]))
    assert table.select(["n", "mixed", "nested", "big", "flag", "new"]).to_pydict() == {
        "n": [1.0, 1.5],
        "mixed": ["1", "x"],
        "nested": ['{"k": [1]}', None],
        "big": [str(2**70), "1"],
        "flag": [True, None],
        "new": [None, "only here"],
    }


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-5.5", "-5.5"),
        ("+49 30 1", "+49 30 1"),
        ("-12,5%", "-12,5%"),
        ("a=b", "a=b"),
    ],
)
def test_a_spreadsheet_runs_nothing_that_a_model_wrote(tmp_path: Path, answer: str, cell: str) -> None:
    path = written(open_input([{"text": "=1+1"}]), tmp_path / "o.csv", [answer])
    (row,) = _csv(path)
    assert (row["text"], row["answer"]) == ("=1+1", cell)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_lone_surrogate_of_an_answer_spoils_no_file(tmp_path: Path, ending: str) -> None:
    path = written(open_input(["a"]), tmp_path / f"o.{ending}", ["x\ud800y"])
    (record,) = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet}[ending](path)
    # JSON has an escape for it; in others it becomes the character that stands for what cannot be shown.
    held = chr(0xD800 if ending == "jsonl" else 0xFFFD)
    assert record["answer"] == f"x{held}y"


def test_what_json_cannot_say_is_written_as_null_or_text(tmp_path: Path) -> None:
    item = {"text": "a", "nan": float("nan"), "inf": {"x": float("inf")}, "day": datetime(2026, 12, 1), "raw": b"\xff"}  # noqa: DTZ001
    (line,) = _json_lines(written(open_input([item]), tmp_path / "o.jsonl", ["b"]))
    assert [line[name] for name in ("nan", "inf", "day", "raw")] == [None, {"x": "inf"}, "2026-12-01T00:00:00", "ff"]


def test_a_value_beyond_a_type_of_parquet_is_told(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    rows = open_input(["a"], schema=schema)
    with pytest.raises(JobError, match=r"column 'n' holds a value that Parquet's type int64 has not .* \.jsonl"):
        written(rows, tmp_path / "o.parquet", ['{"n": 99999999999999999999}'])
    assert list(tmp_path.iterdir()) == []


_ENDINGS = pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])


def _failing(rows: Any, error: Exception) -> Iterator[BulkResult]:
    yield result(next(rows.rows()), "Yes")
    raise error


@_ENDINGS
def test_nothing_is_left_of_an_output_that_fails(tmp_path: Path, ending: str) -> None:
    rows, path = open_input(["a", "b"]), tmp_path / f"o.{ending}"
    with pytest.raises(KeyError):
        writer_of(path, rows).write(path, _failing(rows, KeyError("broken")))
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    with pytest.raises(KeyError):
        writer_of(path, rows, replace=True).write(path, _failing(rows, KeyError("broken")))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


@_ENDINGS
def test_a_full_disk_leaves_nothing_and_says_how_to_go_on(tmp_path: Path, ending: str) -> None:
    rows, path = open_input(["a", "b"]), tmp_path / f"o.{ending}"
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(JobError, match=rf"o\.{ending}: cannot be written \(No space left on device\); nothing of it"):
        writer_of(path, rows).write(path, _failing(rows, full))
    assert list(tmp_path.iterdir()) == []


@_ENDINGS
def test_a_file_that_is_there_stays_unless_it_is_the_jobs(tmp_path: Path, ending: str) -> None:
    rows, path = open_input(["a"]), tmp_path / f"o.{ending}"
    writer = writer_of(path, rows)
    path.write_text("before")
    told = "file exists, and is not of this job; move it away, choose another name, or say replace"
    with pytest.raises(JobError, match=told):
        writer_of(path, rows)
    # It may have come while the job ran, or while the output was written.
    with pytest.raises(JobError, match=told):
        writer.write(path, iter([]))
    path.unlink()
    with pytest.raises(JobError, match=told):
        writer.write(path, (result(row, "Yes") for row in rows.rows() if path.write_text("before")))
    assert path.read_text() == "before"
    writer_of(path, rows, replace=True).write(path, (result(row, "Yes") for row in rows.rows()))
    assert path.read_bytes() != b"before"


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".o.jsonl.part").write_text("half")
    written(open_input(["a"]), tmp_path / "o.jsonl", ["Yes"])
    assert [each.name for each in tmp_path.iterdir()] == ["o.jsonl"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("before")
    (tmp_path / "o.jsonl").symlink_to(tmp_path / "real.jsonl")
    rows = open_input(["a"])
    path = tmp_path / "o.jsonl"
    writer_of(path, rows, replace=True).write(path, (result(row, "Yes") for row in rows.rows()))
    assert path.is_symlink()
    assert len(_json_lines(tmp_path / "real.jsonl")) == 1


def _in_missing_folder(folder: Path) -> Path:
    return folder / "missing" / "o.jsonl"


def _directory(folder: Path) -> Path:
    (folder / "o.jsonl").mkdir()
    return folder / "o.jsonl"


def _input_itself(folder: Path) -> Path:
    return folder / "a.jsonl"


@pytest.mark.parametrize(
    ("place", "kind", "sentence"),
    [
        (lambda folder: folder / "o.txt", InvalidRequestError, "o.txt ends in '.txt'; an output must end in .jsonl"),
        (lambda folder: folder / "o", InvalidRequestError, "o has no ending; an output must end in .jsonl, .csv, .tsv"),
        (lambda folder: folder / "o.jsonl.gz", InvalidRequestError, "ends in '.gz'; an output must end in .jsonl"),
        (_input_itself, InvalidRequestError, "a.jsonl is the input; write the answers to another file"),
        (_directory, JobError, "o.jsonl: is a directory; name a file in it"),
        (_in_missing_folder, JobError, "does not exist; create it first"),
    ],
    ids=["txt", "no ending", "gz", "the input", "directory", "no folder"],
)
def test_an_output_that_cannot_be_is_told_before_anything_is_asked(
    tmp_path: Path, place: Callable[[Path], Path], kind: type[LlamaClientError], sentence: str
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(kind) as caught:
        writer_of(place(tmp_path), open_input(tmp_path / "a.jsonl"))
    assert sentence in str(caught.value)
