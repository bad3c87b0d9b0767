"""Answers as objects: a Pydantic model's schema for the request, and the answer held against it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from llama_client.errors import GenerationFailedError, InvalidRequestError
from llama_client.types.completion import Choice
from llama_client.validation import first_problem

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME_CHARS = 64
_FENCED = re.compile(r"```[a-zA-Z]*\n(.*)\n?```", re.DOTALL)


class AnswerForm:
    """The form that an answer must have.

    Args:
        model: A Pydantic model.

    Raises:
        InvalidRequestError: It is none, or has no JSON schema.
    """

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
        self._model = model

    @property
    def response_format(self) -> dict[str, Any]:
        """The parameter of that name. Strict where the schema can be: then servers enforce every word of it."""
        name = _NOT_IN_NAMES.sub("_", self._model.__name__)[:_MAX_NAME_CHARS]
        strict = _strict(self._schema)
        described = {"name": name, "schema": self._schema if strict is None else strict}
        return {"type": "json_schema", "json_schema": described | ({} if strict is None else {"strict": True})}

    def parsed(self, choices: Sequence[Choice]) -> list[BaseModel]:
        """Each choice's answer as an object.

        Raises:
            GenerationFailedError: One is none; retryable, except where it was cut by length or refused.
        """
        return [self._parsed(choice) for choice in choices]

    def _parsed(self, choice: Choice) -> BaseModel:
        message, text = choice.message, choice.message.content or ""
        if message.refusal:
            raise GenerationFailedError(
                f"the model refused: {message.refusal}", failed_generation=message.refusal, retryable=False
            )
        if choice.finish_reason == "length":
            raise GenerationFailedError(
                "the answer was cut at its longest before it was whole: raise max_tokens",
                failed_generation=text,
                retryable=False,
            )
        try:
            return self._model.model_validate_json(_unfenced(text))
        except ValidationError as error:
            is_json = error.errors(include_url=False)[0]["type"] != "json_invalid"
            why = first_problem(error, show_values=False).sentence if is_json else "it is no JSON"
            raise GenerationFailedError(
                f"the answer is no {self._model.__name__} ({why})", failed_generation=text
            ) from None


def _unfenced(text: str) -> str:
    """Without the Markdown fence that models put around JSON which nothing held them to."""
    fenced = _FENCED.fullmatch(text.strip())
    return fenced.group(1) if fenced else text


def _strict(schema: Any) -> Any:
    """The schema as strict servers want it: every property required, and no others; None: it cannot be so.

    OpenAI's rules, which Groq shares: a free-form table has no strict schema, and nothing stands beside a `$ref`.
    """
    if isinstance(schema, list):
        items = [_strict(item) for item in schema]
        return None if None in items else items
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if schema.get("type") == "object" and ("properties" not in schema or schema.get("additionalProperties")):
        return None
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "default":
            continue
        # Below these are names of the user's, not words of JSON schema.
        if key in ("properties", "$defs"):
            below = {name: _strict(inner) for name, inner in value.items()}
            value = None if None in below.values() else below
        elif key not in ("enum", "const", "required", "examples"):
            value = _strict(value)
        if value is None and key != "const":
            return None
        strict[key] = value
    if strict.get("type") == "object":
        strict |= {"additionalProperties": False, "required": list(strict["properties"])}
    return strict
