"""Tools with a real model in this process: what the caller demands, and what the model writes instead."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from llama_client import AllTargetsFailedError, GenerationFailedError, LlamaClient, UnsupportedFeatureError
from tests.asking import MODES, Asker
from tests.lengths import two_modes, values

ASKED = "What hums in the Andes?"


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"It {name}s.", "parameters": parameters}}


# Values that a model which writes nonsense can only choose from, so that every call ends.
TOOLS = [tool("hum", tone={"enum": ["low", "high"]}), tool("spit", far={"enum": ["yes", "no"]}), tool("sleep")]
HUMS = {"hum": {"low", "high"}, "spit": {"yes", "no"}, "sleep": set()}


@pytest.fixture(params=values(MODES, long=("call-async", "stream-sync")))
def ask(request: pytest.FixtureRequest, models_with_templates: dict[str, Any]) -> Asker:
    return Asker(request.param, {**models_with_templates, "default_model": "single/default"}, [])


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize("name", HUMS)
def test_a_named_tool_is_called(ask: Asker, name: str) -> None:
    reply = ask(ASKED, tools=TOOLS, tool_choice=named(name), max_tokens=40, temperature=1.5, seed=3)
    (call,) = reply.choices[0].message.tool_calls or []
    assert call.function.name == name
    assert set(json.loads(call.function.arguments).values()) <= HUMS[name]
    assert (reply.choices[0].message.content, reply.warnings) == (None, [])


@pytest.mark.parametrize("template", ["single", "ids"])
def test_a_required_call_comes_within_few_tokens(models_with_templates: dict[str, Any], template: str) -> None:
    with LlamaClient(models_with_templates) as client:
        for seed in range(2):
            reply = client.ask(
                ASKED, model=f"{template}/default", tools=TOOLS, tool_choice="required", max_tokens=40, seed=seed
            )
            (call,) = reply.choices[0].message.tool_calls or []
            assert set(json.loads(call.function.arguments).values()) <= HUMS[call.function.name]


@pytest.mark.parametrize("choice", ["required", named("hum")], ids=["required", "named"])
def test_a_call_that_does_not_come_within_max_tokens_is_a_failure_that_says_so(ask: Asker, choice: Any) -> None:
    with pytest.raises(
        GenerationFailedError, match=r"tool_choice .* within max_tokens=4 \(finish reason 'length'\)"
    ) as told:
        ask(ASKED, tools=TOOLS, tool_choice=choice, max_tokens=4, seed=1)
    assert told.value.failed_generation is not None
    assert told.value.target == "single/default"
    # It would end there again.
    assert [attempt.outcome for attempt in told.value.attempts] == ["error"]


def test_another_target_is_asked_where_the_call_did_not_come(models_with_templates: dict[str, Any]) -> None:
    with LlamaClient(models_with_templates) as client:
        targets = ["single/default", "ids/default"]
        with pytest.raises(AllTargetsFailedError) as told:
            client.ask(ASKED, model=targets, tools=TOOLS, tool_choice="required", max_tokens=3)
        assert [type(error) for error in told.value.errors] == [GenerationFailedError] * 2
        assert [attempt.target for attempt in told.value.attempts] == targets


def test_several_answers_have_a_call_each(ask: Asker) -> None:
    reply = ask(ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, n=2, max_tokens=40, seed=5)
    assert [len(choice.message.tool_calls or []) for choice in reply.choices] == [1, 1]
    assert [choice.index for choice in reply.choices] == [0, 1]


# Of the token of an opening brace, with which a call begins for the engine's parser.
BRACES = {"107": 100}


@pytest.mark.parametrize("max_tokens", [1, 6])
def test_text_that_is_no_call_is_the_answer(ask: Asker, max_tokens: int) -> None:
    reply = ask(ASKED, tools=TOOLS, max_tokens=max_tokens, temperature=0, logit_bias=BRACES)
    choice = reply.choices[0]
    assert (choice.message.content, choice.message.tool_calls) == ("{" * max_tokens, None)
    assert (choice.finish_reason, reply.usage.completion_tokens) == ("length", max_tokens)
    assert reply.usage.prompt_tokens == ask(ASKED, tools=TOOLS, max_tokens=1).usage.prompt_tokens
    assert [attempt.outcome for attempt in reply.attempts] == ["ok"]


# Arguments of earlier calls


def history(arguments: Any) -> list[dict[str, Any]]:
    call = {"id": "call00001", "type": "function", "function": {"name": "hum", "arguments": arguments}}
    return [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "content": "Hmmm."},
    ]


PLACE = "messages[1].tool_calls[0].function.arguments"
REPAIRED = [
    "",
    " ",
    "null",
    '```json\n{"tone": "low"}\n```',
    json.dumps(json.dumps({"tone": "low"})),
    "{'tone': 'low', 'loud': True}",
    '{"tone": "low", "loud": false,}',
    '{"tone": "lo\nw"}',
]


@pytest.mark.parametrize("arguments", REPAIRED)
def test_arguments_that_can_mean_one_object_are_repaired(models_with_templates: dict[str, Any], arguments: str) -> None:
    with LlamaClient(models_with_templates) as client:
        reply = client.ask(history(arguments), model="single/default", tools=TOOLS, max_tokens=1)
    assert reply.warnings == [f"{PLACE} was no JSON object; it was read as one"]
    assert len(reply.attempts) == 1


REFUSED = [
    '{"tone": "lo',
    '{"tone": "low"',
    '{"tone": 1}{"tone": 2}',
    "[1, 2]",
    "5",
    "tone=low",
    '{"tone": NaN}',
    '{"tone": 1e999}',
    '{"tone": "\\ud800"}',
    "{'tone': '\\d'}",
    "{'tone': print()}",
    "{1: 2}",
    '{"a":' * 3000 + "1" + "}" * 3000,
    "{" * 200_000,
]


@pytest.mark.parametrize("arguments", REFUSED, ids=[f"{text[:20]} {len(text)}" for text in REFUSED])
def test_other_arguments_are_refused_by_name_before_the_model_is_asked(
    models_with_templates: dict[str, Any], arguments: str
) -> None:
    with LlamaClient(models_with_templates) as client:
        with pytest.raises(UnsupportedFeatureError, match=re.escape(PLACE)) as told:
            client.ask(history(arguments), model="single/default", tools=TOOLS, max_tokens=1)
        assert told.value.param == "messages"
        assert [(attempt.outcome, attempt.sent) for attempt in told.value.attempts] == [("skipped", False)]


@two_modes
def test_after_many_such_refusals_the_model_still_answers(models_with_templates: dict[str, Any], mode: str) -> None:
    ask = Asker(mode, {**models_with_templates, "default_model": "single/default"}, [])
    for _ in range(6):
        with pytest.raises(UnsupportedFeatureError):
            ask(history("{"), tools=TOOLS)
    assert ask(history("{}"), tools=TOOLS, max_tokens=1).attempts[0].outcome == "ok"


def test_good_arguments_stay_as_they_are(models_with_templates: dict[str, Any]) -> None:
    with LlamaClient(models_with_templates) as client:
        for arguments in ("{}", '{"tone": "low"}', {"tone": "low"}, '{"n": 1e3, "m": [1, {"a": null}]}'):
            assert client.ask(history(arguments), model="single/default", tools=TOOLS, max_tokens=1).warnings == []


def test_log_probabilities_beside_tools_are_not_supported(models_with_templates: dict[str, Any]) -> None:
    with LlamaClient(models_with_templates) as client, pytest.raises(UnsupportedFeatureError) as told:
        client.ask(ASKED, model="single/default", tools=TOOLS, logprobs=True)
    assert told.value.param == "logprobs"
