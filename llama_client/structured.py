"""Structured output: the JSON schema of a Pydantic model for the request, and the validation of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from pydantic import BaseModel, ValidationError

from llama_client.errors import GenerationFailedError, InvalidRequestError
from llama_client.schema_keywords import FORMATS, KEYWORDS
from llama_client.types.completion import Choice
from llama_client.validation import first_problem

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME_CHARS = 64


class AnswerForm:
    def __init__(self, model: object) -> None:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise InvalidRequestError(
                f"response_format: must be a Pydantic model's class, got {model!r:.60}", param="response_format"
            )
        try:
            self._schema = model.model_json_schema()
        except Exception as error:
            raise InvalidRequestError(
                f"response_format: {model.__name__} has no JSON schema ({type(error).__name__})",
                param="response_format",
            ) from error
        self.model: type[BaseModel] = model
        self._names = frozenset(self._schema.get("properties", ()))
        # Whether the model chooses names of its own, of which the last of two alike would win.
        self._has_free_names = _has_free_names(self._schema)

    @property
    def response_format(self) -> dict[str, Any]:
        """The request parameter; strict where the schema allows it, so that servers enforce all of it."""
        name = _NOT_IN_NAMES.sub("_", self.model.__name__)[:_MAX_NAME_CHARS]
        strict = strict_schema(self._schema)
        described = {"name": name, "schema": self._schema if strict is None else strict}
        return {"type": "json_schema", "json_schema": described | ({} if strict is None else {"strict": True})}

    def parsed(self, choices: Sequence[Choice]) -> list[BaseModel]:
        return [self._parsed(choice) for choice in choices]

    def _parsed(self, choice: Choice) -> BaseModel:
        message, text = choice.message, choice.message.content or ""
        if message.refusal:
            raise GenerationFailedError(
                f"the model refused: {message.refusal}", failed_generation=message.refusal, retryable=False
            )
        if choice.finish_reason == "length":
            raise GenerationFailedError(
                "the answer reached its maximum length before it was complete: raise max_tokens",
                failed_generation=text,
                retryable=False,
            )
        try:
            return self._validated(text)
        except ValidationError as error:
            if choice.finish_reason == "content_filter":
                raise GenerationFailedError(
                    "the provider's content filter cut the answer", failed_generation=text, retryable=False
                ) from None
            why = first_problem(error, show_values=False).sentence if _is_json(error) else "it is not JSON"
            raise GenerationFailedError(
                f"the answer does not fit {self.model.__name__} ({why})", failed_generation=text
            ) from None
        except _TwiceError as error:
            raise GenerationFailedError(
                f"the answer does not fit {self.model.__name__} (a name is there twice: {error!s:.60})",
                failed_generation=text,
            ) from None
        except Exception as error:
            # A validator of the user's own may raise anything.
            raise GenerationFailedError(
                f"the answer does not fit {self.model.__name__} (its validation raised {type(error).__name__})",
                failed_generation=text,
            ) from error

    def _validated(self, text: str) -> BaseModel:
        try:
            return self._instance(text)
        except ValidationError as error:
            if _is_json(error):
                raise
            told = error
        for part in _candidates(text, self._names):
            try:
                return self._instance(part)
            except ValidationError as error:
                told = error if _is_json(error) and not _is_json(told) else told
        raise told

    def _instance(self, text: str) -> BaseModel:
        made = self.model.model_validate_json(text)
        if self._has_free_names:
            json.loads(text, object_pairs_hook=_require_different)
        return made


class _TwiceError(ValueError):
    """A name that is there twice."""


def _require_different(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _TwiceError(name)
        seen.add(name)


def _has_free_names(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_has_free_names, schema))
    if not isinstance(schema, Mapping):
        return False
    is_free = schema.get("additionalProperties") not in (None, False) or "patternProperties" in schema
    return is_free or any(map(_has_free_names, schema.values()))


def _is_json(error: ValidationError) -> bool:
    """Whether what does not fit is JSON at least."""
    return error.errors(include_url=False)[0]["type"] != "json_invalid"


# Without a grammar, models put JSON into a Markdown fence, amid prose, or behind their reasoning.
_END_OF_THINKING = re.compile(r"</(?:think|thinking|thought)>|\[/THINK\]|◁/think▷")
_FENCE = "```"
_LANGUAGE = re.compile(r"\w*")
_OPENING = re.compile(r"[{\[]")
# The beginning of an object or a list of JSON, and not a bracket of prose.
_JSON_START = re.compile(r'\{\s*+["}]|\[\s*+[\[{"\]]')
# At so many places of an answer a value is looked for.
_MAX_LOOKS = 64


def _candidates(text: str, names: Set[str]) -> Iterator[str]:
    """The parts of an answer that may be the JSON that was asked for, an object with `names`: the likeliest first."""
    *before, rest = _END_OF_THINKING.split(text)
    if before:
        yield rest
    # What comes last is the result of what comes before.
    values = _values(rest)[::-1]
    values.sort(key=lambda pair: len(names & pair[1].keys()) if isinstance(pair[1], dict) else 0, reverse=True)
    yield from (part for part, _ in values)
    for part in reversed(rest.split(_FENCE, 2 * _MAX_LOOKS)[1::2]):
        yield part
        language = _LANGUAGE.match(part)
        yield part[language.end() :] if language is not None else part


def _values(text: str) -> list[tuple[str, Any]]:
    """The objects and lists amid prose, up to one that does not end: what is in that one is not the answer."""
    decoder, at, values = json.JSONDecoder(), 0, []
    for _ in range(_MAX_LOOKS):
        found = _OPENING.search(text, at)
        if found is None:
            break
        begin = found.start()
        try:
            value, at = decoder.raw_decode(text, begin)
            values.append((text[begin:at], value))
        except (ValueError, RecursionError):
            if _JSON_START.match(text, begin) is not None:
                break
            at = begin + 1
    return values


# Their patterns are those of engines without these: pydantic writes one for a Decimal.
_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
# One of these must define the value.
_SAYS_WHAT = frozenset({"type", "anyOf", "$ref", "enum", "const"})


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema in strict form, with every property required and no others; None: not possible."""
    # The root is an object, every value has a type, nothing is free-form, and a `$ref` stands alone.
    try:
        return _strict(schema) if schema.get("type") == "object" else None
    except _NotStrictError:
        return None


