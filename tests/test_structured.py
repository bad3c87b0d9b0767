"""The schema of a Pydantic model, as a request carries it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import UUID4, BaseModel, Field, FilePath, HttpUrl, IPvAnyAddress, Json, RootModel, SecretStr

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


class Tags(BaseModel):
    tags: set[str]


class Page(BaseModel):
    url: HttpUrl


class Blob(BaseModel):
    content: bytes


class Key(BaseModel):
    key: SecretStr


class Text(BaseModel):
    document: Json[list[int]]


class Exists(BaseModel):
    path: FilePath


class Versions(BaseModel):
    id: UUID4
    host: IPvAnyAddress


class Short(BaseModel):
    name: str = Field(max_length=5)


class Amount(BaseModel):
    amount: Annotated[str, Field(json_schema_extra={"pattern": r"^(?!^[-+.]*$)[+-]?0*\d*$"})]


class Documented(BaseModel):
    at: datetime
    id: UUID
    share: float = Field(ge=0, lt=1, multiple_of=0.1)
    code: str = Field(pattern=r"^[A-Z]{2}\d+$", examples=["AB1"], deprecated=True)
    words: list[str] = Field(min_length=1, max_length=3)


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


def test_what_is_documented_for_strict_schemas_is_kept() -> None:
    described = sent(Documented)
    assert described["strict"] is True
    properties = described["schema"]["properties"]
    assert properties["at"]["format"] == "date-time"
    assert (properties["share"]["minimum"], properties["share"]["exclusiveMaximum"]) == (0, 1)
    assert properties["code"] == {"pattern": r"^[A-Z]{2}\d+$", "title": "Code", "type": "string"}
    assert (properties["words"]["minItems"], properties["words"]["maxItems"]) == (1, 3)


@pytest.mark.parametrize("model", [Blob, Key, Text], ids=lambda model: model.__name__)
def test_what_restricts_no_value_is_left_out_of_a_strict_schema(model: type[BaseModel]) -> None:
    described = sent(model)
    assert described["strict"] is True
    (field,) = described["schema"]["properties"].values()
    assert field.keys() == {"type", "title"}


def test_formats_that_strict_schemas_have_under_another_name_are_sent_under_that() -> None:
    described = sent(Versions)
    assert described["strict"] is True
    properties = described["schema"]["properties"]
    assert properties["id"] == {"title": "Id", "type": "string", "format": "uuid"}
    assert [each["format"] for each in properties["host"]["anyOf"]] == ["ipv4", "ipv6"]


NOT_STRICT = [Node, Table, Anything, Pair, Numbers, Pet, Tags, Page, Short, Amount, Exists]


@pytest.mark.parametrize("model", NOT_STRICT, ids=lambda model: model.__name__)
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
