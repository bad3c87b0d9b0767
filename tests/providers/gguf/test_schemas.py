"""Schemas as grammars: what they let through, without a model, read by a reader of grammars that is the tests' own."""

from __future__ import annotations

import json
import random
import re
from datetime import date
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, create_model

from llama_client.providers.gguf.schemas.classes import class_schema
from llama_client.providers.gguf.schemas.compiler import Compiled, NoTextError, compiled
from llama_client.providers.gguf.schemas.frames import frame_of
from llama_client.providers.gguf.schemas.merging import SchemaError
from llama_client.schema_keywords import FORMATS, KEYWORDS
from tests.providers.gguf.gbnf import a_text, allows
from tests.providers.gguf.keywords_page import PAGE, filled
from tests.providers.gguf.schema_classes import CLASSES

# ruff: noqa: E501 - schemas are read best in one line

TODAY = date(2026, 11, 30)


def grammar_of(made: Compiled) -> str:
    return f"root ::= {made.term}\n{made.rules}"


def of_schema(schema: Any) -> str:
    return grammar_of(compiled(schema, of_class=False))


def of_field(kind: Any, **rules: Any) -> Compiled:
    model = create_model("Answer", value=(kind, Field(**rules)))
    return compiled(class_schema(model, TODAY), of_class=True)


@pytest.mark.parametrize("number", range(len(CLASSES)))
def test_what_the_grammar_of_a_class_lets_through_is_valid(number: int) -> None:
    model = CLASSES[number]
    made = compiled(class_schema(model, TODAY), of_class=True)
    grammar, rng = grammar_of(made), random.Random(number)
    for _ in range(8):
        text = a_text(grammar, rng, most=150)
        try:
            model.model_validate_json(text)
        except ValidationError as error:
            assert made.not_held, (text, error)


PATTERNS = {
    r"^\d{3}-\d{4}$": ["123-4567"],
    r"[A-Z]{3}-[0-9]{4}": ["ABC-1234"],
    r"^[^@]+@[^@]+\.[a-z]+$": ["a b@c.de", 'a"b\\@c.de', "a\nb@c.de"],
    r"^.{2,5}$": ["ab", 'a"b\\c', "äöüß"],
    r"\bcat\b": ["cat", "the cat sat", "a\ncat"],
    r"^a|b$": ["a", "ab", "ax", "xb"],
    r"^(?:a|b)*?c{2,3}?$": ["cc", "abccc"],
    r"^\w+\s\W\S\D$": ["ab_1 -xy"],
    r"colou?r": ["color", "my colour is"],
    r"^[^\"\\]{3}$": ["abc"],
    r"^\"\w+\"$": ['"ab"'],
    r"^[a-z]+$|^\d$": ["abc", "7"],
    r"^(a*)*b$": ["b", "aab"],
    r"^\x41\u0042\/\.$": ["AB/."],
    r"^(?i)ok$": ["OK", "oK"],
    r"\.$": ["Yes.", "a. b."],
    r"a.{8}": ["abcdefghi", "xxabcdefghixx"],
    r"^$": [""],
    r"": ["", "anything"],
}
TEXTS = sorted(
    {text for texts in PATTERNS.values() for text in texts} | {"cats", "concat", "12-4567", "123-45678", "é", '"'}
)


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_a_pattern_lets_through_only_what_it_matches(pattern: str) -> None:
    grammar = of_schema({"type": "string", "pattern": pattern})
    for text in PATTERNS[pattern]:
        assert allows(json.dumps(text, ensure_ascii=False), grammar), text
    # Python reads it in the same way, but for flags in the middle.
    read = re.compile(pattern.replace("^(?i)", "(?i)^").replace("$", r"\Z"))
    for text in TEXTS:
        assert read.search(text) or not allows(json.dumps(text, ensure_ascii=False), grammar), text
    rng = random.Random(1)
    for _ in range(20):
        assert read.search(json.loads(a_text(grammar, rng)))


