"""The schema of a Pydantic model, as a request carries it."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, RootModel

from llama_client import InvalidRequestError
from llama_client.structured import AnswerForm


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    size: int = Field(description="in metres")


class Plain(BaseModel):
    name: str
    colour: Colour
    inner: Inner = Field(description="beside a reference")
    maybe: int | None = None
    words: list[Literal["a", "b"]] = []


class Node(BaseModel):
    children: list[Node]


class Table(BaseModel):
    counts: dict[str, int]


class Anything(BaseModel):
    value: Any


class Pair(BaseModel):
    pair: tuple[int, str]


class Numbers(RootModel[list[int]]):
    pass


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Pet(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


def sent(model: type[BaseModel]) -> dict[str, Any]:
    described: dict[str, Any] = AnswerForm(model).response_format["json_schema"]
    return described


def test_a_plain_model_is_sent_strict() -> None:
    described = sent(Plain)
    assert described["strict"] is True
    schema = described["schema"]
    assert schema["required"] == ["name", "colour", "inner", "maybe", "words"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["inner"] == {"$ref": "#/$defs/Inner"}
    assert schema["$defs"]["Inner"]["additionalProperties"] is False
    assert "default" not in str(schema)


@pytest.mark.parametrize("model", [Node, Table, Anything, Pair, Numbers, Pet], ids=lambda model: model.__name__)
def test_what_strict_servers_do_not_know_is_sent_as_it_is(model: type[BaseModel]) -> None:
    described = sent(model)
    assert "strict" not in described
    assert described["schema"] == model.model_json_schema()


@pytest.mark.parametrize(
    "wrong", [dict, {"type": "object"}, Plain(name="x", colour=Colour.RED, inner=Inner(size=1)), None]
)
def test_only_a_model_s_class_is_a_form(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="Pydantic model's class"):
        AnswerForm(wrong)
