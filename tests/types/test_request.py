"""A request is checked as a whole before anything is sent, and its error names the field."""

from __future__ import annotations

import math
from typing import Any, get_type_hints

import pytest

from llama_client import CreateParams, InvalidRequestError, Message, ToolCall
from llama_client.types.completion import FunctionCall
from llama_client.types.request import ChatRequest, check_request

HI = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def check(**params: Any) -> ChatRequest:
    return check_request({"messages": [HI], **params}, stream=False)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ("hi", "messages"),
        (None, "messages"),
        ({"role": "user", "content": "hi"}, "messages"),
        ([3], "messages[0]"),
        ([{"content": "hi"}], "messages[0].role"),
        ([{"role": "bot", "content": "hi"}], "messages[0].role"),
        ([{"role": ["user"], "content": "hi"}], "messages[0].role"),
        ([HI, {"role": "user"}], "messages[1].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": b"hi"}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{1: "user"}], "messages[0].role"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0].image_url.url",
        ),
        ([HI, {"role": "assistant"}], "messages[1].content"),
        ([HI, {"role": "assistant", "tool_calls": []}], "messages[1].content"),
        ([{"role": "tool", "content": "sunny"}], "messages[0].tool_call_id"),
        ([{"role": "user", "content": "hi", "colour": {1, 2}}], "messages[0].colour"),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(messages: Any, field: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"\w") as caught:
        check(messages=messages)
    assert caught.value.param == field
    assert str(caught.value).startswith(field)
    assert caught.value.attempts == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("min_p", 2),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", 2**31),
        ("max_tokens", 2**31),
        ("max_tokens", 2**63),
        ("user", "\ud800"),
        ("stop", "\ud800"),
        ("tags", {"\ud800": "x"}),
        ("extra_body", {"x": math.nan}),
        ("extra_body", {"x": b"bytes"}),
        ("extra_body", {"x": {1, 2}}),
        ("extra_body", {"x": "\ud800"}),
        ("extra_body", {5: "x"}),
        ("max_tokens", 0),
        ("max_tokens", "10"),
        ("max_completion_tokens", 0),
        ("n", 0),
        ("n", 129),
        ("seed", 1.5),
        ("seed", 2**63),
        ("frequency_penalty", 2.5),
        ("presence_penalty", -2.5),
        ("repetition_penalty", 0),
        ("logit_bias", {"5": 101}),
        ("logit_bias", {"5": math.nan}),
        ("logprobs", 1),
        ("top_logprobs", 21),
        ("stop", ""),
        ("stop", [""]),
        ("stop", [1]),
        ("response_format", {"type": ""}),
        ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_object", "json_schema": {"schema": {}}}),
        ("tools", [{"type": "function"}]),
        ("tools", [{"type": "function", "function": {"name": "two words"}}]),
        ("tools", [WEATHER, WEATHER]),
        ("tool_choice", "auto"),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "weather"}}),
        ("reasoning_effort", "enormous"),
        ("reasoning_format", "rhyme"),
        ("stream_options", {"include_usage": True}),
        ("timeout", 0),
        ("timeout", math.nan),
        ("tags", {"user": 5}),
        ("extra_body", "text"),
        ("extra_headers", {"X-A": 1}),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(**{field: value})
    wanted = "max_tokens" if field == "max_completion_tokens" else field
    assert (caught.value.param or "").split(".")[0].split("[")[0] == wanted


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidRequestError, match="temprature: unknown name; did you mean 'temperature'"):
        check(temprature=0.5)


def test_candidates_without_log_probabilities_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="top_logprobs: needs logprobs=True"):
        check(top_logprobs=3)


def test_a_tool_choice_that_names_no_tool_is_refused() -> None:
    choice = {"type": "function", "function": {"name": "stocks"}}
    with pytest.raises(InvalidRequestError, match="'stocks', which is not among tools"):
        check(tools=[WEATHER], tool_choice=choice)