@pytest.mark.parametrize(
    ("rules", "fits", "does_not"),
    [
        ({"pattern": "^[a-z]+$", "maxLength": 3}, ["a", "abc"], ["", "abcd", "ABC"]),
        ({"pattern": "^[a-z]+$", "minLength": 3}, ["abc", "abcdef"], ["ab"]),
        ({"pattern": "^(ab)+$", "minLength": 3, "maxLength": 5}, ["abab"], ["ab", "ababab", "aba"]),
        ({"pattern": "cat", "maxLength": 4}, ["cat", "cats", "acat"], ["a cats"]),
        ({"minLength": 2, "maxLength": 3}, ["ab", "äöü", '"\\'], ["a", "abcd"]),
        ({"pattern": "^a", "allOf": [{"pattern": "b$"}]}, ["ab", "axb"], ["a", "b", "ba"]),
        ({"pattern": r"^(?=.*\d)[a-z\d]{3}$"}, ["ab1", "1ab"], ["abc"]),
        ({"pattern": r"^(?!foo)[a-z]+$"}, ["bar", "fo"], ["foo", "foot"]),
        ({"pattern": r"^\w+$", "format": "uuid", "minLength": 2}, None, None),
    ],
    ids=str,
)
def test_several_rules_of_one_string_hold_together(
    rules: dict[str, Any], fits: list[str] | None, does_not: list[str] | None
) -> None:
    if fits is None:
        # Its hyphens are no part of a word.
        with pytest.raises(NoTextError):
            of_schema({"type": "string", **rules})
        return
    grammar = of_schema({"type": "string", **rules})
    for text in fits:
        assert allows(json.dumps(text, ensure_ascii=False), grammar), text
    for text in does_not or ():
        assert not allows(json.dumps(text), grammar), text


