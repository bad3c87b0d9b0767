"""Answers as objects: a schema of any form as what `parse` takes, and the columns that an answer has in a table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, RootModel, model_validator

from llama_client.bulk.inputs.json_lines import kind_of
from llama_client.bulk.inputs.json_schema import Checker
from llama_client.bulk.inputs.schema_forms import SchemaError, resolved
from llama_client.errors import GenerationFailedError, InvalidRequestError
from llama_client.structured import AnswerForm
from llama_client.validation import broken_rule

if TYPE_CHECKING:
    from llama_client.types.completion import ChatCompletion

Kind = Literal["text", "integer", "number", "boolean", "json", "money"]
"""The type of a column of an output: `json` is any value, as text where a format has no such values."""
_KINDS: dict[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
# Beside the answer.
_FACTS: dict[str, Kind] = {"error": "text", "usd": "money", "target": "text"}
_MAX_SCHEMA_BYTES = 2**20
# The integers that tables have are of 64 bits.
_INTEGERS = 2**63
_NOT_IN_NAMES = re.compile(r"\W+")


class OutputField(NamedTuple):
    """A column that an output has beside those of the input."""

    name: str
    kind: Kind


class Answers:
    """What a job's answers are: texts, or objects of a schema.

    Args:
        schema: A Pydantic class, a JSON schema as a dict, the path of one in a file, or None for texts.

    Raises:
        InvalidRequestError: The schema cannot be used.
    """

    def __init__(self, schema: object) -> None:
        self.form: AnswerForm | None = None
        self.kinds: dict[str, Kind] = {"answer": "text"}
        if schema is None:
            return
        model = schema if isinstance(schema, type) else _class_of(_read(schema))
        try:
            self.form = AnswerForm(model)
        except InvalidRequestError as error:
            raise InvalidRequestError(str(error).replace("response_format", "schema", 1), param="schema") from error
        described = self.form.model.model_json_schema()
        properties = resolved(described, described).get("properties")
        if not properties:
            raise _wrong("it has no properties, which become the columns of the output")
        self.kinds = {str(name): _kind(each, described) for name, each in properties.items()}

    def value(self, completion: ChatCompletion) -> dict[str, Any]:
        """An answer by fields, as JSON has it.

        Raises:
            GenerationFailedError: It is not what the schema asks for, or a refusal.
        """
        if self.form is None:
            message = completion.choices[0].message if completion.choices else None
            if message is not None and message.refusal:
                raise GenerationFailedError(f"the model refused: {message.refusal}", retryable=False)
            return {"answer": None if message is None else message.content}
        parsed = self.form.parsed(completion.choices[:1])
        if not parsed:
            return {}
        return parsed[0].model_dump(mode="json", by_alias=True)

    def fields(self, columns: tuple[str, ...]) -> list[OutputField]:
        """The columns of an output beside `columns`: the answer's, `error`, `usd` and `target`.

        None of `columns` is overwritten: where there is an `answer`, that of the model is `answer_2`.
        """
        taken, fields = set(columns), []
        for wanted, kind in (*self.kinds.items(), *_FACTS.items()):
            name, count = wanted, 1
            while name in taken:
                count += 1
                name = f"{wanted}_{count}"
            taken.add(name)
            fields.append(OutputField(name, kind))
        return fields


def _wrong(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"schema: {what}", param="schema")


def _read(schema: object) -> Mapping[str, Any]:
    place = "it"
    if isinstance(schema, str | os.PathLike):
        path = Path(schema)
        place = path.name
        try:
            if path.stat().st_size > _MAX_SCHEMA_BYTES:
                raise _wrong(f"{place} is longer than {_MAX_SCHEMA_BYTES // 2**20} MiB, and is no schema")
            schema = json.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise _wrong(f"{schema!s:.200} cannot be read ({error.strerror or type(error).__name__})") from error
        except (ValueError, RecursionError) as error:
            raise _wrong(f"{place} is not JSON ({error!s:.100})") from error
    if not isinstance(schema, Mapping):
        raise _wrong(f"must be a Pydantic class, a JSON schema or the path of one, got {kind_of(schema)}")
    if "json_schema" in schema or ("schema" in schema and "type" not in schema):
        raise _wrong(f"{place} is a response_format; give the JSON schema in it, which stands under 'schema'")
    return schema


def _class_of(schema: Mapping[str, Any]) -> type[BaseModel]:
    """A class whose instances hold what the schema allows, so that `parse` asks and checks as for any class."""
    try:
        checker = Checker(schema)
        root = resolved(schema, schema)
    except SchemaError as error:
        raise _wrong(str(error)) from None
    if not isinstance(root, Mapping) or root.get("type") != "object":
        raise _wrong("its type must be 'object', since each answer is one")
    described = json.loads(json.dumps(schema))

    class Answer(RootModel[Any]):
        @model_validator(mode="after")
        def _fits(self) -> Answer:
            problem = checker.problem(self.root)
            if problem is not None:
                raise broken_rule(problem.field, problem.sentence)
            return self

        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return dict(described)

    Answer.__name__ = _NOT_IN_NAMES.sub("_", str(schema.get("title") or "answer")).strip("_") or "answer"
    return Answer


def _kind(schema: Any, root: Any) -> Kind:
    """The type of a column that holds what a schema describes, or null."""
    schema = resolved(schema, root)
    if not isinstance(schema, Mapping):
        return "json"
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        kinds = {_kind(each, root) for each in branches if resolved(each, root) != {"type": "null"}}
        return joined_kind(kinds)
    if "enum" in schema or "const" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return joined_kind({kind_of_value(each) for each in values if each is not None})
    types = schema.get("type")
    names = {each for each in (types if isinstance(types, list) else [types]) if each != "null"}
    return joined_kind({_KINDS.get(str(each), "json") for each in names})


def kind_of_value(value: object) -> Kind:
    """The type of a column for a value of JSON that is not null."""
    if type(value) is int and not -_INTEGERS <= value < _INTEGERS:
        return "json"
    for kind, name in _OF_VALUES:
        if isinstance(value, kind):
            return name
    return "json"


_OF_VALUES: tuple[tuple[type, Kind], ...] = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "text"))


def joined_kind(kinds: set[Kind]) -> Kind:
    """One type for values of several; `json` where there is none."""
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "json"
