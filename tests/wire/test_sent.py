"""What is sent: address, headers and body, for each kind of provider; and what is refused before anything is sent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from llama_client import InvalidRequestError, LlamaClient
from tests.asking import MODES
from tests.wire import sending
from tests.wire.sending import (
    DATA_URI,
    GROQ,
    IMAGE_URL,
    KEY,
    KINDS,
    MESSAGES,
    MODEL,
    OLLAMA,
    OPENAI,
    OPENAI_LIKE,
    PNG,
    PROMPT,
    TOGETHER,
    Kind,
    forget_variables,
    refuse,
    send,
    try_in_order,
)

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_openai_like = pytest.mark.parametrize("kind", OPENAI_LIKE, ids=str)
each_mode = pytest.mark.parametrize("mode", MODES)
calls = pytest.mark.parametrize("mode", ["call-sync", "call-async"])
streams = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
THE_WEATHER = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
TOOL_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Cusco, and the time?"},
    {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Cusco"}'}},
            {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]


def seeing(url: object, **more: object) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url, **more}}]
    return [{"role": "user", "content": parts}]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)


# Where it goes, and with which headers.


@each_kind
@each_mode
def test_a_chat_is_posted_to_the_providers_own_address(kind: Kind, mode: str) -> None:
    sent = send(kind, mode).sent
    assert (sent.method, str(sent.url)) == ("POST", kind.url)


@each_openai_like
@each_mode
def test_the_key_goes_as_a_bearer_token(kind: Kind, mode: str) -> None:
    assert send(kind, mode).sent.headers.get_list("authorization") == [f"Bearer {KEY}"]


@each_mode
def test_ollama_on_this_machine_gets_no_key(mode: str) -> None:
    assert "authorization" not in send(OLLAMA, mode).sent.headers


@each_kind
@each_mode
def test_the_body_is_declared_as_json_once(kind: Kind, mode: str) -> None:
    assert send(kind, mode).sent.headers.get_list("content-type") == ["application/json"]


@each_kind
@each_mode
def test_no_header_tells_of_an_official_client_or_the_machine(kind: Kind, mode: str) -> None:
    assert not [name for name in send(kind, mode).sent.headers if name.startswith("x-stainless-")]


@pytest.mark.parametrize("kind", [*OPENAI_LIKE, OLLAMA], ids=str)
@each_mode
def test_the_user_agent_is_ours(kind: Kind, mode: str) -> None:
    (agent,) = send(kind, mode).sent.headers.get_list("user-agent")
    assert agent.startswith("llama-client/")


@each_kind
def test_the_headers_of_the_table_are_sent(kind: Kind) -> None:
    headers = send(kind, table={"headers": {"X-Team": "llamas", "User-Agent": "mine/1"}}).sent.headers
    assert (headers["x-team"], headers["user-agent"]) == ("llamas", "mine/1")


@each_kind
@calls
def test_extra_headers_are_sent_and_win_over_the_tables(kind: Kind, mode: str) -> None:
    table = {"headers": {"X-Team": "llamas"}}
    headers = send(kind, mode, table=table, extra_headers={"x-team": "alpacas", "X-Trace": "t1"}).sent.headers
    assert (headers.get_list("x-team"), headers["x-trace"]) == (["alpacas"], "t1")


def test_the_whole_address_of_groqs_documentation_means_the_same() -> None:
    assert str(send(GROQ, table={"base_url": "https://api.groq.com/openai/v1/"}).sent.url) == GROQ.url


def test_a_query_in_the_address_stays() -> None:
    with sending.caught(assert_all_called=True) as router:
        route = router.post("https://llm.test/v1/chat/completions", params={"api-version": "7"})
        route.respond(json=OPENAI.dialect.whole())
        with LlamaClient.for_provider("openai", base_url="https://llm.test/v1?api-version=7") as client:
            assert client.ask(PROMPT, model=MODEL).text == "Hello"


# The plain body, and streams.


@each_openai_like
@calls
def test_a_plain_call_is_the_model_and_the_messages(kind: Kind, mode: str) -> None:
    assert send(kind, mode).body == {"model": MODEL, "messages": MESSAGES}


@calls
def test_a_plain_call_of_ollama_says_that_it_wants_no_stream(mode: str) -> None:
    assert send(OLLAMA, mode).body == {"model": MODEL, "messages": MESSAGES, "stream": False, "truncate": False}


@streams
def test_a_stream_of_groq_asks_for_no_usage_which_comes_anyway(mode: str) -> None:
    assert send(GROQ, mode).body == {"model": MODEL, "messages": MESSAGES, "stream": True}


@pytest.mark.parametrize("kind", [TOGETHER, OPENAI], ids=str)
@pytest.mark.parametrize("options", [None, {"include_usage": True}, {}])
@streams
def test_a_stream_asks_for_usage_unless_the_caller_declines(kind: Kind, options: Any, mode: str) -> None:
    expected = {"model": MODEL, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    assert send(kind, mode, stream_options=options).body == expected


@streams
def test_a_stream_of_ollama_says_so_and_nothing_else(mode: str) -> None:
    body = send(OLLAMA, mode, stream_options={"include_usage": True}).body
    assert body == {"model": MODEL, "messages": MESSAGES, "stream": True, "truncate": False}


@each_kind
def test_what_is_none_is_left_out(kind: Kind) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("temperature", "top_p", "top_k", "stop", "tools", "logit_bias", "user", "n", "extra_body", "service_tier")
    )
    assert send(kind, **nothing).body == send(kind).body


EMPTY = [
    {"tools": []},
    {"tools": [], "tool_choice": "auto"},
    {"tools": [], "tool_choice": "none", "parallel_tool_calls": False},
    {"tools": (), "parallel_tool_calls": True},
    {"stop": []},
]


@each_kind
@pytest.mark.parametrize("given", EMPTY, ids=str)
@each_mode
def test_an_empty_list_is_nothing_and_so_is_what_is_said_of_its_tools(
    kind: Kind, given: dict[str, Any], mode: str
) -> None:
    assert send(kind, mode, **given).body == send(kind, mode).body


@each_kind
@pytest.mark.parametrize("calls", [[], (), None], ids=str)
@pytest.mark.parametrize("more", [{}, {"reasoning": "Hm."}], ids=["plain", "with reasoning"])
def test_an_assistant_s_empty_list_of_calls_is_left_out(kind: Kind, calls: Any, more: dict[str, Any]) -> None:
    answered = {"role": "assistant", "content": "Hello"}
    turns = [*MESSAGES, {**answered, "tool_calls": calls, **more}, *MESSAGES]
    sent = send(kind, messages=turns).body["messages"][1]
    # Reasoning goes back to some.
    assert {name: sent[name] for name in sent if name not in ("reasoning", "thinking")} == answered


# Parameters, one after the other, as the body holds them.

SAME_EVERYWHERE: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"temperature": 0.0},
    {"top_p": 0.9},
    {"seed": 7},
    {"seed": 0},
    {"frequency_penalty": -0.5},
    {"presence_penalty": 1.5},
    {"reasoning_effort": "low"},
    {"response_format": {"type": "json_object"}},
    {"response_format": BY_SCHEMA},
    {"response_format": {"type": "text"}},
    {"n": 1},
]
FIELDS: list[tuple[Kind, dict[str, Any], dict[str, Any]]] = [
    *((kind, given, given) for kind in OPENAI_LIKE for given in SAME_EVERYWHERE),
    # The longest answer.
    (GROQ, {"max_tokens": 9}, {"max_tokens": 9}),
    (GROQ, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
    (OPENAI, {"max_tokens": 9}, {"max_tokens": 9}),
    (OPENAI, {"max_completion_tokens": 9}, {"max_tokens": 9}),
    (TOGETHER, {"max_tokens": 9}, {"max_tokens": 9}),
    (TOGETHER, {"max_completion_tokens": 9}, {"max_tokens": 9}),
    (OLLAMA, {"max_tokens": 9}, {"options": {"num_predict": 9}}),
    (OLLAMA, {"max_completion_tokens": 9}, {"options": {"num_predict": 9}}),
    # Stops.
    (GROQ, {"stop": "END"}, {"stop": "END"}),
    (OPENAI, {"stop": "END"}, {"stop": "END"}),
    (TOGETHER, {"stop": "END"}, {"stop": ["END"]}),
    (OLLAMA, {"stop": "END"}, {"options": {"stop": ["END"]}}),
    *((kind, {"stop": ["END", "\n"]}, {"stop": ["END", "\n"]}) for kind in OPENAI_LIKE),
    (OLLAMA, {"stop": ["END", "\n"]}, {"options": {"stop": ["END", "\n"]}}),
    # Sampling.
    *((kind, {"top_k": 40, "min_p": 0.1}, {"top_k": 40, "min_p": 0.1}) for kind in (TOGETHER, OPENAI)),
    (TOGETHER, {"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
    # vLLM's name for it and llama.cpp's.
    (OPENAI, {"repetition_penalty": 1.1}, {"repetition_penalty": 1.1, "repeat_penalty": 1.1}),
    (OLLAMA, {"repetition_penalty": 1.1}, {"options": {"repeat_penalty": 1.1}}),
    *((kind, {"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": -100}}) for kind in (TOGETHER, OPENAI)),
    *((kind, {"logit_bias": {50256: 1.5}}, {"logit_bias": {"50256": 1.5}}) for kind in (TOGETHER, OPENAI)),
    *((kind, {"n": 2}, {"n": 2}) for kind in (TOGETHER, OPENAI)),
    # Log probabilities.
    (OPENAI, {"logprobs": True}, {"logprobs": True}),
    (OPENAI, {"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    (TOGETHER, {"logprobs": True}, {"logprobs": 1}),
    (TOGETHER, {"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
    (TOGETHER, {"logprobs": False}, {}),
    (OLLAMA, {"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    # What only some have.
    (GROQ, {"reasoning_format": "parsed"}, {"reasoning_format": "parsed"}),
    (GROQ, {"service_tier": "flex"}, {"service_tier": "flex"}),
    (OPENAI, {"service_tier": "flex"}, {"service_tier": "flex"}),
    (GROQ, {"user": "u1"}, {"user": "u1"}),
    (OPENAI, {"user": "u1"}, {"user": "u1"}),
    # Ollama's own words.
    (OLLAMA, {"temperature": 0.0, "top_p": 0.9}, {"options": {"temperature": 0.0, "top_p": 0.9}}),
    (OLLAMA, {"top_k": 40, "min_p": 0.1, "seed": 0}, {"options": {"top_k": 40, "min_p": 0.1, "seed": 0}}),
    (
        OLLAMA,
        {"frequency_penalty": 0.5, "presence_penalty": 1.5},
        {"options": {"frequency_penalty": 0.5, "presence_penalty": 1.5}},
    ),
    (OLLAMA, {"reasoning_effort": "none"}, {"think": False}),
    (OLLAMA, {"reasoning_effort": "low"}, {"think": "low"}),
    (OLLAMA, {"reasoning_effort": "high"}, {"think": "high"}),
    (OLLAMA, {"response_format": {"type": "json_object"}}, {"format": "json"}),
    (OLLAMA, {"response_format": BY_SCHEMA}, {"format": SCHEMA}),
    (OLLAMA, {"response_format": {"type": "text"}}, {}),
    (OLLAMA, {"n": 1}, {}),
]


def _named(value: object) -> str | None:
    return json.dumps(value)[:50] if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("kind", "given", "expected"), FIELDS, ids=_named)
def test_a_parameter_is_written_as_the_provider_reads_it(
    kind: Kind, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert send(kind, **given).body == send(kind).body | expected


@calls
def test_all_options_of_ollama_go_together(mode: str) -> None:
    options = {"num_ctx": 8192, "temperature": 0.9}
    table = {"options": options, "keep_alive": "10m"}
    body = send(OLLAMA, mode, table=table, temperature=0.2, max_tokens=5, extra_body={"options": {"num_gpu": 1}}).body
    assert body["options"] == {"num_ctx": 8192, "temperature": 0.2, "num_predict": 5, "num_gpu": 1}
    assert body["keep_alive"] == "10m"


@each_openai_like
@each_mode
def test_extra_fields_are_sent_as_they_are(kind: Kind, mode: str) -> None:
    body = send(kind, mode, extra_body={"new_field": {"deep": [1, None]}}).body
    assert body.pop("new_field") == {"deep": [1, None]}
    assert body == send(kind, mode).body


@each_mode
def test_extra_fields_of_ollama_stand_beside_the_options(mode: str) -> None:
    assert send(OLLAMA, mode, extra_body={"truncate": False}).body["truncate"] is False


@pytest.mark.parametrize("kind", [TOGETHER, OPENAI], ids=str)
def test_a_bias_that_is_a_whole_number_stays_one_on_the_wire(kind: Kind) -> None:
    assert b'"50256":-100}' in send(kind, logit_bias={"50256": -100}).sent.content


# Tools.


@each_openai_like
@pytest.mark.parametrize("choice", ["auto", "none", "required", THE_WEATHER], ids=str)
@calls
def test_tools_and_the_choice_among_them_are_passed_on(kind: Kind, choice: Any, mode: str) -> None:
    body = send(kind, mode, tools=[WEATHER, CLOCK], tool_choice=choice).body
    assert (body["tools"], body["tool_choice"]) == ([WEATHER, CLOCK], choice)


@pytest.mark.parametrize("choice", [None, "auto"])
@calls
def test_ollama_gets_the_tools_and_no_choice(choice: str | None, mode: str) -> None:
    body = send(OLLAMA, mode, tools=[WEATHER], tool_choice=choice).body
    assert body["tools"] == [WEATHER]
    assert "tool_choice" not in body


@calls
def test_ollama_gets_no_tools_where_none_may_be_called(mode: str) -> None:
    assert "tools" not in send(OLLAMA, mode, tools=[WEATHER], tool_choice="none").body


@pytest.mark.parametrize("kind", [GROQ, OPENAI], ids=str)
@pytest.mark.parametrize("parallel", [True, False])
def test_parallel_tool_calls_are_passed_on(kind: Kind, parallel: bool) -> None:
    assert send(kind, tools=[WEATHER], parallel_tool_calls=parallel).body["parallel_tool_calls"] is parallel


@pytest.mark.parametrize("kind", [TOGETHER, OLLAMA], ids=str)
def test_parallel_tool_calls_go_without_saying_where_there_is_no_such_field(kind: Kind) -> None:
    assert "parallel_tool_calls" not in send(kind, tools=[WEATHER], parallel_tool_calls=True).body


@each_openai_like
@calls
def test_tool_results_go_back_as_they_are(kind: Kind, mode: str) -> None:
    assert send(kind, mode, TOOL_TURNS, tools=[WEATHER, CLOCK]).body["messages"] == TOOL_TURNS


@calls
def test_tool_results_go_back_to_ollama_with_names_and_objects(mode: str) -> None:
    messages = send(OLLAMA, mode, TOOL_TURNS, tools=[WEATHER, CLOCK]).body["messages"]
    first, second = messages[2]["tool_calls"]
    assert first["function"] == {"name": "weather", "arguments": {"town": "Cusco"}}
    assert second["function"] == {"name": "clock", "arguments": {}}
    assert [(m["tool_name"], m["content"]) for m in messages[3:]] == [("clock", "noon"), ("weather", "sunny")]


def test_a_tool_result_without_its_call_has_no_name_for_ollama() -> None:
    messages = send(OLLAMA, messages=[*MESSAGES, TOOL_TURNS[3]]).body["messages"]
    assert messages[-1]["role"] == "tool"
    assert "tool_name" not in messages[-1]


@pytest.mark.parametrize("arguments", ["{", "[1]", "3"])
@calls
def test_arguments_that_are_no_object_are_refused_for_ollama(arguments: str, mode: str) -> None:
    calling = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    turns = [*MESSAGES, {"role": "assistant", "tool_calls": [calling]}]
    assert refuse(OLLAMA, mode, turns).param == "messages"


# Messages.


@pytest.mark.parametrize(
    ("kind", "more"),
    # By the field that each takes, if any.
    [
        (GROQ, {}),
        (TOGETHER, {"reasoning_content": "Hm."}),
        (OPENAI, {"reasoning_content": "Hm."}),
        (OLLAMA, {"thinking": "Hm."}),
    ],
    ids=lambda value: str(value) if isinstance(value, Kind) else "",
)
@calls
def test_an_earlier_replys_message_goes_back_with_the_reasoning_that_is_taken(
    kind: Kind, more: dict[str, str], mode: str
) -> None:
    thought = {"thinking": "Hm."} if kind is OLLAMA else {"reasoning": "Hm.", "reasoning_content": "Hm."}
    reply = send(kind, mode, message={"role": "assistant", "content": "They do.", **thought}).reply
    assert reply.choices[0].message.reasoning == "Hm."
    turns = [*MESSAGES, reply.choices[0].message, {"role": "user", "content": "Why?"}]
    assert send(kind, mode, turns).body["messages"][1] == {"role": "assistant", "content": "They do.", **more}


@each_openai_like
@calls
def test_an_earlier_replys_tool_calls_go_back(kind: Kind, mode: str) -> None:
    asked = TOOL_TURNS[2]["tool_calls"]
    reply = send(kind, mode, message={"role": "assistant", "content": None, "tool_calls": asked}).reply
    turns = [*MESSAGES, reply.choices[0].message, *TOOL_TURNS[3:]]
    (sent,) = (m for m in send(kind, mode, turns, tools=[WEATHER, CLOCK]).body["messages"] if m["role"] == "assistant")
    assert sent["tool_calls"] == asked
    assert sent.keys() - {"content"} == {"role", "tool_calls"}


@calls
def test_ollamas_own_tool_calls_go_back_as_objects(mode: str) -> None:
    asked = [{"function": {"name": "weather", "arguments": {"town": "Cusco"}}}]
    reply = send(OLLAMA, mode, message={"role": "assistant", "content": "", "tool_calls": asked}).reply
    (call,) = reply.choices[0].message.tool_calls or []
    turns = [*MESSAGES, reply.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    _, assistant, tool = send(OLLAMA, mode, turns).body["messages"]
    assert assistant["tool_calls"][0]["function"] == asked[0]["function"]
    assert (tool["tool_name"], tool["content"]) == ("weather", "sunny")


@each_kind
@pytest.mark.parametrize("key", ["refusal", "parsed"])
def test_what_only_answers_have_is_taken_out_of_messages(kind: Kind, key: str) -> None:
    plain = {"role": "assistant", "content": "They do."}
    turns = [*MESSAGES, {**plain, key: "x"}, *MESSAGES]
    assert send(kind, messages=turns).body["messages"][1] == plain


NAMED = [{"role": "system", "content": "s", "name": "boss"}, {"role": "user", "content": "u", "name": "ann"}]


@calls
def test_names_of_speakers_are_taken_out_for_groq(mode: str) -> None:
    turns = [*NAMED, {"role": "assistant", "content": "a", "name": "bot"}, *MESSAGES]
    assert not [m for m in send(GROQ, mode, turns).body["messages"] if "name" in m]


def test_names_of_speakers_are_passed_on_to_compatible_servers() -> None:
    assert send(OPENAI, messages=NAMED).body["messages"] == NAMED


def test_the_callers_own_messages_are_not_changed() -> None:
    turns = [{"role": "user", "content": "u", "name": "ann"}]
    send(GROQ, messages=turns)
    assert turns == [{"role": "user", "content": "u", "name": "ann"}]


# Images.


@each_openai_like
@pytest.mark.parametrize("url", [DATA_URI, IMAGE_URL], ids=["data", "http"])
@calls
def test_the_address_of_an_image_is_passed_on_unread(kind: Kind, url: str, mode: str) -> None:
    outcome = send(kind, mode, seeing(url, detail="low"))
    assert outcome.body["messages"] == seeing(url, detail="low")
    assert len(outcome.requests) == 1


@each_openai_like
@calls
def test_bytes_of_an_image_become_a_data_uri(kind: Kind, mode: str) -> None:
    assert send(kind, mode, seeing(PNG)).body["messages"] == seeing(DATA_URI)


@each_openai_like
def test_the_file_of_an_image_becomes_a_data_uri(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / "llama.png"
    file.write_bytes(PNG)
    assert send(kind, messages=seeing(file)).body["messages"] == seeing(DATA_URI)


@pytest.mark.parametrize("url", [DATA_URI, IMAGE_URL, PNG], ids=["data", "http", "bytes"])
@each_mode
def test_ollama_gets_images_as_bare_base64(url: str | bytes, mode: str) -> None:
    expected = {"role": "user", "content": "What is this?", "images": [base64.b64encode(PNG).decode()]}
    assert send(OLLAMA, mode, seeing(url)).body["messages"] == [expected]


@calls
def test_who_serves_an_image_gets_no_key_of_ollama(mode: str) -> None:
    table = {"api_key": KEY, "headers": {"X-Secret": KEY}}
    fetched, _ = send(OLLAMA, mode, seeing(IMAGE_URL), table=table).requests
    assert str(fetched.url) == IMAGE_URL
    assert KEY not in str(fetched.headers.raw)


@calls
def test_an_image_that_is_shown_twice_is_fetched_once(mode: str) -> None:
    outcome = send(OLLAMA, mode, [*seeing(IMAGE_URL), *seeing(IMAGE_URL)])
    assert len(outcome.requests) == 2
    assert all(message["images"] for message in outcome.body["messages"])


@each_kind
@pytest.mark.parametrize("path", ["llama.png", "/etc/passwd", "~/llama.png", "file:///etc/passwd"])
@each_mode
def test_a_text_that_looks_like_a_files_name_is_never_read(kind: Kind, path: str, mode: str) -> None:
    with sending.caught(assert_all_called=True), pytest.raises(InvalidRequestError, match="url") as caught:
        send(kind, mode, seeing(path))
    assert caught.value.param == "messages[0].content[1].image_url.url"


# What a provider cannot honour.

TOOLS: dict[str, Any] = {"tools": [WEATHER]}
UNSUPPORTED: list[tuple[Kind, str, dict[str, Any]]] = [
    (GROQ, "top_k", {"top_k": 40}),
    (GROQ, "min_p", {"min_p": 0.1}),
    (GROQ, "repetition_penalty", {"repetition_penalty": 1.1}),
    (GROQ, "n", {"n": 2}),
    (GROQ, "logprobs", {"logprobs": True}),
    (GROQ, "logit_bias", {"logit_bias": {"1": 2}}),
    (GROQ, "stop", {"stop": ["a", "b", "c", "d", "e"]}),
    (GROQ, "reasoning_effort", {"reasoning_effort": "max"}),
    (TOGETHER, "parallel_tool_calls", {**TOOLS, "parallel_tool_calls": False}),
    (TOGETHER, "service_tier", {"service_tier": "flex"}),
    (OLLAMA, "n", {"n": 2}),
    (OLLAMA, "logit_bias", {"logit_bias": {"1": 2}}),
    (OLLAMA, "tool_choice", {**TOOLS, "tool_choice": "required"}),
    (OLLAMA, "tool_choice", {**TOOLS, "tool_choice": THE_WEATHER}),
    (OLLAMA, "parallel_tool_calls", {**TOOLS, "parallel_tool_calls": False}),
    (OLLAMA, "service_tier", {"service_tier": "flex"}),
]
each_unsupported = pytest.mark.parametrize(
    ("kind", "param", "given"),
    UNSUPPORTED,
    ids=[f"{kind}-{param}-{n}" for n, (kind, param, _) in enumerate(UNSUPPORTED)],
)


@each_unsupported
@each_mode
def test_an_unsupported_parameter_is_refused_by_name_before_anything_is_sent(
    kind: Kind, param: str, given: dict[str, Any], mode: str
) -> None:
    error = refuse(kind, mode, **given)
    assert error.param == param
    assert param in str(error)
    assert error.target == kind.target
    assert [(attempt.target, attempt.outcome, attempt.sent) for attempt in error.attempts] == [
        (kind.target, "skipped", False)
    ]


@each_unsupported
def test_a_target_that_cannot_honour_a_parameter_is_skipped_for_the_next(
    kind: Kind, param: str, given: dict[str, Any]
) -> None:
    outcome = try_in_order([kind, OPENAI], "call-sync", **given)
    assert [str(request.url) for request in outcome.requests] == [OPENAI.url]
    assert [(attempt.target, attempt.outcome) for attempt in outcome.reply.attempts] == [
        (kind.target, "skipped"),
        (OPENAI.target, "ok"),
    ]
    assert outcome.reply.attempts[0].error == "UnsupportedFeatureError"
    assert param in (outcome.reply.attempts[0].reason or "")


@calls
def test_ollama_has_no_raw_thinking(mode: str) -> None:
    assert refuse(OLLAMA, mode, reasoning_format="raw").param == "reasoning_format"


@pytest.mark.parametrize("kind", [TOGETHER, OPENAI], ids=str)
@calls
def test_raw_thinking_is_a_word_to_the_reader_and_to_groq(kind: Kind, mode: str) -> None:
    assert "reasoning_format" not in send(kind, mode, reasoning_format="raw").body


@each_mode
def test_every_target_that_cannot_is_skipped_in_each_mode(mode: str) -> None:
    outcome = try_in_order([GROQ, OLLAMA, TOGETHER], mode, logit_bias={"1": 2})
    assert [(attempt.outcome, attempt.sent) for attempt in outcome.reply.attempts] == [
        ("skipped", False),
        ("skipped", False),
        ("ok", True),
    ]
    assert outcome.reply.provider == "together"


@each_mode
def test_no_image_is_fetched_for_a_call_that_is_refused(mode: str) -> None:
    assert refuse(OLLAMA, mode, seeing(IMAGE_URL), logit_bias={"1": 2}).param == "logit_bias"


@pytest.mark.parametrize("kind", [GROQ, TOGETHER, OPENAI, OLLAMA], ids=str)
@calls
def test_a_switch_that_is_off_asks_for_nothing(kind: Kind, mode: str) -> None:
    assert not send(kind, mode, logprobs=False).body.get("logprobs")


@pytest.mark.parametrize("kind", [TOGETHER, OLLAMA], ids=str)
@calls
def test_the_users_id_changes_no_answer_and_so_stops_no_call_where_nobody_reads_it(kind: Kind, mode: str) -> None:
    assert send(kind, mode, user="u1").body == send(kind, mode).body


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_groq_is_sent_a_penalty_that_it_does_not_apply_and_the_reply_says_so(name: str) -> None:
    params: dict[str, Any] = {name: 0.5}
    outcome = send(GROQ, **params)
    assert outcome.body[name] == 0.5
    assert [warning for warning in outcome.reply.warnings if name in warning]
