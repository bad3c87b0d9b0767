"""Conversations that a model's own template has no place for: written as it takes them, told, or refused by name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llama_client import AsyncLlamaClient, LlamaClient, UnsupportedFeatureError
from tests.asking import MODES, Asker

RULES = "Answer in one word, please."
MORE = "Never mention llamas."
ASKED = "What hums in the Andes?"
SAID = "A llama."


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def called(*numbers: int, text: str | None = None, prefix: str = "call_") -> dict[str, Any]:
    calls = [
        {"id": f"{prefix}{n}", "type": "function", "function": {"name": "hum", "arguments": json.dumps({"n": n})}}
        for n in numbers
    ]
    return turn("assistant", text, tool_calls=calls)


def result(number: int, text: str, prefix: str = "call_") -> dict[str, Any]:
    return turn("tool", text, tool_call_id=f"{prefix}{number}")


def system(text: str) -> dict[str, Any]:
    return turn("system", text)


def user(text: str) -> dict[str, Any]:
    return turn("user", text)


def assistant(text: str) -> dict[str, Any]:
    return turn("assistant", text)


HUM = {
    "type": "function",
    "function": {"name": "hum", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}
LINE = '{"name": "hum", "arguments": {"n": 1}}'
JOINED = "takes no two messages of one role in a row"
NO_SYSTEM = "no place for a system message"
AS_TEXT = "written as text"
# Template, what the caller writes, what the model reads, and what is told of that.
WAYS: list[tuple[str, str, list[dict[str, Any]], list[dict[str, Any]], list[str]]] = [
    ("plain", "any", [system(RULES), user(ASKED)], [system(RULES), user(ASKED)], []),
    ("two systems", "any", [system(RULES), system(MORE), user(ASKED)], [system(RULES), system(MORE), user(ASKED)], []),
    ("system", "strict", [system(RULES), user(ASKED)], [user(f"{RULES}\n\n{ASKED}")], [NO_SYSTEM]),
    ("system alone", "strict", [system(RULES)], [user(RULES)], [NO_SYSTEM]),
    (
        "two systems, none",
        "strict",
        [system(RULES), system(MORE), user(ASKED)],
        [user(f"{RULES}\n\n{MORE}\n\n{ASKED}")],
        [NO_SYSTEM],
    ),
    (
        "late system, none",
        "strict",
        [user(ASKED), assistant(SAID), system(RULES), user(MORE)],
        [user(ASKED), assistant(SAID), user(f"{RULES}\n\n{MORE}")],
        ["a system message after the beginning"],
    ),
    ("two users", "strict", [user(ASKED), user(MORE)], [user(f"{ASKED}\n\n{MORE}")], [JOINED]),
    (
        "two answers",
        "strict",
        [user(ASKED), assistant(SAID), assistant(MORE), user(ASKED)],
        [user(ASKED), assistant(f"{SAID}\n\n{MORE}"), user(ASKED)],
        [JOINED],
    ),
    ("last system", "strict", [user(ASKED), system(RULES)], [user(f"{ASKED}\n\n{RULES}")], ["beginning", JOINED]),
    (
        "second system left out",
        "first",
        [system(RULES), system(MORE), user(ASKED)],
        [system(f"{RULES}\n\n{MORE}"), user(ASKED)],
        ["takes one system message"],
    ),
    (
        "late system left out",
        "first",
        [user(ASKED), assistant(SAID), system(RULES), user(MORE)],
        [user(ASKED), assistant(SAID), user(f"{RULES}\n\n{MORE}")],
        ["a system message after the beginning"],
    ),
    (
        "calls without tools",
        "first",
        [user(ASKED), called(1), result(1, "hmmm"), assistant(SAID), user(MORE)],
        [user(ASKED), assistant(LINE), user("The result of hum:\nhmmm"), assistant(SAID), user(MORE)],
        [AS_TEXT],
    ),
    (
        "calls of a strict template",
        "strict",
        [user(ASKED), called(1), result(1, "hmmm")],
        [user(ASKED), assistant(LINE), user("The result of hum:\nhmmm")],
        [AS_TEXT],
    ),
    (
        "several calls",
        "single",
        [user(ASKED), called(1, 2), result(2, "two"), result(1, "one")],
        [user(ASKED), called(1), result(1, "one"), called(2), result(2, "two")],
        ["takes one tool call in a turn"],
    ),
    (
        "text beside a call",
        "single",
        [user(ASKED), called(1, text=SAID), result(1, "one")],
        [user(ASKED), assistant(SAID), called(1), result(1, "one")],
        ["no place for text beside tool calls"],
    ),
    (
        "long ids",
        "ids",
        [user(ASKED), called(1), result(1, "one")],
        [user(ASKED), called(1, prefix="fine0000"), result(1, "one", prefix="fine0000")],
        [],
    ),
    (
        "texts as parts",
        "parts",
        [system(RULES), user(ASKED)],
        [system([{"type": "text", "text": RULES}]), user(ASKED)],  # type: ignore[arg-type]
        [],
    ),
]


@pytest.mark.parametrize(
    ("template", "written", "read", "told"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS]
)
def test_a_conversation_is_read_whole_and_what_was_rewritten_is_told(
    models_with_templates: dict[str, Any],
    template: str,
    written: list[dict[str, Any]],
    read: list[dict[str, Any]],
    told: list[str],
) -> None:
    with LlamaClient(models_with_templates) as client:
        params: dict[str, Any] = {"model": f"{template}/default", "max_tokens": 1}
        if template in ("single", "ids"):
            params["tools"] = [HUM]
        # Twice: the second time it is known how.
        for _ in range(2):
            reply = client.chat.completions.create(messages=written, **params)
            assert len(reply.warnings) == len(told)
            assert all(words in warning for words, warning in zip(told, reply.warnings, strict=True))
        same = client.chat.completions.create(messages=read, **params)
    assert same.warnings == []
    assert reply.usage.prompt_tokens == same.usage.prompt_tokens
    assert len(reply.attempts) == 1


@pytest.mark.parametrize("mode", MODES)
def test_what_no_way_of_writing_shows_is_refused_by_name_and_the_next_target_answers(
    models_with_templates: dict[str, Any], mode: str
) -> None:
    ask = Asker(mode, models_with_templates, [])
    messages = [assistant(SAID), user(ASKED)]
    with pytest.raises(
        UnsupportedFeatureError, match=r"messages: .*template refuses them: roles must alternate"
    ) as told:
        ask(messages, model="strict/default", max_tokens=1)
    assert told.value.param == "messages"
    assert [(attempt.outcome, attempt.sent) for attempt in told.value.attempts] == [("skipped", False)]
    reply = ask(messages, model=["strict/default", "any/default"], max_tokens=1)
    assert reply.target == "any/default"


@pytest.mark.parametrize("mode", MODES)
def test_a_rewritten_conversation_is_told_in_each_mode(models_with_templates: dict[str, Any], mode: str) -> None:
    reply = Asker(mode, models_with_templates, [])([system(RULES)], model="strict/default", max_tokens=1)
    assert [NO_SYSTEM in warning for warning in reply.warnings] == [True]
    assert reply.usage.prompt_tokens is not None
    assert reply.usage.prompt_tokens > 8


def test_refusals_open_no_circuit(models_with_templates: dict[str, Any]) -> None:
    with LlamaClient(models_with_templates) as client:
        for _ in range(6):
            with pytest.raises(UnsupportedFeatureError):
                client.ask([assistant(SAID), user(ASKED)], model="strict/default")
        assert client.ask(ASKED, model="strict/default", max_tokens=1).attempts[0].outcome == "ok"


# What a prompt's tokens are counted by


COUNTED: list[tuple[str, Any]] = [
    ("any", ASKED),
    ("any", [system(RULES), user("naïve — 你好 \U0001d160 🦙")]),
    ("strict", [system(RULES), user(ASKED)]),
    ("first", [user(ASKED), called(1), result(1, "hmmm")]),
    ("any", [user(ASKED), assistant("It is")]),
]


@pytest.mark.parametrize(
    ("template", "messages"), COUNTED, ids=["text", "letters", "rewritten", "calls", "continuation"]
)
def test_a_loaded_models_tokens_are_counted_exactly(
    models_with_templates: dict[str, Any], template: str, messages: Any
) -> None:
    model = f"{template}/default"
    with LlamaClient(models_with_templates) as client:
        before = client.count_tokens(messages, model)
        reply = client.ask(messages, model=model, max_tokens=1)
        counted = client.count_tokens(messages, model)
        estimate = client.estimate_cost(messages, model, max_tokens=1)
    assert reply.usage.prompt_tokens is not None
    # This client has not loaded it yet.
    assert (before.status, before.most_tokens >= reply.usage.prompt_tokens) == ("estimated", True)
    assert (counted.status, counted.tokens, counted.most_tokens) == ("exact", *[reply.usage.prompt_tokens] * 2)
    assert estimate.input_tokens == reply.usage.prompt_tokens


def test_an_async_client_counts_exactly_too(models_with_templates: dict[str, Any]) -> None:
    async def run() -> tuple[str, bool]:
        async with AsyncLlamaClient(models_with_templates) as client:
            reply = await client.ask(ASKED, model="any/default", max_tokens=1)
            counted = await client.count_tokens(ASKED, "any/default")
            return counted.status, counted.tokens == reply.usage.prompt_tokens

    assert asyncio.run(run()) == ("exact", True)


def test_what_a_model_refuses_is_estimated(models_with_templates: dict[str, Any]) -> None:
    with LlamaClient(models_with_templates) as client:
        client.ask(ASKED, model="strict/default", max_tokens=1)
        assert client.count_tokens([assistant(SAID), user(ASKED)], "strict/default").status == "estimated"


def test_a_budget_sets_aside_what_a_loaded_models_prompt_costs(
    models_with_templates: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    config = {
        **models_with_templates,
        "ledger": {"url": f"sqlite:///{tmp_path / 'ledger.db'}"},
        "prices": [{"target": "any/default", "input_usd_per_mtok": 1000.0, "output_usd_per_mtok": 1000.0}],
        # Enough for the bound of the first call's tokens, and then for what the second call really has.
        "budgets": [{"usd": 0.555, "window": "total"}],
    }
    with LlamaClient(config) as client:
        costs = [client.ask(ASKED, model="any/default", max_tokens=1).cost.usd for _ in range(2)]
    assert all(usd is not None and 0.01 < usd < 0.03 for usd in costs)
