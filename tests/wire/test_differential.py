"""What we send is what the provider's own client sends for the same call, and programs written for that client work."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import groq
import httpx
import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_client import LlamaClient
from llama_client.testing.dialects import GROQ, OPENAI
from llama_client.testing.loopback import Received, WireServer, as_json, streamed
from tests.wire.sending import DATA_URI, IMAGE_URL, MESSAGES, MODEL, forget_variables

Sends = Callable[[Mapping[str, Any]], Any]

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
STRICT: dict[str, Any] = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}, "strict": True},
}
SCHEMA = {"type": "object", "properties": {"größe": {"type": "integer", "default": None}}, "$defs": {}}
TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Cusco?"},
    {
        "role": "assistant",
        "content": "I'll look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Cusco"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": 'sunny ☀️ \n\t"quoted"'},
    {"role": "user", "content": [{"type": "text", "text": "Thanks."}]},
]
SEEING = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What are these?"},
            {"type": "image_url", "image_url": {"url": IMAGE_URL, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": DATA_URI}},
        ],
    }
]

# For both providers; what is missing is the model and `MESSAGES`.
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sampling": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 1024},
    "nothing is left to chance": {"temperature": 0, "seed": 0, "max_completion_tokens": 1},
    "one stop": {"stop": "END"},
    "several stops": {"stop": ["END", "\n\n", "🦙"]},
    "tools": {"tools": [WEATHER]},
    "tools, one of them strict, and a choice": {"tools": [WEATHER, STRICT], "tool_choice": "required"},
    "a named tool": {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "one tool call at a time": {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False},
    "JSON": {"response_format": {"type": "json_object"}},
    "text": {"response_format": {"type": "text"}},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
    "a strict schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "description": "b", "schema": SCHEMA, "strict": True},
        }
    },
    "tool results": {"messages": TOOL_TURNS, "tools": [WEATHER]},
    "images": {"messages": SEEING},
    "a developer": {"messages": [{"role": "developer", "content": "Be brief."}, *MESSAGES]},
    "an empty text": {"messages": [{"role": "user", "content": ""}]},
    "any letter": {"messages": [{"role": "user", "content": '\x00\x7f  é漢🦙\\"'}]},
    "penalties": {"frequency_penalty": -0.5, "presence_penalty": 2},
    "an end user": {"user": "u1"},
    "a tier": {"service_tier": "auto"},
    "little thinking": {"reasoning_effort": "low"},
    "one answer": {"n": 1},
    "a stream": {"stream": True},
    "fields of tomorrow": {"extra_body": {"new_field": {"deep": [1, None, True]}}},
}
OPENAI_CALLS: dict[str, dict[str, Any]] = {
    "several answers": {"n": 3},
    "log probabilities": {"logprobs": True, "top_logprobs": 5},
    "no log probabilities": {"logprobs": False},
    "biases": {"logit_bias": {"50256": -100, "11": 5}},
    "a stream with usage": {"stream": True, "stream_options": {"include_usage": True}},
    "named speakers": {"messages": [{"role": "user", "content": "hi", "name": "ann"}]},
}
GROQ_CALLS: dict[str, dict[str, Any]] = {"thinking": {"reasoning_format": "parsed", "reasoning_effort": "none"}}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)


class Recorder:
    """Answers like Groq and OpenAI, and remembers the body that it was sent."""

    body: Any = None

    def __call__(self, content: bytes) -> tuple[str, bytes]:
        self.body = json.loads(content)
        if self.body.get("stream"):
            return "text/event-stream", b"".join([OPENAI.preamble(), OPENAI.text("Hello"), *OPENAI.ending()])
        return "application/json", json.dumps(OPENAI.whole()).encode()

    def httpx(self) -> httpx.MockTransport:
        def answer(request: httpx.Request) -> httpx.Response:
            kind, content = self(request.content)
            return httpx.Response(200, headers={"content-type": kind}, content=content)

        return httpx.MockTransport(answer)

    def httpx2(self) -> httpx2.MockTransport:
        def answer(request: httpx2.Request) -> httpx2.Response:
            kind, content = self(request.content)
            return httpx2.Response(200, headers={"content-type": kind}, content=content)

        return httpx2.MockTransport(answer)


def _ask(client: Any, call: Mapping[str, Any]) -> None:
    answer = client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **call})
    if call.get("stream"):
        for _ in answer:
            pass


def ours(kind: str, call: Mapping[str, Any]) -> Any:
    """The body that we send."""
    recorder = Recorder()
    with httpx.Client(transport=recorder.httpx()) as http:
        address = {"base_url": "https://llm.test/v1"} if kind == "openai" else {}
        with LlamaClient.for_provider(kind, api_key="sk-123456", http_client=http, **address) as client:  # type: ignore[arg-type]
            _ask(client, call)
    return recorder.body


def theirs(kind: str, call: Mapping[str, Any]) -> Any:
    """The body that the official client sends."""
    recorder = Recorder()
    if kind == "groq":
        with groq.Groq(api_key="sk-123456", http_client=httpx.Client(transport=recorder.httpx())) as client:
            _ask(client, call)
    else:
        http = httpx2.Client(transport=recorder.httpx2())
        with openai.OpenAI(api_key="sk-123456", http_client=http) as client:
            _ask(client, call)
    return recorder.body


@pytest.mark.parametrize("call", [*CALLS.values(), *GROQ_CALLS.values()], ids=[*CALLS, *GROQ_CALLS])
def test_groq_is_sent_what_its_own_client_sends(call: dict[str, Any]) -> None:
    assert ours("groq", call) == theirs("groq", call)


def test_every_effort_of_groqs_client_is_known() -> None:
    call = {"reasoning_effort": "default"}
    assert ours("groq", call) == theirs("groq", call)


def test_every_effort_of_openais_client_is_known() -> None:
    call = {"reasoning_effort": "xhigh"}
    assert ours("openai", call) == theirs("openai", call)


def _as_ours(call: dict[str, Any]) -> dict[str, Any]:
    """Usage is always asked for, which OpenAI's client does only if told to; and a server of one's own gets the name of
    the limit that all of them know."""
    usage = {"stream_options": {"include_usage": True}} if call.get("stream") else {}
    names = {"max_completion_tokens": "max_tokens"}
    return {names.get(name, name): value for name, value in call.items()} | usage


@pytest.mark.parametrize("call", [*CALLS.values(), *OPENAI_CALLS.values()], ids=[*CALLS, *OPENAI_CALLS])
def test_a_compatible_server_is_sent_what_openais_client_sends(call: dict[str, Any]) -> None:
    assert ours("openai", call) == theirs("openai", _as_ours(call))


@pytest.mark.parametrize("kind", ["groq", "openai"])
def test_a_null_in_a_message_is_left_out_and_all_else_is_the_same(kind: str) -> None:
    calling = {**TOOL_TURNS[2], "content": None}
    call: dict[str, Any] = {"messages": [*TOOL_TURNS[:2], calling, *TOOL_TURNS[3:]]}
    expected = theirs(kind, call)
    assert expected["messages"][2].pop("content") is None
    assert ours(kind, call) == expected


# Any subset of the parameters, with any values.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SOME_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
SCHEMAS = st.dictionaries(TEXTS, JSONS, max_size=3)
FUNCTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": st.from_regex(r"\A[a-zA-Z0-9_.-]{1,20}\Z")},
    optional={"description": TEXTS, "parameters": SCHEMAS, "strict": st.booleans()},
)
TOOLS = st.lists(FUNCTIONS, min_size=1, max_size=3, unique_by=lambda function: str(function["name"])).map(
    lambda functions: [{"type": "function", "function": function} for function in functions]
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})
    | st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, st.sampled_from([IMAGE_URL, DATA_URI])),
    min_size=1,
    max_size=3,
)
CALLED = st.fixed_dictionaries(
    {
        "id": SOME_TEXTS,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": SOME_TEXTS, "arguments": TEXTS}),
    }
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user"]), "content": TEXTS})
    | st.fixed_dictionaries({"role": st.just("user"), "content": PARTS})
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": TEXTS},
        optional={"tool_calls": st.lists(CALLED, min_size=1, max_size=2)},
    )
    | st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": SOME_TEXTS, "content": TEXTS}),
    min_size=1,
    max_size=4,
)
PENALTIES = st.floats(-2, 2)
SHARED = {
    "messages": TURNS,
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "max_tokens": st.integers(1, 2**31 - 1),
    "stop": SOME_TEXTS | st.lists(SOME_TEXTS, min_size=1, max_size=4),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "frequency_penalty": PENALTIES,
    "presence_penalty": PENALTIES,
    "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}])
    | st.builds(
        lambda schema: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        SCHEMAS,
    ),
    "tools": TOOLS,
    "parallel_tool_calls": st.booleans(),
    "reasoning_effort": st.sampled_from(["none", "low", "medium", "high"]),
    "service_tier": st.sampled_from(["auto", "flex"]),
    "user": TEXTS,
    "stream": st.just(True),
}
OF_OPENAI = {
    "n": st.integers(1, 128),
    "logprobs": st.booleans(),
    "logit_bias": st.dictionaries(st.integers(0, 200_000).map(str), st.integers(-100, 100), max_size=3),
}
OF_GROQ = {"reasoning_format": st.sampled_from(["parsed", "raw", "hidden"]), "n": st.just(1)}
often = settings(
    max_examples=60,
    deadline=None,
    # The fixtures that every test has change nothing between examples.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@often
@given(call=st.fixed_dictionaries({}, optional={**SHARED, **OF_GROQ}))
def test_any_call_of_groq_is_what_its_own_client_sends(call: dict[str, Any]) -> None:
    assert ours("groq", call) == theirs("groq", call)


@often
@given(call=st.fixed_dictionaries({}, optional={**SHARED, **OF_OPENAI}))
def test_any_call_of_a_compatible_server_is_what_openais_client_sends(call: dict[str, Any]) -> None:
    assert ours("openai", call) == theirs("openai", _as_ours(call))


# A program for Groq's client, with other words in its import and its constructor.

THEIR_IMPORT, OUR_IMPORT = "from groq import Groq", "from llama_client import LlamaClient"
THEIR_CLIENT = "Groq(api_key=API_KEY, base_url=URL)"
OUR_CLIENT = 'LlamaClient.for_provider("groq", api_key=API_KEY, base_url=URL)'
PROGRAM = f"""
import json

