"""`chat.completions.parse` over HTTP: what is asked for, and what becomes of answers that have the form or miss it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    AllTargetsFailedError,
    AsyncLlamaClient,
    ChatCompletion,
    GenerationFailedError,
    InvalidRequestError,
    LlamaClient,
    UnsupportedFeatureError,
)
from llama_client.testing.dialects import DIALECTS, GROQ, OLLAMA, OPENAI, TOGETHER, Dialect
from llama_client.testing.loopback import Answer, Received, WireServer, as_json

each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
each_colour = pytest.mark.parametrize("colour", ["sync", "async"])
GOOD = '{"city": "Paris", "people": 2000000}'


class Capital(BaseModel):
    """A city."""

    city: str
    people: int
    river: str | None = None


class Table(BaseModel):
    """What no strict schema can say."""

    rows: dict[str, int]


def answering(dialect: Dialect, text: str | None, finish: str = "stop", **message: Any) -> Answer:
    body = dialect.whole(text or "")
    if dialect is OLLAMA:
        return as_json({**body, "done_reason": finish})
    body["choices"][0]["finish_reason"] = finish
    body["choices"][0]["message"] |= {"content": text, **message}
    return as_json(body)


def parse(config: Any, colour: str = "sync", **params: Any) -> ChatCompletion:
    asked: Any = {"messages": [{"role": "user", "content": "Capital of France?"}], "response_format": Capital}
    asked |= {"timeout": 10.0, **params}
    if colour == "sync":
        with LlamaClient(config) as client:
            return client.chat.completions.parse(**asked)

    async def asking() -> ChatCompletion:
        async with AsyncLlamaClient(config) as client:
            return await client.chat.completions.parse(**asked)

    return asyncio.run(asking())


def ask(dialect: Dialect, colour: str, *answers: Answer, **params: Any) -> tuple[ChatCompletion, Received]:
    rows = params.pop("models", [])
    with WireServer(dialect.answers(*answers)) as server:
        reply = parse({**dialect.config(server.url, api_key="k"), "models": rows}, colour, **params)
        return reply, server.requests[-1]


def failure(dialect: Dialect, colour: str, answer: Answer) -> GenerationFailedError:
    with pytest.raises(GenerationFailedError) as caught:
        ask(dialect, colour, answer)
    (attempt,) = caught.value.attempts
    assert (attempt.outcome, attempt.sent, attempt.http_status) == ("error", True, 200)
    assert attempt.error == "GenerationFailedError"
    assert attempt.usage is not None
    assert attempt.usage.completion_tokens == 2
    assert attempt.cost is not None
    assert (caught.value.failover, caught.value.target) == (True, "x/some/model")
    return caught.value


@each_colour
@each_dialect
def test_the_answer_is_an_instance(dialect: Dialect, colour: str) -> None:
    reply, _ = ask(dialect, colour, answering(dialect, GOOD))
    assert reply.choices[0].message.parsed == Capital(city="Paris", people=2_000_000)
    assert reply.text == GOOD
    assert [attempt.outcome for attempt in reply.attempts] == ["ok"]


@each_dialect
def test_the_schema_travels_strict(dialect: Dialect) -> None:
    _, request = ask(dialect, "sync", answering(dialect, GOOD))
    body = request.json
    assert not body.get("stream")
    if dialect is OLLAMA:
        schema = body["format"]
    else:
        assert body["response_format"]["type"] == "json_schema"
        assert body["response_format"]["json_schema"]["strict"] is True
        assert body["response_format"]["json_schema"]["name"] == "Capital"
        schema = body["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == ["city", "people", "river"]
    assert set(schema["properties"]) == {"city", "people", "river"}


def test_a_schema_that_cannot_be_strict_is_not_called_so() -> None:
    reply, request = ask(OPENAI, "sync", answering(OPENAI, '{"rows": {"a": 1}}'), response_format=Table)
    assert request.json["response_format"]["json_schema"].get("strict") is not True
    assert reply.choices[0].message.parsed == Table(rows={"a": 1})


@each_colour
def test_each_of_several_choices_is_parsed(colour: str) -> None:
    body = OPENAI.whole()
    texts = [GOOD, '{"city": "Rome", "people": 3, "river": "Tiber"}']
    body["choices"] = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    reply, request = ask(OPENAI, colour, as_json(body), n=2)
    assert request.json["n"] == 2
    assert [choice.message.parsed for choice in reply.choices] == [Capital.model_validate_json(text) for text in texts]


@pytest.mark.parametrize(
    "text", [f"```json\n{GOOD}\n```", f"```\n{GOOD}\n```", f"  \n{GOOD}\n", f"```JSON\n{GOOD}\n```\n"]
)
@each_dialect
def test_a_fence_around_the_answer_is_no_part_of_it(dialect: Dialect, text: str) -> None:
    reply, _ = ask(dialect, "sync", answering(dialect, text))
    assert reply.choices[0].message.parsed == Capital(city="Paris", people=2_000_000)
    assert reply.text == text


WRONG = ['{"city": "Paris"}', "Paris, of course.", "", '{"city": "Paris", "people": "many"}', f"[{GOOD}]", GOOD[:-5]]


@pytest.mark.parametrize("text", WRONG)
@each_colour
@each_dialect
def test_an_answer_of_another_form_is_a_failed_generation(dialect: Dialect, colour: str, text: str) -> None:
    error = failure(dialect, colour, answering(dialect, text))
    assert (error.retryable, error.failed_generation) == (True, text)
    assert "Capital" in str(error)


@each_colour
def test_a_name_that_is_there_twice_is_a_failed_generation(colour: str) -> None:
    # Many names, as a server may send them: they are compared in one go.
    names = ", ".join(f'"n{number}": 1' for number in range(50_000))
    answer = answering(OPENAI, f'{{"rows": {{{names}, "n7": 2}}}}')
    with pytest.raises(GenerationFailedError, match=r"a name is there twice: n7"):
        ask(OPENAI, colour, answer, response_format=Table)


@each_colour
@each_dialect
def test_an_answer_that_was_cut_is_not_tried_again(dialect: Dialect, colour: str) -> None:
    error = failure(dialect, colour, answering(dialect, GOOD[:-5], "length"))
    assert (error.retryable, error.failed_generation) == (False, GOOD[:-5])
    assert "max_tokens" in str(error)


@pytest.mark.parametrize("dialect", [GROQ, TOGETHER, OPENAI], ids=str)
@each_colour
def test_a_refusal_is_not_tried_again(dialect: Dialect, colour: str) -> None:
    error = failure(dialect, colour, answering(dialect, None, refusal="I cannot tell."))
    assert error.retryable is False
    assert "I cannot tell." in str(error)


@each_colour
@pytest.mark.parametrize("bad", ['{"city": "Paris"}', "no"])
def test_a_target_that_misses_the_form_makes_way_for_the_next(colour: str, bad: str) -> None:
    with (
        WireServer(GROQ.answers(answering(GROQ, bad))) as first,
        WireServer(OLLAMA.answers(answering(OLLAMA, GOOD))) as second,
    ):
        tables = {**GROQ.config(first.url, api_key="k")["providers"], "y": {"kind": "ollama", "base_url": second.url}}
        reply = parse({"providers": tables, "routing": {"retries": 0}}, colour, model=["x/a", "y/b"])
    assert reply.target == "y/b"
    assert reply.choices[0].message.parsed == Capital(city="Paris", people=2_000_000)
    lost, won = reply.attempts
    assert (lost.target, lost.outcome, lost.error) == ("x/a", "error", "GenerationFailedError")
    assert (won.target, won.outcome) == ("y/b", "ok")
    assert lost.usage is not None
    assert lost.cost is not None
    # An answer whose price nobody knows makes the price of the whole call unknown.
    assert (reply.cost.usd, reply.cost.status) == (None, "unknown")


def test_where_all_targets_miss_the_form_each_ones_answer_is_told() -> None:
    with WireServer(GROQ.answers(answering(GROQ, "one"), answering(GROQ, "two"))) as server:
        with pytest.raises(AllTargetsFailedError) as caught:
            parse(GROQ.config(server.url, api_key="k"), model=["x/a", "x/b"])
    assert [getattr(error, "failed_generation", None) for error in caught.value.errors] == ["one", "two"]


PLAIN = [{"target": "x/some/model", "name": "plain", "abilities": []}]


@each_colour
@pytest.mark.parametrize("dialect", [GROQ, TOGETHER, OPENAI], ids=str)
def test_a_model_that_cannot_be_held_to_a_schema_is_told_it_in_words(dialect: Dialect, colour: str) -> None:
    reply, request = ask(dialect, colour, answering(dialect, GOOD), models=PLAIN)
    assert reply.choices[0].message.parsed == Capital(city="Paris", people=2_000_000)
    body = request.json
    assert body["response_format"] == {"type": "json_object"}
    words = json.dumps(body["messages"])
    # Groq refuses json_object where the word does not occur.
    assert "json" in words.lower()
    assert all(name in words for name in ("city", "people", "river"))
    assert body["messages"][-1] == {"role": "user", "content": "Capital of France?"}


def test_a_schema_of_create_is_not_put_into_words_as_nobody_would_check_the_answer() -> None:
    with WireServer(OPENAI.answers()) as server:
        config = {**OPENAI.config(server.url, api_key="k"), "models": PLAIN}
        form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        with LlamaClient(config) as client, pytest.raises(UnsupportedFeatureError) as caught:
            client.ask("Hi", response_format=form)
        assert caught.value.param == "response_format"
        assert server.requests == []


def test_ollama_holds_any_model_to_a_schema() -> None:
    _, request = ask(OLLAMA, "sync", answering(OLLAMA, GOOD), models=PLAIN)
    assert request.json["format"]["type"] == "object"


@pytest.mark.parametrize("form", [dict, int, Capital(city="a", people=1), {"type": "json_object"}, "Capital", None])
@each_colour
def test_what_is_no_models_class_is_refused_before_anything_is_sent(colour: str, form: Any) -> None:
    with WireServer(OPENAI.answers()) as server:
        with pytest.raises(InvalidRequestError) as caught:
            parse(OPENAI.config(server.url, api_key="k"), colour, response_format=form)
        assert caught.value.param == "response_format"
        assert server.requests == []


@each_dialect
def test_a_message_that_was_parsed_can_be_handed_back(dialect: Dialect) -> None:
    first, _ = ask(dialect, "sync", answering(dialect, GOOD))
    messages = [{"role": "user", "content": "Capital of France?"}, first.choices[0].message]
    _, request = ask(dialect, "sync", answering(dialect, GOOD), messages=[*messages, {"role": "user", "content": "?"}])
    assert request.json["messages"][1] == {"role": "assistant", "content": GOOD}
