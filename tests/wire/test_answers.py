"""Answers as servers send them: a row for each server, version and shape, with invented words around the deciding.

The next server is a row of `answers.json`: what it sends (`body` whole, `events` of a stream, or `raw` bytes under
`content_type`), for what was `asked` (by default what it sends), and what that is (`want`).
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatCompletion, ProviderError, errors
from llama_client.testing.dialects import DIALECTS, OPENAI, Dialect
from llama_client.testing.loopback import Answer, WireServer, cut, streamed, whole
from llama_client.testing.wire_format import SSE
from tests.asking import MODES, Asker
from tests.wire import servers_page
from tests.wire.asking import KEY

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("bash", "look")
]
TOOLS.append({"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}})


def name_of(row: dict[str, Any]) -> str:
    return f"{row['server']} {row['version']}".strip() + f": {row['shape']}"


def dialect_of(row: dict[str, Any]) -> Dialect:
    return next(dialect for dialect in DIALECTS if dialect.kind == row.get("kind", "openai"))


def is_played(row: dict[str, Any], mode: str) -> bool:
    """Whether a row has an answer for what is asked in a mode."""
    streams = mode.startswith("stream")
    if "asked" in row:
        return bool(streams == (row["asked"] == "stream"))
    return "raw" in row or ("events" if streams else "body") in row


PLAYED = [(row, mode) for row in ROWS for mode in MODES if is_played(row, mode)]
each_row = pytest.mark.parametrize(("row", "mode"), PLAYED, ids=[f"{mode} {name_of(row)}" for row, mode in PLAYED])


def bytes_of(row: dict[str, Any], mode: str) -> bytes:
    if "raw" in row:
        return str(row["raw"]).encode()
    if "events" in row and (mode.startswith("stream") or "body" not in row):
        events = [each if isinstance(each, str) else json.dumps(each) for each in row["events"]]
        form = "{}\n" if row.get("kind") == "ollama" else "data: {}\n\n"
        return "".join(map(form.format, events)).encode()
    return json.dumps(row["body"]).encode()


def answer_of(row: dict[str, Any], mode: str, size: int | None) -> Answer:
    data = bytes_of(row, mode)
    usual = "text/event-stream" if data.startswith(b"data:") else "application/json"
    if row.get("kind") == "ollama" and mode.startswith("stream"):
        usual = "application/x-ndjson"
    headers = SSE | {"content-type": row.get("content_type", usual)}
    return whole(data, headers=headers) if size is None else streamed(cut(data, size), headers=headers)


def asked(row: dict[str, Any], mode: str, size: int | None = None) -> ChatCompletion:
    dialect = dialect_of(row)
    with WireServer(dialect.answers(answer_of(row, mode, size))) as server:
        price = {"target": "x/some/model", "input_usd_per_mtok": 1, "output_usd_per_mtok": 10}
        config = dialect.config(server.url) | {"prices": [] if "charge" in row["want"] else [price]}
        return Asker(mode, config, [])("hello", tools=TOOLS)


@each_row
def test_an_answer_is_what_its_bytes_say(row: dict[str, Any], mode: str) -> None:
    want = row["want"]
    if "error" in want:
        with pytest.raises(getattr(errors, want["error"])):
            asked(row, mode)
        return
    reply = asked(row, mode)
    message, usage = reply.choices[0].message, reply.usage
    calls = [[call.id, call.function.name, call.function.arguments] for call in message.tool_calls or ()]
    got: dict[str, Any] = {
        "content": message.content,
        "reasoning": message.reasoning,
        "finish_reason": reply.choices[0].finish_reason,
        "tool_calls": calls,
        "names": [call[1:] for call in calls],
        "usage": [usage.prompt_tokens, usage.completion_tokens],
        "cached": usage.cached_tokens,
        "written": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "charge": None if reply.cost.usd is None else str(reply.cost.usd),
        "status": reply.cost.status,
        "sources": [[source.kind, source.url, source.title] for source in reply.sources],
    }
    for name in ("tool_calls", "names"):
        if name in want:
            got[name] = [[*call[:-1], json.loads(call[-1])] for call in got[name]]
            want = want | {name: [[*call[:-1], json.loads(call[-1])] for call in want[name]]}
    if want.get("charge") is not None:
        got["charge"] = reply.cost.usd
        want = want | {"charge": Decimal(want["charge"])}
    checked = want.keys() - {"warning", "source", "billed"}
    assert {name: got[name] for name in checked} == {name: want[name] for name in checked}
    if "source" in want:
        assert want["source"] in str(reply.cost.source)
    if "billed" in want:
        billed = Decimal(want["billed"][0] + 10 * want["billed"][1]) / 1_000_000
        assert (reply.cost.usd, reply.cost.status) == (billed, want.get("status", "estimated"))
    warnings = " ".join(reply.warnings)
    assert want.get("warning", "") in warnings
    if "warning" not in want:
        assert "finish reason" not in warnings
    assert len({call[0] for call in calls}) == len(calls)


@pytest.mark.parametrize("size", [1])
@pytest.mark.parametrize("row", [row for row, mode in PLAYED if mode == "stream-sync"], ids=name_of)
def test_a_stream_cut_anywhere_is_the_same_answer(row: dict[str, Any], size: int) -> None:
    in_one, in_many = asked(row, "stream-sync"), asked(row, "stream-async", size)
    assert in_one.choices[0].message.reasoning == in_many.choices[0].message.reasoning
    same: Any = {
        "choices": {0: {"message": {"content", "refusal"}, "finish_reason": True}},
        "usage": True,
        "sources": True,
    }
    assert in_one.model_dump(include=same) == in_many.model_dump(include=same)


def test_own_price_counts_before_the_charge_that_a_provider_tells() -> None:
    row = next(row for row in ROWS if row["shape"] == "usage.cost")
    priced = row | {"want": {}}
    assert asked(priced, "call-sync").cost.source == "the configuration"


def test_a_charge_of_a_part_of_an_answer_is_no_exact_cost() -> None:
    row = next(row for row in ROWS if row["shape"] == "usage.cost")
    broken = row | {"events": [row["events"][-2] | {"choices": row["events"][0]["choices"]}]}
    with pytest.raises(ProviderError) as raised:
        asked(broken, "stream-sync")
    attempt = raised.value.attempts[0]
    assert attempt.cost is not None
    assert (attempt.cost.usd, attempt.cost.status) == (Decimal("0.00137"), "estimated")


def test_a_charge_of_0_does_not_count_before_a_list_price() -> None:
    body = ROWS[0]["body"] | {
        "usage": {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000, "cost": 0}
    }
    groq = next(dialect for dialect in DIALECTS if dialect.kind == "groq")
    with WireServer(groq.answers(whole(json.dumps(body).encode()))) as server:
        config = groq.config(server.url, api_key="key") | {"default_model": "x/openai/gpt-oss-20b"}
        cost = Asker("call-sync", config, [])("hello").cost
    assert cost.usd
    assert cost.source != "usage.cost of x"


@pytest.mark.parametrize("mode", MODES)
def test_words_of_the_server_that_come_with_an_answer_hold_no_secret(mode: str) -> None:
    choice = {"index": 0, "delta": {"content": "x"}, "message": {"role": "assistant", "content": "x"}}
    ended = {**choice, "finish_reason": f"odd {KEY}"}
    body = {"id": "c", "created": 1, "model": "m", "choices": [ended], "citations": [f"https://a.example/?k={KEY}"]}
    if mode.startswith("stream"):
        del ended["message"]
    row = {"body": body, "events": [body, "[DONE]"], "want": {}}
    with WireServer(OPENAI.answers(answer_of(row, mode, None))) as server:
        reply = Asker(mode, OPENAI.config(server.url, api_key=KEY), [])("hello")
    assert reply.warnings
    assert reply.sources
    assert KEY not in f"{reply.warnings} {reply.sources}"


@pytest.mark.parametrize("mode", MODES)
def test_a_text_in_tags_is_a_text_where_that_is_asked_for(mode: str) -> None:
    row = next(row for row in ROWS if row["shape"] == "tags, as no parser of reasoning is set")
    with WireServer(OPENAI.answers(answer_of(row, mode, None))) as server:
        message = Asker(mode, OPENAI.config(server.url), [])("hello", reasoning_format="raw").choices[0].message
        assert "reasoning_format" not in server.requests[0].json
    assert message.reasoning is None
    assert message.content == "<think>\nTwo and two.\n</think>\n\n4"


def test_the_page_tells_what_was_verified_server_by_server() -> None:
    page = servers_page.PAGE.read_text(encoding="utf-8")
    assert servers_page.filled(page) == page, "run `python -m tests.wire.servers_page`, which writes the table anew"
