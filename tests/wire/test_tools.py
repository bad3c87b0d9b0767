"""Tool calls on the wire: told apart however they are numbered, handed back as servers want them, rescued at Groq."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llama_client import ChatCompletion, GenerationFailedError
from llama_client.testing.dialects import DIALECTS, GROQ, OLLAMA, OPENAI, TOGETHER, Dialect
from llama_client.testing.loopback import Answer, WireServer, as_json, streamed
from llama_client.testing.wire_format import SSE
from llama_client.types.completion import ToolCall
from tests.asking import MODES, Asker
from tests.wire.asking import PLENTY_S

OPENAI_SHAPED = [GROQ, TOGETHER, OPENAI]
each_mode = pytest.mark.parametrize("mode", MODES)
each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
each_openai_shaped = pytest.mark.parametrize("dialect", OPENAI_SHAPED, ids=str)

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "where": {"type": "object"},
    },
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Tells it.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}},
]
PARIS = '{"city": "Paris"}'


def asks(server: WireServer, dialect: Dialect, mode: str, **params: Any) -> tuple[ChatCompletion, Asker]:
    asker = Asker(mode, dialect.config(server.url, api_key="k"), [])
    messages = params.pop("messages", "What is the weather in Paris?")
    reply = asker(messages, model="x/some/model", tools=TOOLS, timeout=PLENTY_S, **params)
    return reply, asker


def chunk(delta: dict[str, Any] | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def stream_of(*calls: dict[str, Any]) -> Answer:
    """Each of these in a chunk of its own."""
    deltas = [chunk({"tool_calls": [call]}) for call in calls]
    return streamed([chunk({"role": "assistant"}), *deltas, chunk({}, "tool_calls"), b"data: [DONE]\n\n"], headers=SSE)


def piece(name: str | None = None, arguments: Any = None, **places: Any) -> dict[str, Any]:
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return {**places, "function": function}


def calls_of(reply: ChatCompletion) -> list[ToolCall]:
    """The calls of a reply, which every reply must keep these rules for."""
    calls = reply.choices[0].message.tool_calls or []
    assert all(call.id for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    assert all(isinstance(call.function.arguments, str) for call in calls)
    return calls


def told(reply: ChatCompletion) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls_of(reply)]


def check_chunks(reply: ChatCompletion, asker: Asker) -> None:
    """The pieces with one index make up the call of that place, under one id that is told once or stays the same."""
    ids: dict[int, set[str]] = {}
    arguments: dict[int, str] = {}
    for delta in (delta for sent in asker.chunks for choice in sent.choices for delta in choice.delta.tool_calls or ()):
        ids.setdefault(delta.index, set()).update([delta.id] if delta.id else [])
        assert delta.function is not None
        arguments[delta.index] = arguments.get(delta.index, "") + (delta.function.arguments or "")
    calls = calls_of(reply)
    assert ids == {index: {call.id} for index, call in enumerate(calls)}
    # No arguments at all are an empty object, which only the end of the answer tells.
    assert {i: text or "{}" for i, text in arguments.items()} == {i: c.function.arguments for i, c in enumerate(calls)}


TWO = [("get_weather", {"city": "Paris"}), ("get_time", {})]
STREAMS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, Any]]]] = {
    "all with index 0 and ids of their own": (
        [piece("get_weather", PARIS, index=0, id="a"), piece("get_time", "{}", index=0, id="b")],
        TWO,
    ),
    "all with index 0, in pieces": (
        [
            piece("get_weather", "", index=0, id="a"),
            piece(None, '{"city": ', index=0),
            piece(None, '"Paris"}', index=0),
            piece("get_time", "{}", index=0, id="b"),
        ],
        TWO,
    ),
    "neither ids nor indexes": ([piece("get_weather", PARIS), piece("get_time", "{}")], TWO),
    "neither ids nor indexes, in pieces": (
        [piece("get_weather", ""), piece(None, '{"city": '), piece(None, '"Paris"}'), piece("get_time", "{}")],
        TWO,
    ),
    "indexes without ids": (
        [
            piece("get_weather", '{"city": ', index=0),
            piece(None, '"Paris"}', index=0),
            piece("get_time", "{}", index=1),
        ],
        TWO,
    ),
    "pieces of two calls in turn": (
        [
            piece("get_weather", '{"city"', index=0, id="a"),
            piece("get_time", "{", index=1, id="b"),
            piece(None, ': "Paris"}', index=0),
            piece(None, "}", index=1),
        ],
        TWO,
    ),
    "Together's: the name first, the arguments then": (
        [piece("get_weather", "", index=0, id="call_1", type="function"), piece(None, PARIS, index=0)],
        TWO[:1],
    ),
    "the id with every piece": (
        [
            piece("get_weather", "", index=0, id="a"),
            piece(None, '{"city": ', index=0, id="a"),
            piece(None, '"Paris"}', index=0, id="a"),
        ],
        TWO[:1],
    ),
    "the id and the name with every piece": (
        [piece("get_weather", '{"city": ', index=0, id="a"), piece("get_weather", '"Paris"}', index=0, id="a")],
        TWO[:1],
    ),
    "an empty id with later pieces": (
        [piece("get_weather", '{"city": ', index=0, id="a"), piece("", '"Paris"}', index=0, id="")],
        TWO[:1],
    ),
    "indexes that begin at 1": (
        [piece("get_weather", PARIS, index=1, id="a"), piece("get_time", "{}", index=2, id="b")],
        TWO,
    ),
    "arguments as an object": ([piece("get_weather", {"city": "Paris"}, index=0, id="a")], TWO[:1]),
    "a call without arguments": ([piece("get_time", index=0, id="a")], TWO[1:]),
}


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
@each_openai_shaped
@pytest.mark.parametrize("name", STREAMS)
def test_calls_in_a_stream_are_told_apart(name: str, dialect: Dialect, mode: str) -> None:
    pieces, expected = STREAMS[name]
    with WireServer(dialect.answers(stream_of(*pieces))) as server:
        reply, asker = asks(server, dialect, mode)
    assert told(reply) == expected
    assert reply.choices[0].finish_reason == "tool_calls"
    check_chunks(reply, asker)


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_two_calls_in_one_piece_are_two(mode: str) -> None:
    delta = {"tool_calls": [piece("get_weather", PARIS), piece("get_time", "{}")]}
    answer = streamed([chunk(delta), chunk({}, "tool_calls"), b"data: [DONE]\n\n"], headers=SSE)
    with WireServer(OPENAI.answers(answer)) as server:
        reply, asker = asks(server, OPENAI, mode)
    assert told(reply) == TWO
    check_chunks(reply, asker)


def test_calls_of_two_choices_are_kept_apart() -> None:
    def choice(index: int, city: str) -> dict[str, Any]:
        calls = [piece("get_weather", json.dumps({"city": city}), index=0, id=f"id-{index}")]
        return {"index": index, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}

    body = {"id": "c", "created": 1, "model": "m", "choices": [choice(1, "Rome"), choice(0, "Paris")]}
    pieces = [b"data: " + json.dumps(body).encode() + b"\n\n", b"data: [DONE]\n\n"]
    with WireServer(OPENAI.answers(streamed(pieces, headers=SSE))) as server:
        reply, _ = asks(server, OPENAI, "stream-sync", n=2)
    cities = [json.loads((c.message.tool_calls or [])[0].function.arguments)["city"] for c in reply.choices]
    assert cities == ["Paris", "Rome"]


@pytest.mark.parametrize("mode", ["call-sync", "call-async"])
@pytest.mark.parametrize("arguments", [PARIS, {"city": "Paris"}], ids=["text", "object"])
@each_openai_shaped
def test_arguments_of_a_whole_answer_are_a_text(dialect: Dialect, arguments: Any, mode: str) -> None:
    body = dialect.whole()
    body["choices"][0] |= {"finish_reason": "tool_calls"}
    body["choices"][0]["message"] = {"role": "assistant", "tool_calls": [piece("get_weather", arguments)]}
    with WireServer(dialect.answers(as_json(body))) as server:
        reply, _ = asks(server, dialect, mode)
    assert told(reply) == TWO[:1]
    assert reply.choices[0].message.content is None


@each_mode
def test_ollama_calls_without_ids_all_with_index_0_are_told_apart(mode: str) -> None:
    calls = [
        {"function": {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}},
        {"function": {"index": 0, "name": "get_time", "arguments": {}}},
    ]
    line = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": False}
    done = {**line, "done": True, "done_reason": "stop"}
    if mode.startswith("stream"):
        lines = [{**line, "message": {**line_message(), "tool_calls": [call]}} for call in calls]
        answer = streamed([OLLAMA.event(value) for value in (*lines, done)], headers=OLLAMA.stream_headers)
    else:
        answer = as_json({**done, "message": {**line_message(), "tool_calls": calls}})
    with WireServer(OLLAMA.answers(answer)) as server:
        reply, asker = asks(server, OLLAMA, mode)
    assert told(reply) == TWO
    assert reply.choices[0].finish_reason == "tool_calls"
    if asker.streams:
        check_chunks(reply, asker)


def line_message() -> dict[str, Any]:
    return {"role": "assistant", "content": "", "thinking": "Hm."}


@each_mode
def test_ollama_calls_within_the_last_object_count(mode: str) -> None:
    call = {"id": "call_9", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    done = {"model": "m", "done": True, "done_reason": "stop", "message": {**line_message(), "tool_calls": [call]}}
    whole = as_json(done) if mode.startswith("call") else streamed([OLLAMA.event(done)], headers=OLLAMA.stream_headers)
    with WireServer(OLLAMA.answers(whole)) as server:
        reply, _ = asks(server, OLLAMA, mode)
    assert told(reply) == TWO[:1]
    assert calls_of(reply)[0].id == "call_9"


def calling(dialect: Dialect, *, streams: bool) -> Answer:
    """An answer that thinks, and then calls a tool."""
    if dialect is OLLAMA:
        call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
        done = {"model": "m", "done": True, "done_reason": "stop", "message": {**line_message(), "tool_calls": [call]}}
        return streamed([dialect.event(done)], headers=dialect.stream_headers) if streams else as_json(done)
    message = {"role": "assistant", "content": None, "reasoning": "Hm.", "tool_calls": [piece("get_weather", PARIS)]}
    if streams:
        return streamed([chunk(message), chunk({}, "tool_calls"), b"data: [DONE]\n\n"], headers=SSE)
    body = dialect.whole()
    body["choices"][0] |= {"message": message, "finish_reason": "tool_calls"}
    return as_json(body)


@each_mode
@each_dialect
def test_a_whole_round_trip_hands_the_call_back_as_the_provider_wants_it(dialect: Dialect, mode: str) -> None:
    streams = mode.startswith("stream")
    with WireServer(dialect.answers(calling(dialect, streams=streams), dialect.good(streams=streams))) as server:
        first, _ = asks(server, dialect, mode)
        (call,) = calls_of(first)
        assert first.choices[0].message.reasoning == "Hm."
        result = {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"}
        messages = [{"role": "user", "content": "What is the weather in Paris?"}, first.choices[0].message, result]
        second, _ = asks(server, dialect, mode, messages=messages)
    assert second.text == "Hello"
    asked, answered = (request.json for request in server.requests)
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["get_weather", "get_time"]
    assert asked["tools"] == answered["tools"]
    _, assistant, tool = answered["messages"]
    assert assistant["role"] == "assistant"
    thought = {OLLAMA: {"thinking"}, GROQ: set()}.get(dialect, {"reasoning"})
    assert assistant.keys() - {"content"} == {"role", "tool_calls", *thought}
    (sent,) = assistant["tool_calls"]
    if dialect is OLLAMA:
        assert sent["function"] == {"name": "get_weather", "arguments": {"city": "Paris"}}
        assert tool == {
            "role": "tool",
            "tool_name": "get_weather",
            "tool_call_id": call.id,
            "content": "22 degrees",
        }
    else:
        assert sent == {"id": call.id, "type": "function", "function": {"name": "get_weather", "arguments": PARIS}}
        assert tool == result


GOOD = {
    "closed": f"<function=get_weather>{PARIS}</function>",
    "without the bracket": f"<function=get_weather{PARIS}</function>",
    "with an equals sign": f"<function=get_weather={PARIS}</function>",
    "with parentheses": f"<function=get_weather({PARIS})</function>",
    "with a bracket behind": f"<function=get_weather{PARIS}></function>",
    "with spaces": f"<function=get_weather> \n{PARIS}\n </function>",
    "tags": f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>',
    "bare, with arguments": f'{{"name": "get_weather", "arguments": {PARIS}}}',
    "bare, with parameters": f'{{"name": "get_weather", "parameters": {PARIS}}}',
    "bare, with a type": f'{{"type": "function", "function": {{"name": "get_weather", "arguments": {PARIS}}}}}',
    "bare, with arguments as text": json.dumps({"name": "get_weather", "arguments": PARIS}),
    "a list": f'[{{"name": "get_weather", "parameters": {PARIS}}}]',
    "a list below a name": f'{{"tool_calls": [{{"name": "get_weather", "arguments": {PARIS}}}]}}',
}
BAD = {
    "an undeclared tool": '<function=get_news>{"city": "Paris"}</function>',
    "a wrong type": '<function=get_weather>{"city": 7}</function>',
    "a truth value for a number": '<function=get_weather>{"city": "Paris", "days": true}</function>',
    "a word that is not among those allowed": '<function=get_weather>{"city": "Paris", "unit": "K"}</function>',
    "a missing argument": '<function=get_weather>{"days": 2}</function>',
    "truncated": '<function=get_weather>{"city": "Par',
    "truncated within a tag": '<tool_call>{"name": "get_weather", "arguments": {"city": "Par',
    "no JSON": "<function=get_weather>{city: Paris}</function>",
    "one good and one bad": f"<function=get_weather>{PARIS}</function><function=get_news>{{}}</function>",
    "nothing": "",
    "words": "I would call get_weather.",
    "arguments that are no object": '{"name": "get_weather", "arguments": ["Paris"]}',
}


def refusal(text: str, code: str = "tool_use_failed") -> dict[str, Any]:
    error = {"message": "Failed to call a function.", "type": "invalid_request_error", "code": code}
    return {"error": {**error, "failed_generation": text}}


def refused(text: str, mode: str, *, inside: bool, code: str = "tool_use_failed") -> Answer:
    """As a status, or inside a stream that began well."""
    body = refusal(text, code)
    if not (inside and mode.startswith("stream")):
        return as_json(body, status=400, headers={"x-request-id": "req_g"})
    body["error"]["status_code"] = 400
    event = b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"
    return streamed([chunk({"role": "assistant", "content": None}), event], headers={**SSE, "x-request-id": "req_g"})


def failing(server: WireServer, mode: str, **params: Any) -> GenerationFailedError:
    with pytest.raises(GenerationFailedError) as caught:
        asks(server, GROQ, mode, **params)
    return caught.value


@pytest.mark.parametrize("inside", [False, True], ids=["status", "event"])
@each_mode
@pytest.mark.parametrize("name", GOOD)
def test_a_valid_call_that_groq_rejects_is_rescued(name: str, mode: str, inside: bool) -> None:
    with WireServer(GROQ.answers(refused(GOOD[name], mode, inside=inside))) as server:
        reply, asker = asks(server, GROQ, mode)
    assert told(reply) == TWO[:1]
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.content is None
    (warning,) = reply.warnings
    assert "rescued" in warning
    (attempt,) = reply.attempts
    in_stream = inside and asker.streams
    assert (attempt.outcome, attempt.sent, attempt.http_status) == ("ok", True, 200 if in_stream else 400)
    assert attempt.provider_request_id == "req_g"
    assert reply.cost.usd is None
    assert "Failed to call a function" in json.dumps(reply.raw)
    if asker.streams:
        check_chunks(reply, asker)


@each_mode
def test_several_calls_and_the_text_before_them_are_rescued(mode: str) -> None:
    text = f"Let me see.\n<function=get_weather>{PARIS}</function>\n<function=get_time>{{}}</function>"
    with WireServer(GROQ.answers(refused(text, mode, inside=True))) as server:
        reply, _ = asks(server, GROQ, mode)
    assert told(reply) == TWO
    assert reply.text == "Let me see."


@pytest.mark.parametrize("city", ['a } b { "quoted" \\ end', "a } </function> end"], ids=["braces", "closing-tag"])
def test_what_looks_like_the_end_of_a_call_within_a_text_does_not_end_it(city: str) -> None:
    arguments = {"city": city, "where": {"at": {"lat": 1}}}
    text = f"<function=get_weather>{json.dumps(arguments)}</function>"
    with WireServer(GROQ.answers(refused(text, "call", inside=False))) as server:
        reply, _ = asks(server, GROQ, "call-sync")
    assert told(reply) == [("get_weather", arguments)]


@pytest.mark.parametrize("inside", [False, True], ids=["status", "event"])
@each_mode
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_valid_call_of_a_declared_tool_stays_an_error(name: str, mode: str, inside: bool) -> None:
    with WireServer(GROQ.answers(refused(BAD[name], mode, inside=inside))) as server:
        error = failing(server, mode)
    assert error.failed_generation == BAD[name]
    assert (error.provider_code, error.retryable, error.failover) == ("tool_use_failed", True, True)
    (attempt,) = error.attempts
    assert (attempt.outcome, attempt.error) == ("error", "GenerationFailedError")


@each_mode
def test_no_call_is_rescued_where_none_was_allowed(mode: str) -> None:
    with WireServer(GROQ.answers(refused(GOOD["closed"], mode, inside=True))) as server:
        assert failing(server, mode, tool_choice="none").failed_generation == GOOD["closed"]


@each_mode
def test_no_call_is_rescued_but_the_one_that_was_demanded(mode: str) -> None:
    demanded = {"type": "function", "function": {"name": "get_time"}}
    with WireServer(GROQ.answers(refused(GOOD["closed"], mode, inside=True))) as server:
        assert failing(server, mode, tool_choice=demanded).failed_generation == GOOD["closed"]


@each_mode
def test_a_failed_validation_of_json_holds_no_call(mode: str) -> None:
    with WireServer(GROQ.answers(refused(GOOD["closed"], mode, inside=True, code="json_validate_failed"))) as server:
        assert failing(server, mode).provider_code == "json_validate_failed"


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_text_that_was_handed_over_before_a_rescued_call_is_not_handed_over_again(mode: str) -> None:
    event = b"event: error\ndata: " + json.dumps(refusal(f"Let me see.\n{GOOD['closed']}")).encode() + b"\n\n"
    pieces: Iterator[bytes] = iter([chunk({"content": "Let me see.\n"}), event])
    with WireServer(GROQ.answers(streamed(pieces, headers=SSE))) as server:
        reply, asker = asks(server, GROQ, mode)
    assert told(reply) == TWO[:1]
    assert "".join(sent.text for sent in asker.chunks).strip() == "Let me see."
