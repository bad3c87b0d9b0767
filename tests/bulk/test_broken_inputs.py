"""Input that cannot be used is found before anything is asked, with a sentence that names the place and the remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
from pathlib import Path
from typing import Any

import pytest

from llama_client.bulk.inputs.opening import open_input
from llama_client.errors import InvalidRequestError, JobError

_MESSAGES = '"messages": [{"role": "user", "content": "Hi"}]'
_LINE = '{"text": "Hi"}\n'
_BATCH = f'{{"custom_id": "a", "body": {{{_MESSAGES}}}}}\n'


def _said(source: Any, **arguments: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        for _ in open_input(source, **arguments).rows():
            pass
    return str(caught.value)


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a.jsonl", "", "a.jsonl is empty"),
    ("a.csv", "", "a.csv is empty"),
    ("a.jsonl", "\n \n\r\n", "a.jsonl has no rows"),
    ("a.csv", "text\n", "a.csv has no rows"),
    ("a.jsonl", _LINE + '\n{"text": \n', "a.jsonl, line 3: not JSON (Expecting value, column 9); correct the"),
    ("a.jsonl", _LINE + '{"text": NaN}', "a.jsonl, line 2: not JSON (NaN is not JSON)"),
    ("a.jsonl", _LINE + '{"text": ' + "[" * 100_000, "a.jsonl, line 2: not JSON (nested too deeply)"),
    ("a.jsonl", _LINE + '{"n": ' + "9" * 5000 + "}", "a.jsonl, line 2: not JSON (Exceeds the limit"),
    ("a.jsonl", _LINE + '{"text": "a", "text": "b"}', "a.jsonl, line 2: an object with the name 'text' twice"),
    ("a.jsonl", _LINE + '{"text": "a", "n": [{"b": 1, "b": 1}]}', "line 2: an object with the name 'b' twice"),
    ("a.jsonl", _LINE + "[1]\n", "a.jsonl, line 2: a list; each line must be an object"),
    ("a.jsonl", _LINE + "null\n", "a.jsonl, line 2: null; each line must be an object"),
    ("a.jsonl", "[" + _LINE + "]", "a.jsonl is a JSON array, and must be JSON lines, one object per line; convert"),
    ("a.json", '{\n "text": "Hi"\n}', "a.json, line 1: an object over several lines"),
    ("a.jsonl", _LINE.encode("utf-16"), "a.jsonl is UTF-16, and must be UTF-8; convert it: iconv -f UTF-16"),
    ("a.jsonl", _LINE.encode("utf-16-le"), "a.jsonl is UTF-16"),
    ("a.csv", b"\xff\xfe\0\0" + "text\nHi".encode("utf-32-le"), "a.csv is UTF-32"),
    ("a.jsonl.gz", gzip.compress(_LINE.encode("utf-16")), "a.jsonl.gz is UTF-16"),
    ("a.csv", b"text\nfine\ncaf\xe9\n", "a.csv, line 3: not UTF-8: byte 4 is 0xE9; convert the file, for example"),
    ("a.jsonl", b'{"text": "a\0b, and more"}', "a.jsonl, line 1: byte 12 is a NUL, which no text has"),
    ("a.csv", "text,text\n1,2\n", "a.csv, line 1: columns 1 and 2 are both named 'text'; rename one"),
    ("a.csv", "sep=;\nid;text\n1;Hi\n", "a.csv, line 1: a mark that only Excel knows; remove the line before"),
    ("a.csv", ",text\n0,Hi\n", "a.csv, line 1: the header of column 1 is empty; name the column"),
    ("a.csv", "id,text\n1,Hi\n2,Hi, you\n", "a.csv, line 3: 3 fields, and the header has 2; a field that contains"),
    ("a.csv", "id,text\n1\n", "a.csv, line 2: 1 fields, and the header has 2"),
    ("a.csv", 'id,text\n1,"a\nb"\n2,"c\n3,d\n', "a.csv, line 4: a quoted field begins in this record and does not"),
    ("a.csv", 'id,text\n1,"a" b\n', "a.csv, line 2: text stands after a closing quote"),
    ("a.csv", "id,text\r1,a\r2,b\r", "a.csv, line 1: a carriage return without a line feed"),
    ("a.csv", _LINE, "a.csv looks like JSON lines; rename it to end in .jsonl"),
    ("a.csv", "id:text\n1:Hi\n", "a.csv has no column 'prompt', 'text' or 'messages'"),
    ("a.txt", "Hi\n", "a.txt ends in '.txt'; the name must end in .jsonl, .csv, .tsv or .parquet"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd....", "a.jsonl.zst is compressed with Zstandard, which Python's library"),
    ("a.csv", b"\x28\xb5\x2f\xfd....", "unpack it: zstd -d a.csv"),
    ("a.xlsx", b"PK\x03\x04....", "a.xlsx is a ZIP archive (an Excel file is one); unpack it, or save the"),
    ("a.db", b"SQLite format 3\0", "a.db is an SQLite database; export the table as CSV"),
    ("a.jsonl.gz", gzip.compress(_LINE.encode())[:-9], "a.jsonl.gz is compressed (gzip), and damaged or cut"),
    ("a.jsonl.bz2", bz2.compress(_LINE.encode())[:-9], "a.jsonl.bz2 is compressed (bzip2), and damaged or cut"),
    ("a.jsonl.bz2", b"BZh9" + b"x" * 50, "a.jsonl.bz2 is compressed (bzip2), and damaged or cut"),
    ("a.jsonl.xz", lzma.compress(_LINE.encode())[:-9], "a.jsonl.xz is compressed (xz), and damaged or cut"),
    ("a.parquet", "text\nHi\n", "a.parquet is no Parquet file: its first bytes are not PAR1"),
    ("a.parquet", b"PAR1" + b"x" * 100, "a.parquet is no Parquet file, or damaged or cut"),
    ("a.parquet.gz", gzip.compress(b"PAR1"), "a.parquet.gz is compressed (gzip); unpack it"),
    ("a.jsonl", _LINE + '{"txt": "Hi"}', "a.jsonl, line 2 has no column 'text'; did you mean 'txt'?"),
    ("a.jsonl", _LINE + '{"text": ["Hi"]}', "a.jsonl, line 2: column 'text' holds a list; a template takes text"),
    ("a.jsonl", _LINE + '{"text": " "}', "a.jsonl, line 2: the prompt is empty ('text'); fill the column, or"),
    ("a.jsonl", '{"prompt": "a", "text": "b"}', "line 1 has columns 'prompt' and 'text'; say which is meant"),
    ("a.jsonl", f'{{{_MESSAGES}, "prompt": "b"}}', "columns 'messages' and 'prompt'; say which is meant"),
    ("a.csv", "id,body\n1,Hi\n", "say what to ask, such as prompt='{id}'; its columns are 'id', 'body'"),
    ("a.jsonl", f"{{{_MESSAGES}}}\n" + _LINE, "a.jsonl, line 2: has no column 'messages'; its columns are 'text'"),
    ("a.jsonl", '{"messages": "Hi"}', "a.jsonl, line 1: messages is text that is not JSON; it must be a list"),
    ("a.jsonl", '{"messages": []}', "a.jsonl, line 1: messages must be a list of messages, got an empty list"),
    ("a.jsonl", '{"messages": [{"role": "me", "content": "Hi"}]}', "a.jsonl, line 1: messages[0].role: must be"),
    ("a.jsonl", _LINE + '{"text": "Hi", "answer": "b"}', "a.jsonl, line 2: has a column 'answer', which the first"),
    ("a.jsonl", _BATCH + _BATCH.replace('"a"', "7"), 'custom_id must be text, got a number; write it in quotes: "7"'),
    ("a.jsonl", _BATCH + _BATCH.replace('"a"', '""'), "a.jsonl, line 2: custom_id is empty; each line needs one"),
    ("a.jsonl", _BATCH + f'{{"body": {{{_MESSAGES}}}}}', "line 2: custom_id is missing; each line needs one"),
    ("a.jsonl", _BATCH + _LINE, "a.jsonl, line 2: has no 'body' with a request, as the lines before it have"),
    ("a.jsonl", _BATCH[:-2] + ', "method": "GET"}', "a.jsonl, line 1: method must be 'POST', got 'GET'"),
    ("a.jsonl", _BATCH[:-2] + ', "url": "/v1/embeddings"}', "url must be '/v1/chat/completions', got"),
    ("a.jsonl", _BATCH.replace("]}", '], "stream": true}'), "body.stream must not be true: a job takes"),
    ("a.jsonl", _BATCH.replace("]}", '], "temprature": 1}'), "body.temprature is unknown; did you mean 'temp"),
    ("a.jsonl", _BATCH.replace("]}", '], "model": ""}'), "line 1: body.model must be a model's name, or a list"),
    ("a.jsonl", _BATCH.replace("]}", '], "model": 5}'), "or a list of these, got a number"),
    ("a.jsonl", _BATCH.replace("]}", '], "model": []}'), "or a list of these, got an empty list"),
    ("a.jsonl", _BATCH + _BATCH.replace("]}", '], "temperature": 9}'), "a.jsonl, line 2: temperature: must be less"),
]


@pytest.mark.parametrize(
    ("name", "content", "sentence"), BROKEN, ids=[f"{name}: {sentence[:45]}" for name, _, sentence in BROKEN]
)
def test_a_broken_file_is_told_with_place_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    assert sentence in _said(_file(tmp_path, name, content))


ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "{txt}"}, "prompt: a.csv has no column 'txt'; did you mean 'text'?"),
    ({"prompt": "{body}"}, "prompt: a.csv has no column 'body'; its columns are 'id', 'text'"),
    ({"prompt": "text"}, "prompt: it names no column, so each row would ask the same; did you mean '{text}'?"),
    ({"prompt": "{text.upper}"}, "; write {text}: attributes, items and formats are not supported"),
    ({"prompt": "{text!r:>9}"}, "; write {text}: attributes, items and formats are not supported"),
    ({"prompt": "{text[0]}"}, "; write {text}: attributes, items and formats are not supported"),
    ({"prompt": "a {text"}, "prompt: '{' at character 3: a column is written {name}, and a brace of the text twice"),
    ({"prompt": "a } {text}"}, "prompt: '}' at character 3: a column is written {name}"),
    ({"prompt": "a {} {text}"}, "prompt: '{}' at character 3: a column is written {name}"),
    ({"prompt": 5}, "prompt: must be text, got a value of type int"),
    ({"system": ["Be brief"]}, "system: must be text, got a value of type list"),
    ({"limit": 0}, "limit: must be a whole number from 1, got 0"),
    ({"limit": True}, "limit: must be a whole number from 1, got True"),
    ({"params": {"stream": True}}, "params: stream must not be there; a job takes whole answers"),
    ({"params": {"messages": []}}, "params: messages must not be there; the input holds them"),
    ({"params": {"temprature": 1}}, "a.csv, line 2: temprature: unknown name; did you mean 'temperature'?"),
    ({"params": {"model": "a/b"}, "model": "a/b"}, "params: model is given twice; give only the argument"),
    ({"params": ["a"]}, "params: must be a mapping of names to values"),
    ({"schema": {"type": "array"}}, "schema: its type must be 'object', since each answer is one"),
    ({"schema": {"type": "object"}}, "schema: it has no properties, which become the columns of the output"),
    ({"schema": "nowhere.json"}, "schema: nowhere.json cannot be read (No such file or directory)"),
    ({"schema": __file__}, "schema: test_broken_inputs.py is not JSON"),
    ({"schema": 5}, "schema: must be a Pydantic class, a JSON schema or the path of one, got a number"),
    ({"schema": int}, "schema: must be a Pydantic model's class, got <class 'int'>"),
    ({"schema": {"type": "json_schema", "json_schema": {}}}, "schema: it is a response_format; give the JSON schema"),
    (
        {"schema": {"type": "object", "properties": {"a": {"type": "text"}}}},
        "schema: type 'text' is unknown; JSON schema has object, array, string",
    ),
    (
        {"schema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}},
        "schema: $ref '#/$defs/b' leads nowhere",
    ),
    (
        {"schema": {"type": "object", "properties": {"a": {"pattern": "("}}}},
        "schema: pattern '(' is no regular expression of Python",
    ),
    ({"schema": {"type": "object", "required": "a"}}, "schema: required must be a list"),
    (
        {"schema": {"type": "object", "properties": {"a": {}}}, "params": {"response_format": {"type": "json_object"}}},
        "params: response_format and schema exclude each other",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), ARGUMENTS, ids=[sentence[:60] for _, sentence in ARGUMENTS])
def test_a_wrong_argument_is_told_with_what_is_right(tmp_path: Path, arguments: dict[str, Any], sentence: str) -> None:
    assert sentence in _said(_file(tmp_path, "a.csv", "id,text\n1,Hi\n"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prompt": "{text}"}, "prompt: the input holds whole requests (body); leave out prompt"),
        (
            {"system": "Be brief"},
            "line 1: the messages begin with a system message; leave out the job's system",
        ),
        (
            {"schema": {"type": "object", "properties": {"a": {}}}},
            "a.jsonl, line 1: body.response_format and the job's schema exclude each other",
        ),
    ],
    ids=["prompt", "system", "schema"],
)
def test_an_argument_that_a_batch_line_excludes_is_told(
    tmp_path: Path, arguments: dict[str, Any], sentence: str
) -> None:
    body = '{"messages": [{"role": "system", "content": "Hi"}], "response_format": {"type": "json_object"}}'
    assert sentence in _said(_file(tmp_path, "a.jsonl", f'{{"custom_id": "a", "body": {body}}}\n'), **arguments)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"text": "Hi"}, "the input is a mapping, which is one row; give a list of rows: [row]"),
        (b"Hi", "the input is bytes; write them to a file and give its path"),
        (io.StringIO("Hi"), "the input is an open file; give its path instead"),
        ({"Hi"}, "the input is a set, which has no order"),
        (5, "the input is a number; it must be a path, a DataFrame or an iterable"),
        (list, "the input is a value of type type; it must be a path"),
        ([], "an iterable has no rows"),
        (iter([]), "an iterator has no rows"),
        (["Hi", 5], "an iterable, item 2: a number; each must be a dict, a text or a list of messages"),
        (["Hi", []], "an iterable, item 2: an empty list; each must be a dict"),
        ([{"text": "Hi"}, {1: "Hi"}], "an iterable, item 2: its key 1 must be text"),
    ],
    ids=["mapping", "bytes", "open file", "set", "number", "class", "no rows", "no items", "item", "empty item", "key"],
)
def test_what_is_no_source_of_rows_is_told(source: Any, sentence: str) -> None:
    assert sentence in _said(source)


async def _asynchronous() -> Any:
    yield "Hi"


def test_an_asynchronous_iterable_is_told() -> None:
    assert "is an asynchronous iterable; collect it into a list first" in _said(_asynchronous())


def test_a_directory_and_a_missing_file_are_told(tmp_path: Path) -> None:
    assert _said(tmp_path) == f"{tmp_path.name} is a directory; name one file in it"
    looked_for = tmp_path / "a.csv"
    assert _said(looked_for) == f"a.csv does not exist (looked for {looked_for}); texts to ask go in a list"


@pytest.mark.parametrize(
    ("text", "why"),
    [("Why do llamas hum?", "does not exist"), ("Why? " * 1000, "cannot be read"), ("Why\0", "cannot be read")],
    ids=["short", "long", "NUL"],
)
def test_a_text_that_is_no_path_is_told(text: str, why: str) -> None:
    said = _said(text)
    assert why in said
    assert "texts to ask go in a list" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert "a.jsonl is no regular file, and a job must be able to read it again" in _said(tmp_path / "a.jsonl")


def test_a_line_longer_than_the_bound_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_client.bulk.inputs.files.MAX_LINE_BYTES", 2**20)
    monkeypatch.setattr("llama_client.bulk.inputs.csv_files.MAX_LINE_BYTES", 2**20)
    long = _file(tmp_path, "a.jsonl", _LINE + '{"text": "' + "x" * 2**20)
    assert "a.jsonl, line 2: longer than 1 MiB" in _said(long)
    unclosed = _file(tmp_path, "a.csv", 'text\nHi\n"' + "x\n" * 2**19)
    assert "a.csv, line 3: a record longer than 1 MiB; is a quoted field not closed" in _said(unclosed)
    many = _file(tmp_path, "a.csv", "text\n" + f'"{"x" * 1000}\n"\n' * 2000)
    assert len(list(open_input(many).rows())) == 2000


def test_what_is_appended_while_a_file_is_read_does_not_count(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.jsonl", _LINE * 2 + _LINE.strip())
    rows = open_input(path)
    reading = rows.rows()
    next(reading)
    with path.open("a") as more:
        more.write("\n" + _LINE)
    assert len(list(reading)) == 2
    assert len(list(rows.rows())) == rows.count() == 3
    assert len(list(open_input(path).rows())) == 4


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", _LINE + '{"text": "Hi'), ("a.csv", "text\nHi\nHow a")], ids=["jsonl", "csv"]
)
def test_a_line_that_is_being_written_is_told(tmp_path: Path, name: str, content: str) -> None:
    path = _file(tmp_path, name, content)
    rows = open_input(path)
    with path.open("a") as more:
        more.write("re you")
    with pytest.raises(InvalidRequestError, match=f"{name}, line .: incomplete: the file is still being written"):
        list(rows.rows())


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 25)


def _overwritten(path: Path) -> None:
    found = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    # A file system may keep times of a second.
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 2_000_000_000))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def _removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (_cut, "was cut from 45 to 20 bytes"),
        (_overwritten, "was written to"),
        (_replaced, "was replaced by another file"),
        (_removed, "is no longer there"),
    ],
    ids=["cut", "overwritten", "replaced", "removed"],
)
def test_a_file_that_is_changed_between_two_readings_is_told(tmp_path: Path, change: Any, how: str) -> None:
    path = _file(tmp_path, "a.jsonl", _LINE * 3)
    rows = open_input(path)
    list(rows.rows())
    change(path)
    with pytest.raises(JobError, match=f"a.jsonl {how} while the job read it") as caught:
        list(rows.rows())
    assert caught.value.where == "a.jsonl"


@pytest.mark.parametrize("change", [_cut, _overwritten], ids=["cut", "overwritten"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_that_is_changed_while_it_is_read_is_told(tmp_path: Path, name: str, change: Any) -> None:
    # Longer than what is read at once.
    content = "".join(f'{{"text": "{random.random()}"}}\n' for _ in range(10_000)).encode()
    path = _file(tmp_path, name, gzip.compress(content) if name.endswith(".gz") else content)
    reading = open_input(path).rows()
    next(reading)
    change(path)
    with pytest.raises(JobError, match=f"{name} was"):
        list(reading)


def test_an_iterator_gives_its_rows_once() -> None:
    rows = open_input(iter(["a", "b"]))
    assert not rows.is_replayable
    assert [row.position for row in rows.rows()] == [0, 1]
    with pytest.raises(JobError, match="an iterator gives its rows once, and they were read; give a list, a file"):
        list(rows.rows())
