"""A real model in this process that is held to schemas: what reaches the caller, and what becomes of failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime, SecretStr

from llama_client import BadRequestError, GenerationFailedError, LlamaClient, UnsupportedFeatureError
from tests.asking import MODES, Asker
from tests.lengths import values

ASKED = [{"role": "user", "content": 'Say: He said "hello" twice.'}]


@pytest.fixture(scope="module")
def warm(tiny_model: Path) -> Iterator[dict[str, Any]]:
    """A configuration with one block of the demo model, whose engine stays loaded: schemas hold any model."""
    laptop = {"kind": "gguf", "model_path": str(tiny_model), "n_ctx": 2048, "n_parallel": 2, "n_threads": 1}
    configuration = {"default_model": "laptop/default", "providers": {"laptop": laptop}, "routing": {"retries": 0}}
    with LlamaClient({**configuration, "ledger": {"enabled": False}}) as client:
        client.ask("hi", max_tokens=1)
        yield configuration


@pytest.fixture(params=values(MODES, long=("call-async", "stream-sync")))
def ask(request: pytest.FixtureRequest, warm: dict[str, Any]) -> Asker:
    return Asker(request.param, warm, [])


def parsed(config: dict[str, Any], model: type[BaseModel], **params: Any) -> Any:
    with LlamaClient(config) as client:
        asked: dict[str, Any] = {"temperature": 1.3, "max_tokens": 80, "seed": 1, **params}
        return client.chat.completions.parse(messages=ASKED, response_format=model, **asked)


class Note(BaseModel):
    text: str = Field(pattern=r"^.{10,20}$")
    at: NaiveDatetime
    code: str = Field(pattern=r"[A-Z]{3}-\d{4}", max_length=12)
    share: float = Field(gt=0, lt=1)
    key: SecretStr = Field(max_length=10)


def test_each_answer_is_valid_whatever_the_temperature(warm: dict[str, Any]) -> None:
    reply = parsed(warm, Note, n=2, max_tokens=150)
    assert len({choice.message.parsed.model_dump_json() for choice in reply.choices}) == 2
    assert reply.warnings == []


SCHEMA = {"type": "object", "properties": {"word": {"type": "string", "pattern": r"^\w{3}$"}}, "required": ["word"]}


def test_a_schema_of_the_callers_own_holds_too(ask: Asker) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "word", "schema": SCHEMA}}
    reply = ask("Write a word.", response_format=form, temperature=1.3, seed=3, max_tokens=30)
    assert len(json.loads(reply.text)["word"]) == 3
    assert reply.warnings == []


def test_what_does_not_hold_is_told_once_and_that_nothing_checks_it(ask: Asker) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 2}
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object", "properties": {"list": numbers}}}}
    reply = ask("Write.", response_format=form, temperature=0, max_tokens=30, n=2)
    (warning,) = reply.warnings
    assert warning == "laptop/default is not held to all of the schema: list: uniqueItems. Nothing checks that."


class Twice(BaseModel):
    """Of which no grammar can hold the first field."""

    model_config = ConfigDict(regex_engine="python-re")
    word: str = Field(pattern=r"^([a-z]{5})\1$", max_length=12)
    kind: Literal["a"]


def test_what_does_not_hold_is_named_in_the_error_and_each_try_is_asked_anew(warm: dict[str, Any]) -> None:
    with pytest.raises(GenerationFailedError, match="word: pattern") as caught:
        parsed({**warm, "routing": {"retries": 1}}, Twice, temperature=0, max_tokens=40)
    assert "checked after" in str(caught.value)
    prompts = [attempt.usage.prompt_tokens for attempt in caught.value.attempts if attempt.usage is not None]
    assert len(prompts) == 2
    # The second is told what did not fit.
    assert prompts[0] is not None
    assert prompts[1] is not None
    assert prompts[1] > prompts[0]


class Never(BaseModel):
    name: str = Field(min_length=4, max_length=3)


def test_what_no_text_satisfies_is_refused_before_the_model_is_loaded(config: dict[str, Any]) -> None:
    laptop = {**config["providers"]["laptop"], "model_path": "/nowhere.gguf"}
    with pytest.raises(UnsupportedFeatureError, match="name") as caught:
        parsed({**config, "providers": {"laptop": laptop}}, Never)
    assert caught.value.param == "response_format"
    assert [attempt.sent for attempt in caught.value.attempts] == [False]


def test_what_is_no_schema_is_a_bad_request(ask: Asker) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "nonsense"}}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    with pytest.raises(BadRequestError, match="nonsense"):
        ask("Write.", response_format=form)


class Counts(BaseModel):
    counts: dict[Literal["a", "b"], int]
    free: dict[str, Literal[1]] = Field(max_length=2)


def test_names_that_are_listed_come_once(warm: dict[str, Any]) -> None:
    reply = parsed(warm, Counts, max_tokens=150)
    assert list(json.loads(reply.text)["counts"]) in (["a"], ["b"], ["a", "b"], [])
    assert reply.warnings == [
        "laptop/default is not held to all of the schema: free: different names. The answer was checked after."
    ]