{THEIR_IMPORT}

client = {THEIR_CLIENT}
messages = [
    {{"role": "system", "content": "You are a guide."}},
    {{"role": "user", "content": "What is the weather in Cusco?"}},
]
tools = [
    {{
        "type": "function",
        "function": {{
            "name": "weather",
            "description": "The weather of a town.",
            "parameters": {{"type": "object", "properties": {{"town": {{"type": "string"}}}}, "required": ["town"]}},
        }},
    }}
]
response = client.chat.completions.create(
    model="openai/gpt-oss-20b",
    messages=messages,
    tools=tools,
    tool_choice="auto",
    temperature=0.5,
    max_completion_tokens=4096,
)
message = response.choices[0].message
print(response.choices[0].finish_reason, message.role, message.content)
messages.append(message)
for call in message.tool_calls:
    arguments = json.loads(call.function.arguments)
    print(call.id, call.type, call.function.name, arguments)
    messages.append({{"tool_call_id": call.id, "role": "tool", "name": call.function.name, "content": "sunny"}})
stream = client.chat.completions.create(model="openai/gpt-oss-20b", messages=messages, stream=True, stop=None)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="")
print()
completion = client.chat.completions.create(
    messages=[{{"role": "user", "content": "Two towns of Peru, in JSON."}}],
    model="openai/gpt-oss-20b",
    response_format={{"type": "json_object"}},
    top_p=1,
    stop=None,
    stream=False,
)
print(json.loads(completion.choices[0].message.content)["towns"])
usage = completion.usage
print(completion.id, completion.model, completion.object, completion.created)
print(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
with client.chat.completions.create(messages=messages[:2], model="openai/gpt-oss-20b", stream=True) as stream:
    print([chunk.object for chunk in stream][0])
client.close()
"""


def _groq(request: Received) -> Any:
    assert (request.method, request.path) == ("POST", GROQ.path)
    body = request.json
    if body.get("stream"):
        usage = {"queue_time": 0.1, "prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        first = {"x_groq": {"id": "req_1"}} | json.loads(GROQ.preamble().removeprefix(b"data: "))
        final = {"x_groq": {"id": "req_1", "usage": usage}} | json.loads(GROQ.ending()[0].removeprefix(b"data: "))
        return streamed([GROQ.event(first), GROQ.text("Sun"), GROQ.text("ny."), GROQ.event(final), b"data: [DONE]\n\n"])
    answer = GROQ.whole('{"towns": ["Cusco", "Puno"]}')
    if body.get("tools"):
        called = {"name": "weather", "arguments": '{"town":"Cusco"}'}
        calls = [{"id": "mcf2d8nn1", "type": "function", "function": called}]
        # Groq leaves the content out beside tool calls.
        message = {"role": "assistant", "reasoning": "Weather: a tool.", "tool_calls": calls}
        answer["choices"][0] |= {"finish_reason": "tool_calls", "message": message}
    return as_json(answer)


def _run(program: str) -> tuple[str, list[Any]]:
    """What a program prints, and the bodies that it sends."""
    with WireServer(_groq) as server, contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(program, "program.py", "exec"), {"API_KEY": "sk-test-123456", "URL": server.url})
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-test-123456"}
        return printed.getvalue(), [request.json for request in server.requests]


def test_a_program_for_groqs_client_prints_the_same_with_its_import_and_constructor_changed() -> None:
    program = PROGRAM.replace(THEIR_IMPORT, OUR_IMPORT).replace(THEIR_CLIENT, OUR_CLIENT)
    changed = [(old, new) for old, new in zip(PROGRAM.splitlines(), program.splitlines(), strict=True) if old != new]
    assert changed == [(THEIR_IMPORT, OUR_IMPORT), (f"client = {THEIR_CLIENT}", f"client = {OUR_CLIENT}")]
    printed, _ = _run(program)
    assert "mcf2d8nn1 function weather {'town': 'Cusco'}\nSunny.\n['Cusco', 'Puno']\n" in printed
    assert printed == _run(PROGRAM)[0]


def test_a_program_for_groqs_client_sends_the_same_but_for_what_groq_refuses() -> None:
    _, expected = _run(PROGRAM)
    # Its own client sends these, and Groq answers that it knows no such property.
    expected[1]["messages"][2].pop("reasoning")
    expected[1]["messages"][3].pop("name")
    expected[2].pop("stream")
    for body in expected:
        for name in [name for name, value in body.items() if value is None]:
            del body[name]
    assert _run(PROGRAM.replace(THEIR_IMPORT, OUR_IMPORT).replace(THEIR_CLIENT, OUR_CLIENT))[1] == expected
