"""An answer is checked against each keyword of a schema."""

from __future__ import annotations

from typing import Any

import pytest

from llama_client.bulk.inputs.json_schema import Checker
from llama_client.bulk.inputs.schema_forms import SchemaError

_TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "under": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
    "additionalProperties": False,
}
# The schema, values that fit, and values that do not with what is said of them.
CASES: list[tuple[Any, list[Any], list[tuple[Any, str]]]] = [
    ({"type": "string"}, ["", "a"], [(1, ": must be string, got a number"), (None, ": must be string, got null")]),
    ({"type": "integer"}, [1, 1.0, -(2**70)], [(1.5, ": must be integer, got a number"), (True, ": must be integer")]),
    ({"type": "number"}, [1, 1.5], [("1", ": must be number"), (False, ": must be number")]),
    ({}, [1, None, [], {}], [(float("nan"), ": must be a finite number"), ([float("inf")], "[0]: must be a finite")]),
    ({"type": ["string", "null"]}, ["a", None], [(1, ": must be string or null, got a number")]),
    ({"const": 1}, [1, 1.0], [(True, ": must be 1")]),
    ({"enum": ["a", None, [1, {"b": 2}]]}, ["a", None, [1.0, {"b": 2}]], [("b", ': must be one of ["a", null')]),
    ({"minLength": 2, "maxLength": 3}, ["äö", "abc", 5], [("a", "at least 2"), ("abcd", "at most 3 characters")]),
    ({"pattern": "^a+$"}, ["aa", 5], [("ab", "must match '^a+$'")]),
    ({"minimum": 1, "maximum": 2}, [1, 2, "0"], [(0, "at least 1"), (3, "at most 2")]),
    ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [(1, "more than 1"), (2, "less than 2")]),
    ({"multipleOf": 0.1}, [0.3, 5], [(0.35, "a multiple of 0.1")]),
    ({"items": {"type": "string"}}, [[], ["a"]], [(["a", 1], "[1]: must be string, got a number")]),
    ({"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [([], "0 items, too few"), ([1, 2, 3], "has 3 items")]),
    ({"uniqueItems": True}, [[1, True], ["a"]], [([1, 1.0], "the same item twice"), ([{"a": 1}, {"a": 1}], "twice")]),
    ({"prefixItems": [{"type": "string"}], "items": False}, [["a"]], [(["a", 1], "[1]: must not be there")]),
    ({"items": [{"type": "string"}], "additionalItems": False}, [["a"]], [(["a", 1], "[1]: must not"), ([1], "[0]")]),
    ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, [{}], [({"a": 1}, "beside 'a'"), ({"c": 1}, "d: is")]),
    ({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "string"}}}, ["a"], [(1, "must be string")]),
    ({"$ref": "#/prefixItems/0", "prefixItems": [{"type": "string"}]}, ["a"], [(1, "must be string")]),
    ({"contains": {"const": 1}}, [[0, 1]], [([0], "has 0 of the items")]),
    ({"contains": {"const": 1}, "minContains": 0, "maxContains": 1}, [[]], [([1, 1], "has 2 of the items")]),
    (_TREE, [{"name": "a", "under": [{"name": "b"}]}], [({"name": "a", "under": [{}]}, "under[0].name: is required")]),
    (_TREE, [], [({"name": "a", "nam": "b"}, "nam: unknown name")]),
    ({"additionalProperties": {"type": "string"}}, [{"a": "b"}], [({"a": 1}, "a: must be string")]),
    ({"patternProperties": {"^n": {"type": "number"}}}, [{"n": 1, "a": "b"}], [({"n1": "b"}, "n1: must be number")]),
    ({"propertyNames": {"maxLength": 1}}, [{"a": 1}], [({"ab": 1}, "ab: is no name that the schema allows")]),
    ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [({}, "has 0 names"), ({"a": 1, "b": 1}, "has 2 names")]),
    ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1, "b": 1}], [({"a": 1}, "b: is required beside 'a'")]),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{}], [({"a": 1}, "b: is required")]),
    ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [(3, "at most 2")]),
    ({"anyOf": [{"type": "string"}, _TREE]}, ["a"], [({"name": 1}, "must be string")]),
    ({"oneOf": [{"minimum": 1}, {"maximum": 2}]}, [0, 3], [(1, "must fit exactly one of 2 forms, and fits 2")]),
    ({"not": {"type": "string"}}, [1], [("a", "is what the schema excludes")]),
    ({"if": {"minimum": 5}, "then": {"maximum": 9}, "else": {"const": 0}}, [7, 0], [(11, "at most 9"), (3, "be 0")]),
    (
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"$ref": "#/$defs/c"}, "c": {"type": "string"}}},
        ["a"],
        [(1, "must be string")],
    ),
    ({"properties": {"a": False, "b": True}}, [{"b": 1}], [({"a": 1}, "a: must not be there")]),
    ({"format": "email", "x-own": 1, "title": "T"}, ["no address"], []),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=[str(schema)[:50] for schema, _, _ in CASES])
def test_a_value_fits_or_is_told_where_it_does_not(schema: Any, good: list[Any], bad: list[tuple[Any, str]]) -> None:
    checker = Checker(schema)
    for value in good:
        assert checker.problem(value) is None, value
    for value, sentence in bad:
        problem = checker.problem(value)
        assert problem is not None, value
        assert sentence in f"{problem.field}: {problem.sentence}"


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"$ref": "https://example.com/schema.json"}, "leads out of the schema, or to an anchor; only"),
        ({"$ref": "#a", "$defs": {"b": {"$anchor": "a"}}}, "only '#/...' is followed"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "its references go in a circle"),
        ({"properties": {"a": {"type": "date"}}}, "type 'date' is unknown"),
        ({"properties": ["a"]}, "properties must be an object"),
        ({"items": {"minItems": "a"}}, "minItems must be a whole number, got a text"),
        ({"minimum": "1"}, "minimum must be a number, got a text"),
        ({"minimum": 1, "exclusiveMinimum": True}, "exclusiveMinimum must be a number, got true or false"),
        ({"multipleOf": 0}, "multipleOf must be above 0"),
        ({"properties": {"a": "string"}}, "each part of it must be an object, true or false, got a text"),
        ({"anyOf": [{"type": "string"}, None]}, "each part of it must be an object, true or false, got null"),
        (
            {"properties": {"a": {}}, "unevaluatedProperties": False},
            "unevaluatedProperties is not checked; leave it out",
        ),
        ({"items": {"$dynamicRef": "#node"}}, "$dynamicRef is not checked"),
    ],
    ids=str,
)
def test_a_schema_that_is_none_is_told(schema: Any, sentence: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Checker(schema)
    assert sentence in str(caught.value)


def test_a_value_of_any_depth_ends() -> None:
    value: dict[str, Any] = {"name": "a"}
    for _ in range(500):
        value = {"name": "a", "under": [value]}
    problem = Checker(_TREE).problem(value)
    assert problem is not None
    assert problem.sentence == "is nested too deeply"