class _NotStrictError(Exception):
    """A part of the schema has no strict form."""


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    is_object = schema.get("type") == "object"
    rows = {key: KEYWORDS[key] for key in schema if key in KEYWORDS}
    if (
        not schema.keys() & _SAYS_WHAT
        or len(rows) < len(schema)
        or any(row.strict == "looser" for row in rows.values())
    ):
        raise _NotStrictError
    if _LOOK_AROUND.search(str(schema.get("pattern", ""))):
        raise _NotStrictError
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    is_free_object = is_object and ("properties" not in schema or schema.get("additionalProperties"))
    if is_free_object or (schema.get("type") == "array" and "items" not in schema):
        raise _NotStrictError
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            strict[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key in ("items", "anyOf"):
            strict[key] = _strict(value)
        elif rows[key].strict == "kept" and key != "format":
            strict[key] = value
    if "format" in schema:
        strict = _with_format(strict, str(schema["format"]))
    if is_object:
        strict |= {"additionalProperties": False, "required": list(strict["properties"])}
    return strict


def _with_format(strict: dict[str, Any], name: str) -> dict[str, Any]:
    """With a format as strict schemas have it."""
    row = FORMATS.get(name)
    if row is None or row.strict == "looser":
        raise _NotStrictError
    match row.strict:
        case "left out":
            return strict
        case "kept":
            return {**strict, "format": name}
        case "uuid":
            return {**strict, "format": "uuid"}
    kept = {key: value for key, value in strict.items() if key in ("title", "description")}
    value = {key: value for key, value in strict.items() if key not in kept}
    return {**kept, "anyOf": [{**value, "format": each} for each in ("ipv4", "ipv6")]}