@pytest.mark.parametrize("text", ['"a"b"', '"a\\"', '"a\nb"', '"\x07"', '"', "ab", '"a\\u0"', '"a\\x"'], ids=repr)
@pytest.mark.parametrize("pattern", ["^.*$", "^[^@]*$", r"^\D*$", r"^\W*.*\S*$", None], ids=repr)
def test_quotes_backslashes_and_controls_come_escaped_or_not_at_all(pattern: str | None, text: str) -> None:
    rules = {} if pattern is None else {"pattern": pattern}
    assert not allows(text, of_schema({"type": "string", **rules}))


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 117}, "3 9 10 99 100 117", "2 118 1000 03 3.0 -3"),
        ({"type": "integer", "exclusiveMinimum": -5, "exclusiveMaximum": 2}, "-4 -1 0 1", "-5 2 -0"),
        ({"type": "integer", "multipleOf": 7}, "0 7 -14 1001", "1 6 15"),
        ({"type": "integer", "multipleOf": 2.5}, "0 5 -10", "2 7"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0 1 0.5 1.0 0.123", "1.1 -0.1 2 1.01 .5 1e5"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 2.35}, "0.1 2.35 2.349 1", "0 0.0 2.36 3"),
        ({"type": "number", "minimum": -2.5, "maximum": -0.25}, "-2.5 -0.25 -1", "-2.51 -0.2 0 1"),
        ({"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 1}, "0 0.25 0.5 0.75 1", "0.3 1.25"),
        ({"type": "number", "multipleOf": 0.01}, "1.25 -3 0.1", "1.255"),
        ({"type": "number", "minimum": 5, "exclusiveMinimum": True}, "5.1 6", "5 5.0 4"),
        ({"type": "number"}, "0 -1.5 6.02e23 12", "01 1. .1 +1 NaN"),
        ({"minimum": 1, "maximum": 2}, "1 1.5 2", "0 3"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_numbers_keep_to_their_bounds(schema: dict[str, Any], fits: str, does_not: str) -> None:
    grammar = of_schema(schema)
    assert [text for text in fits.split() if not allows(text, grammar)] == []
    assert [text for text in does_not.split() if allows(text, grammar)] == []


FORMATTED = {
    "date": ("2024-02-29 1999-12-31 2000-02-29", "2023-02-29 1900-02-29 2024-04-31 2024-13-01 24-01-01"),
    "time": ("23:59:59Z 00:00:00.5+01:00", "24:00:00Z 12:60:00Z 12:00"),
    "date-time": ("2024-02-29T12:00:00Z", "2023-02-29T12:00:00Z 2024-01-01 2024-01-01T12:00:00"),
    "duration": ("P3D PT5M P1DT2H", "P PT 3D"),
    "uuid": ("0ae8fba0-fafa-480e-9940-f6ff0009a90a", "0ae8fba0-fafa-980e-9940-f6ff0009a90a 0ae8fba0"),
    "uuid4": ("0ae8fba0-fafa-480e-9940-f6ff0009a90a", "0ae8fba0-fafa-180e-9940-f6ff0009a90a"),
    "ipv4": ("0.0.0.0 255.1.20.9", "256.1.1.1 1.1.1 01.1.1.1"),
    "ipv6": ("::1 1:2:3:4:5:6:7:8 fe80:1::2", "1:2 1::2::3 12345::1"),
    "email": ("a.b@example.com", "a@b @example.com a@localhost.test"),
    "uri": ("https://example.com/a?b=c mailto:a@example.com", "example.com //a /a"),
    "hostname": ("example.com a-b.example.org", "-a.com a..com example"),
    "base64": ("YWI=", "YWI a"),
    "json-pointer": ("/a/b~0", "a ~2"),
}


@pytest.mark.parametrize("name", FORMATTED)
def test_texts_have_their_format(name: str) -> None:
    grammar = of_schema({"type": "string", "format": name})
    fits, does_not = FORMATTED[name]
    assert [text for text in fits.split() if not allows(json.dumps(text), grammar)] == []
    assert [text for text in does_not.split() if allows(json.dumps(text), grammar)] == []


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}}}


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        (OBJECT, ["{}", '{"a": 1}', '{"b":true, "c":null}'], ['{"b": true, "a": 1}', '{"a": 1, "a": 2}', '{"x": 1}', '{"a": 1,}']),
        ({**OBJECT, "required": ["b"]}, ['{"b": true}', '{"a": 1, "b": true}'], ["{}", '{"a": 1}']),
        ({**OBJECT, "minProperties": 2}, ['{"a": 1, "c": null}'], ["{}", '{"a": 1}']),
        ({**OBJECT, "maxProperties": 1}, ["{}", '{"c": null}'], ['{"a": 1, "c": null}']),
        ({"type": "object", "required": ["z"]}, ['{"z": "any"}'], ["{}"]),
        ({"type": "object", "additionalProperties": {"type": "null"}}, ["{}", '{"x": null}'], ['{"x": 1}']),
        ({"patternProperties": {"^[a-z]$": {"type": "null"}}}, ['{"x": null}'], ['{"xy": null}', '{"X": null}']),
        ({"propertyNames": {"enum": ["p", "q"]}, "additionalProperties": {"const": 1}}, ["{}", '{"p": 1, "q": 1}'], ['{"q": 1, "p": 1}', '{"p": 1, "p": 1}', '{"r": 1}']),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}, ["[null]", "[null, null]"], ["[]", "[null,null,null]", "[null,]"]),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": "x"}], "minItems": 1, "items": False}, ["[1]", '[1, "x"]'], ["[]", "[2]", '[1, "x", 1]']),
        ({"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 2}, ["[1, 2]", "[1,3]", "[1, 2, 3]"], ["[1]", "[1, 1]", "[2, 1]"]),
        ({"enum": ["red", "reddish", 1, None, True, {"a": [1]}]}, ['"red"', '"reddish"', "1", "null", "true", '{"a": [1]}'], ['"re"', "2", "false"]),
        ({"enum": [1, "a", None], "type": ["string", "null"]}, ['"a"', "null"], ["1"]),
        ({"const": 'a "quoted" \\ text'}, ['"a \\"quoted\\" \\\\ text"'], ['"a "quoted" \\ text"']),
        ({"type": ["string", "integer"], "maxLength": 1}, ['"a"', "12"], ['"ab"', "null"]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}], "maximum": 3, "maxLength": 1}, ["3", '"a"'], ["4", '"ab"']),
        ({"anyOf": [{"type": "string", "minLength": 3, "maxLength": 2}, {"type": "null"}]}, ["null"], ['"abc"']),
        ({"allOf": [{"$ref": "#/$defs/low"}, {"maximum": 5}], "$defs": {"low": {"type": "integer", "minimum": 3}}}, ["3", "5"], ["2", "6"]),
        ({"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "array", "items": {"type": "string"}}}, ['"[\\"a\\", \\"b\\"]"'], ['"["a"]"', '"{}"']),
        (True, ["null", '{"a": [1, {"b": "c"}]}'], ["nul", "{a: 1}"]),
    ],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_values_keep_to_their_schema(schema: Any, fits: list[str], does_not: list[str]) -> None:
    grammar = of_schema(schema)
    assert [text for text in fits if not allows(text, grammar)] == []
    assert [text for text in does_not if allows(text, grammar)] == []


@pytest.mark.parametrize(
    ("kind", "rules", "field"),
    [
        (str, {"min_length": 3, "max_length": 2}, "value"),
        (int, {"ge": 3, "le": 2}, "value"),
        (float, {"gt": 1, "lt": 1}, "value"),
        (list[Literal["a"]], {"min_length": 3, "max_length": 2}, "value"),
        (set[Literal["a", "b"]], {"min_length": 3}, "value"),
        (str, {"pattern": "^[a-z]{5}$", "max_length": 4}, "value"),
    ],
    ids=str,
)
def test_what_no_text_satisfies_is_named(kind: Any, rules: dict[str, Any], field: str) -> None:
    with pytest.raises(NoTextError, match=f"^{field}: "):
        of_field(kind, **rules)


class Endless(BaseModel):
    """One that has no end."""

    next: Endless


class Tree(BaseModel):
    left: Tree | None
    right: Tree | None


def test_recursion_ends() -> None:
    with pytest.raises(NoTextError, match="no end"):
        compiled(class_schema(Endless, TODAY), of_class=True)
    grammar = grammar_of(compiled(class_schema(Tree, TODAY), of_class=True))

    def nested(depth: int) -> str:
        return f'{{"left": {nested(depth - 1) if depth else "null"}, "right": null}}'

    assert allows(nested(4), grammar)
    assert not allows(nested(12), grammar)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "nonsense"}, "nonsense"),
        ({"type": "string", "minLength": "3"}, "minLength"),
        ({"type": "integer", "minimum": "3"}, "minimum"),
        ({"$ref": "#/$defs/none"}, "nowhere"),
        ({"$ref": "http://example.com/schema"}, "must begin with"),
        ({"type": "object", "properties": []}, "properties"),
        ({"enum": 3}, "enum"),
        ({"allOf": [{"$ref": "#"}]}, "itself"),
        ({"pattern": 3}, "pattern"),
        ({"allOf": 1}, "allOf"),
        ({"type": "object", "propertyNames": {"anyOf": "a"}}, "anyOf"),
        ({"required": [1]}, "required"),
        (3, "object"),
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(SchemaError, match=named):
        of_schema(schema)


