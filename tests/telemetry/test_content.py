"""What was said is in spans where that was asked for, and nowhere else."""

from __future__ import annotations

from typing import Any

from llama_client import LlamaClient, RateLimitError
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.routing.asking import ask, ask_all, broken_after, config, good
from tests.routing.test_continuing import continuing, going_on
from tests.telemetry.program import TELEMETRY, WITH_CONTENT, Program, each_mode, each_stream, known, told


@each_mode
def test_a_refusal_shows_its_class_and_never_its_words(program: Program, mode: str) -> None:
    refusal = as_json({"error": {"message": "you said: hum"}}, status=429)
    with WireServer(lambda request: refusal) as server:
        [error] = ask_all(config(server, telemetry=WITH_CONTENT, routing={"retries": 0}), mode, 1)
    assert isinstance(error, RateLimitError)
    assert "you said" in str(error)
    span = program.span()
    assert known(span)["error.type"] == "RateLimitError"
    assert not [name for name in known(span) if name.startswith(("gen_ai.usage.", "gen_ai.response."))]
    assert "you said" not in span.to_json()


@each_stream
def test_going_on_elsewhere_is_one_more_span_that_holds_only_what_it_added(program: Program, mode: str) -> None:
    with WireServer(lambda request: broken_after("To tell ", "each ")) as first:
        with WireServer(going_on("other how ", "they are.")) as second:
            ask(continuing(first, second, telemetry=WITH_CONTENT), mode)
    broken, rest = program.spans()
    assert [known(span)["llama_client.attempt.outcome"] for span in (broken, rest)] == ["interrupted", "ok"]
    assert known(broken)["error.type"] == "APIConnectionError"
    said = [told(span, "gen_ai.output.messages")[0] for span in (broken, rest)]
    assert [message["parts"][0]["content"] for message in said] == ["To tell each ", "other how they are."]
    assert [message["finish_reason"] for message in said] == ["error", "stop"]
    assert told(rest, "gen_ai.input.messages")[-1] == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "To tell each "}],
    }


@each_mode
def test_what_was_said_is_in_no_span_unless_that_was_asked_for(program: Program, mode: str) -> None:
    with WireServer(good("Because they can.")) as server:
        ask(config(server, telemetry=TELEMETRY), mode)
    text = program.span().to_json()
    assert "llamas hum" not in text
    assert "Because" not in text


@each_mode
def test_what_was_said_has_the_conventions_shapes_where_it_was_asked_for(program: Program, mode: str) -> None:
    with WireServer(good("Because they can.")) as server:
        tables = config(server, telemetry=WITH_CONTENT)
        tables["providers"]["a"]["api_key"] = "sk-secret-of-mine"
        ask(tables, mode)
    span = program.span()
    assert told(span, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "text", "content": "Why do llamas hum?"}]}
    ]
    assert told(span, "gen_ai.output.messages") == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Because they can."}], "finish_reason": "stop"}
    ]
    assert not {"gen_ai.system_instructions", "gen_ai.tool.definitions"} & set(known(span))
    assert "secret" not in span.to_json()


def test_instructions_tools_and_images_have_shapes_of_their_own(program: Program) -> None:
    def calls_a_tool(request: Received) -> Answer:
        call = {"id": "call2", "type": "function", "function": {"name": "look", "arguments": '{"at": ["x"]}'}}
        message = {"role": "assistant", "content": None, "reasoning": "Hm.", "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return as_json(OPENAI.whole() | {"choices": [choice]})

    parameters = {"type": "object", "properties": {"at": {"type": "array"}}}
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": parameters}}
    earlier = {"id": "call1", "type": "function", "function": {"name": "look", "arguments": "not JSON"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image], "name": "ann"},
        {"role": "assistant", "tool_calls": [earlier]},
        {"role": "tool", "tool_call_id": "call1", "content": "a llama"},
        {"role": "system", "content": "Even briefer."},
    ]
    with WireServer(calls_a_tool) as server:
        tables = config(server, telemetry=WITH_CONTENT)
        row = {"target": "a/m", "name": "m", "abilities": ["tools", "vision"]}
        with LlamaClient({**tables, "models": [row]}) as client:
            client.chat.completions.create(messages=messages, tools=[tool])
    span = program.span()
    assert told(span, "gen_ai.system_instructions") == [{"type": "text", "content": "Be brief."}]
    assert told(span, "gen_ai.input.messages") == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is it?"},
                {"type": "blob", "modality": "image", "mime_type": "image/png"},
            ],
            "name": "ann",
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call1", "name": "look", "arguments": "not JSON"}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call1", "response": "a llama"}]},
        {"role": "system", "parts": [{"type": "text", "content": "Even briefer."}]},
    ]
    assert told(span, "gen_ai.output.messages") == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm."},
                {"type": "tool_call", "id": "call2", "name": "look", "arguments": {"at": ["x"]}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert told(span, "gen_ai.tool.definitions") == [
        {"type": "function", "name": "look", "description": "Looks.", "parameters": parameters}
    ]


def test_parts_and_tools_of_other_types_are_told_by_their_type_alone(program: Program) -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "grep", "input": "llama"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,SECRET"}}]},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "3 lines"},
    ]
    with WireServer(lambda _: as_json(OPENAI.whole())) as server:
        with LlamaClient(config(server, telemetry=WITH_CONTENT)) as client:
            client.chat.completions.create(messages=messages, tools=[{"type": "custom", "custom": {"name": "grep"}}])
    span = program.span()
    assert told(span, "gen_ai.input.messages") == [
        {"role": "user", "parts": [{"type": "file"}]},
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "Hm."}, {"type": "tool_call", "id": "c1"}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "3 lines"}]},
    ]
    assert told(span, "gen_ai.tool.definitions") == [{"type": "custom"}]
    assert "SECRET" not in span.to_json()