def test_two_different_limits_under_two_names_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="max_tokens and max_completion_tokens"):
        check(max_tokens=5, max_completion_tokens=6)


def test_the_newer_name_of_the_limit_is_the_same_limit() -> None:
    assert check(max_completion_tokens=7).max_tokens == 7


def test_a_body_that_is_too_deep_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(InvalidRequestError, match="extra_body"):
        check(extra_body=deep)


def test_a_caller_that_changes_its_body_later_does_not_change_the_request() -> None:
    body = {"options": {"a": 1}}
    request = check(extra_body=body)
    body["options"]["a"] = 2
    assert request.extra_body == {"options": {"a": 1}}


def test_token_ids_may_be_numbers() -> None:
    assert check(logit_bias={5: 1, "7": -1.5}).logit_bias == {"5": 1.0, "7": -1.5}


def test_none_means_omitted() -> None:
    assert check(temperature=None, tools=None, stop=None).set_parameters == {"messages", "stream"}


def test_a_single_stop_text_is_sent_as_it_was_given_and_counts_as_one() -> None:
    assert check(stop="END").stop == "END"
    assert check(stop="END").stops == check(stop=["END"]).stops == ("END",)
    assert check().stops == ()


def test_a_long_value_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(reasoning_effort="secret " * 100)
    assert "secret" not in str(caught.value)


def test_an_answers_message_goes_back_without_what_is_only_ours() -> None:
    call = ToolCall(id="c1", function=FunctionCall(name="weather", arguments="{}"))
    answer = Message(content=None, tool_calls=[call], reasoning="Let me see.", refusal=None, parsed={"a": 1})
    request = check(messages=[HI, answer, {"role": "tool", "tool_call_id": "c1", "content": "sunny"}])
    assert request.messages[1].model_dump(exclude_none=True) == {
        "role": "assistant",
        "reasoning": "Let me see.",
        "tool_calls": ({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},),
    }


def test_another_librarys_answer_goes_back_as_it_is() -> None:
    from openai.types.chat import ChatCompletionMessage

    answer = ChatCompletionMessage.model_validate({"role": "assistant", "content": "hello", "annotations": []})
    assert check(messages=[HI, answer, HI]).messages[1].content == "hello"


def test_a_checked_request_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        check().temperature = 1.0


def test_callers_may_write_what_a_request_holds_and_nothing_else() -> None:
    ours = set(ChatRequest.model_fields) - {"stream", "schema_in_words", "answer_class"}
    theirs = set(get_type_hints(CreateParams)) - {"model"}
    assert ours == theirs


# Servers written in Go match names without regard to case, the long s and the Kelvin sign included, and the last wins.
@pytest.mark.parametrize(
    "name",
    ["model", "messages", "stream", "stream_options", "Model", "MESSAGES", "me\u017f\u017fages", "max_to\u212aens"],
)
def test_what_has_a_parameter_is_not_taken_from_extra_body(name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(extra_body={name: "x"})
    assert caught.value.param == f"extra_body.{name}"


def test_a_refusal_that_is_handed_back_is_what_the_model_said() -> None:
    refused = Message(content=None, refusal="I will not.")
    (message,) = check(messages=[refused]).messages
    assert message.content == "I will not."


def test_what_only_pieces_of_a_stream_have_is_stripped_from_a_tool_call() -> None:
    call = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
    check(messages=[{"role": "assistant", "tool_calls": [call], "reasoning_details": [], "executed_tools": None}])


def test_messages_that_cannot_be_read_are_named() -> None:
    class Broken(dict[str, object]):
        def items(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(InvalidRequestError) as caught:
        check(messages=[Broken(role="user", content="hi")])
    assert caught.value.param == "messages"


@pytest.mark.parametrize("timeout", [0, -1, 1e10, True, "5"])
def test_a_timeout_that_no_timer_could_keep_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeout"):
        check(timeout=timeout)