# For each row one that has it, with a text that breaks it.
BROKEN: dict[str, tuple[Any, str]] = {
    "type": ({"type": "null"}, "1"),
    "enum": ({"enum": [1]}, "2"),
    "const": ({"const": 1}, "2"),
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, "1"),
    "$defs": ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, "1"),
    "definitions": ({"$ref": "#/definitions/a", "definitions": {"a": {"type": "null"}}}, "1"),
    "anyOf": ({"anyOf": [{"type": "null"}]}, "1"),
    "oneOf": ({"oneOf": [{"type": "null"}]}, "1"),
    "allOf": ({"allOf": [{"type": "null"}]}, "1"),
    "properties": ({"type": "object", "properties": {"a": {"type": "null"}}}, '{"a": 1}'),
    "required": ({**OBJECT, "required": ["a"]}, "{}"),
    "additionalProperties": ({**OBJECT, "additionalProperties": False}, '{"z": 1}'),
    "patternProperties": ({"type": "object", "patternProperties": {"^a$": {"type": "null"}}}, '{"a": 1}'),
    "propertyNames": ({"type": "object", "propertyNames": {"pattern": "^a$"}}, '{"b": 1}'),
    "minProperties": ({"type": "object", "minProperties": 1}, "{}"),
    "maxProperties": ({"type": "object", "maxProperties": 0}, '{"a": 1}'),
    "items": ({"type": "array", "items": {"type": "null"}}, "[1]"),
    "prefixItems": ({"type": "array", "prefixItems": [{"type": "null"}]}, "[1]"),
    "minItems": ({"type": "array", "minItems": 1}, "[]"),
    "maxItems": ({"type": "array", "maxItems": 0}, "[1]"),
    "uniqueItems": ({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}, "[1, 1]"),
    "minLength": ({"type": "string", "minLength": 1}, '""'),
    "maxLength": ({"type": "string", "maxLength": 1}, '"ab"'),
    "pattern": ({"type": "string", "pattern": "^a$"}, '"b"'),
    "format": ({"type": "string", "format": "date"}, '"b"'),
    "minimum": ({"type": "integer", "minimum": 3}, "2"),
    "maximum": ({"type": "integer", "maximum": 3}, "4"),
    "exclusiveMinimum": ({"type": "integer", "exclusiveMinimum": 3}, "3"),
    "exclusiveMaximum": ({"type": "integer", "exclusiveMaximum": 3}, "3"),
    "multipleOf": ({"type": "integer", "multipleOf": 3}, "4"),
    "contentSchema": ({"type": "string", "contentSchema": {"type": "null"}}, '"1"'),
    "contentMediaType": ({"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "null"}}, '"1"'),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYWORDS)
def test_each_keyword_has_the_outcome_of_its_row(name: str) -> None:
    match KEYWORDS[name].outcome:
        case "enforced" | "rewritten":
            schema, text = BROKEN[name]
            assert name in json.dumps(schema)
            made = compiled(schema, of_class=False)
            assert not allows(text, grammar_of(made))
            assert [each for each in made.not_held if each != "different names"] == []
        case "not enforced":
            made = compiled({"type": "string", name: {"const": "a"}}, of_class=False)
            assert made.not_held == (name,)
        case _:
            made = compiled({"type": "null", name: "a"}, of_class=False)
            assert made == compiled({"type": "null"}, of_class=False)


@pytest.mark.parametrize("name", [*FORMATS, "unheard-of"])
def test_each_format_has_the_outcome_of_its_row(name: str) -> None:
    made = compiled({"type": "string", "format": name}, of_class=False)
    outcome = FORMATS[name].outcome if name in FORMATS else "not enforced"
    is_free = allows('"!? a"', grammar_of(made))
    assert is_free == (outcome in ("not enforced", "says nothing"))
    assert made.not_held == ((f"format {name}",) if outcome == "not enforced" else ())


@pytest.mark.parametrize(
    ("schema", "not_held"),
    [
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": r"(.)\1"}}}, "a: pattern (a reference to a group)"),
        ({"type": "array", "items": {"type": "string", "pattern": "(?<=a)b"}}, "[]: pattern (look-around and references)"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"minimum": 1}, {"maximum": 3}]}, "oneOf"),
        ({"type": "integer", "multipleOf": 7919}, "multipleOf"),
        ({"type": "string", "pattern": "^(a|b){1,3000}(c|d)+$"}, "pattern (it needs too many rules)"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_not_held_is_told_with_its_field(schema: Any, not_held: str) -> None:
    assert compiled(schema, of_class=False).not_held == (not_held,)


def test_unions_that_a_property_tells_apart_are_held() -> None:
    options = [{"type": "object", "properties": {"k": {"const": kind}}, "required": ["k"]} for kind in ("a", "b")]
    assert compiled({"oneOf": options}, of_class=False).not_held == ()


def test_long_texts_and_lists_are_counted_within_the_bounds_of_the_engine() -> None:
    grammar = of_schema({"type": "string", "minLength": 1, "maxLength": 3050})
    assert allows(f'"{"a" * 3050}"', grammar)
    assert not allows(f'"{"a" * 3051}"', grammar)
    assert len(of_schema({"type": "string", "maxLength": 10**6})) < 2000


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        ("{{ m.content }}", "assistant\n", '{"a": 1}'),
        ("<think></think>", "assistant\n", '<think>hm < 3</think>\n\n{"a": 1}'),
        ("<think></think>", "assistant\n", '{"a": 1}'),
        ("<think></think>", "assistant\n<think>\n", 'so it is</think>\n\n{"a": 1}'),
        ("<|channel|><|message|>", "<|start|>assistant", '<|channel|>final<|message|>{"a": 1}'),
        ("<|START_RESPONSE|>", "", '<|START_RESPONSE|>{"a": 1}<|END_RESPONSE|>'),
    ],
)
def test_a_model_may_think_before_its_answer_as_its_template_has_it(template: str, prompt: str, answer: str) -> None:
    made = compiled({"type": "object", "properties": {"a": {"const": 1}}}, of_class=False)
    grammar = frame_of(template, prompt).around(made.term) + made.rules
    assert allows(answer, grammar)
    assert not allows(answer.replace("1", "2"), grammar)


def test_the_tables_of_the_guide_are_those_of_the_data() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page), "run python -m tests.providers.gguf.keywords_page"
    assert "`uniqueItems`" in page
    assert "`date-time`" in page
