"""The file: readable, whole or not at all, and what is said of one that is broken."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_client.testing.cassettes import CassetteError, cassette, recording, replaying
from llama_client.testing.cassettes.bodies import lines_of, pieces_of
from llama_client.testing.cassettes.files import MAX_BYTES
from llama_client.testing.dialects import OLLAMA, OPENAI
from llama_client.testing.loopback import WireServer, as_json, streamed
from tests.cassettes.playing import no_sockets, plain
from tests.routing.asking import ask, config, good

SSE = OPENAI.preamble() + OPENAI.text('Grüße 🦙 \\ "') + OPENAI.text("\u2028") + b"".join(OPENAI.ending())
NDJSON = OLLAMA.preamble() + OLLAMA.text("Grüße 🦙") + b"".join(OLLAMA.ending())


def _cut_at(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


@given(st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([SSE, NDJSON, SSE.replace(b"\n", b"\r\n")]))
def test_any_cut_of_a_stream_comes_back_the_same(places: list[int], stream: bytes) -> None:
    pieces = [(float(number), piece) for number, piece in enumerate(_cut_at(stream, places))]
    lines = [type(line).model_validate(json.loads(line.model_dump_json())) for line in lines_of(pieces)]
    back = pieces_of(lines)
    assert [at_s for at_s, _ in back] == [at_s for at_s, _ in pieces]
    assert _events(b"".join(data for _, data in back)) == _events(stream)


def _events(stream: bytes) -> list[Any]:
    """What a decoder makes of a stream."""
    found: list[Any] = []
    for line in stream.decode().replace("\r\n", "\n").split("\n"):
        text = line.removeprefix("data:").strip()
        found += [] if not text else [json.loads(text)] if text.startswith("{") else [text]
    return found


@given(st.lists(st.tuples(st.floats(0, 9), st.binary(min_size=1, max_size=40)), max_size=6))
def test_any_bytes_come_back_the_same(pieces: list[tuple[float, bytes]]) -> None:
    assert [data for _, data in pieces_of(lines_of(pieces))] == [data for _, data in pieces]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_torn_stream_is_replayed(mode: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    pieces = [SSE[start : start + size] for start in range(0, len(SSE), size)]
    with WireServer(lambda _: streamed(pieces)) as server:
        there = config(server)
        with recording(path):
            recorded = ask(there, mode)
    with no_sockets(), replaying(path):
        assert plain(ask(there, mode)) == plain(recorded)


def test_a_cassette_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(good("Hm 🦙")) as server, recording(path):
        ask(config(server), "stream-sync")
        ask(config(server), "call-sync")
    text = path.read_text("utf-8")
    assert text.startswith('{\n"llama_client_cassette": 1,\n"exchanges": [\n')
    events = [line for line in text.splitlines() if '"data": {' in line or "[DONE]" in line]
    assert len(events) == 4
    assert sum("Hm 🦙" in line for line in text.splitlines()) == 2
    assert "Authorization" not in text
    assert "127.0.0.1" not in text
    assert "\r" not in text


@pytest.mark.parametrize("more", [b'"n": 0.12345678901234567890123', b'"n": 2, "n": 1'], ids=["digits", "twice"])
def test_a_body_that_json_cannot_keep_is_kept_as_it_came(more: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    body = json.dumps(OPENAI.whole()).encode()[:-1] + b", " + more + b"}"
    with WireServer(lambda _: streamed([body], headers={"content-type": "application/json"})) as server:
        with recording(path):
            recorded = ask(config(server), "call-sync")
        with no_sockets(), replaying(path):
            assert ask(config(server), "call-sync").raw == recorded.raw
    line = json.loads(path.read_text("utf-8"))["exchanges"][0]["answer"]["lines"][0]
    assert more.decode() in line["text"]


GOOD: dict[str, Any] = {"provider": "a", "request": {"method": "POST", "path": "x"}, "answer": {"status": 200}}
BROKEN: dict[str, tuple[str, str, str]] = {
    "torn": ('{\n"llama_client_cassette": 1,\n"exch', "line 3, column 1", "record it anew"),
    "empty": ("", "line 1, column 1", "record it anew"),
    "other": ('{"interactions": []}', "llama_client_cassette", "record it anew"),
    "list": ("[]", "llama_client_cassette", "record it anew"),
    "newer": ('{"llama_client_cassette": 2, "exchanges": []}', "llama_client_cassette", "this llama-client reads 1"),
    "no list": ('{"llama_client_cassette": 1, "exchanges": {}}', "exchanges", "must be a list"),
    "status": (json.dumps({"llama_client_cassette": 1, "exchanges": [GOOD, GOOD | {"answer": {"status": "ok"}}]}),
               "exchanges[1].answer.status", "correct it"),
    "unknown": (json.dumps({"llama_client_cassette": 1, "exchanges": [GOOD | {"anwser": {}}]}),
                "exchanges[0].anwser", "correct it"),
    "base64": (json.dumps({"llama_client_cassette": 1, "exchanges": [GOOD | {"answer": {"lines": [{"base64": "?"}]}}]}),
               "exchanges[0].answer.lines", "correct it"),
    "line": (json.dumps({"llama_client_cassette": 1, "exchanges": [GOOD | {"answer": {"lines": [{"at_s": 1}]}}]}),
             "exchanges[0].answer.lines[0]", "must have one of"),
    "no exchange": ('{"llama_client_cassette": 1, "exchanges": [7]}', "exchanges[0]", "correct it"),
    "deep": ('{"llama_client_cassette": 1, "exchanges": ' + "[" * 100_000, "", "record it anew"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_cassette_is_told_with_place_and_remedy(fault: str, tmp_path: Path) -> None:
    text, place, remedy = BROKEN[fault]
    path = tmp_path / "c.json"
    path.write_text(text, "utf-8")
    with pytest.raises(CassetteError) as caught, replaying(path):
        pass
    assert caught.value.file == path
    assert (caught.value.place or "") == place
    assert str(path) in str(caught.value)
    assert place in str(caught.value)
    assert remedy in str(caught.value)


def test_a_missing_cassette_says_how_to_record_it(tmp_path: Path) -> None:
    with (
        pytest.raises(CassetteError, match='does not exist: record it with mode="once"'),
        replaying(tmp_path / "c.json"),
    ):
        pass


def test_a_folder_and_a_huge_file_are_no_cassettes(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="is a folder"), replaying(tmp_path):
        pass
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CassetteError, match="a cassette at most 64 MiB"), replaying(huge):
        pass


def test_no_text_is_no_cassette(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(b'{"llama_client_cassette": \xff}')
    with pytest.raises(CassetteError, match="byte 26: is no text in UTF-8"), replaying(path):
        pass


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    wrong: Any = "rerecord"
    with pytest.raises(CassetteError, match="mode: must be one of replay, record, once, refresh"):
        cassette(tmp_path / "c.json", wrong).__enter__()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"timing": "record"}, "timing: must be one of at_once, recorded, got 'record'"),
    ({"ignore": "seed"}, "ignore: must be a list of names"),
]


@pytest.mark.parametrize(("options", "told"), WRONG, ids=["timing", "ignore"])
def test_wrong_options_are_refused(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match=told), cassette(tmp_path / "c.json", "record", **options):
        pass


@pytest.mark.parametrize("mode", ["record", "once", "refresh"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(mode: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CassetteError, match="cannot be written"):
        cassette(tmp_path / "file" / "c.json", mode).__enter__()


def test_an_answer_written_by_hand_needs_no_times(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with WireServer(lambda _: as_json(OPENAI.whole("recorded"))) as server:
        there = config(server)
        with recording(path):
            ask(there, "call-sync")
    content = json.loads(path.read_text("utf-8"))
    content["exchanges"][0]["answer"] = {"status": 200, "body": OPENAI.whole("by hand")}
    path.write_text(json.dumps(content), "utf-8")
    with no_sockets(), replaying(path):
        assert ask(there, "call-sync").text == "by hand"
