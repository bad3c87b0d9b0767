"""What the rows of an input ask: a prompt made of columns, messages, or OpenAI's batch-file shape."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from llama_client.bulk.inputs.json_lines import kind_of
from llama_client.bulk.inputs.templates import Template, columns_named
from llama_client.bulk.rows import Row
from llama_client.errors import InvalidRequestError
from llama_client.validation import nearest

_BATCH_KEYS = frozenset({"custom_id", "method", "url", "body"})
# How like a parameter a field must be to be taken for a misspelling of it: servers have a `top_a` and a `store`.
_MISSPELLED = 0.85
_CHAT_URL = "/chat/completions"


class Shape(Protocol):
    """Makes rows of records."""

    is_batch: bool
    has_own_requests: bool
    """Whether a row may hold more than the job's own parameters and a text, so that each must be checked."""

    def row(self, position: int, values: Mapping[str, Any], where: str) -> Row: ...


def wrong(place: str, what: str, param: str | None = None) -> InvalidRequestError:
    return InvalidRequestError(f"{place}: {what}", param=param)


def is_batch_line(values: Mapping[str, Any]) -> bool:
    """Whether a record has the shape of a line of OpenAI's batch files; `method` and `url` may be left out."""
    return isinstance(values.get("body"), Mapping) and ("custom_id" in values or values.keys() <= _BATCH_KEYS)


class PromptShape:
    """A text for each row: a template filled with its columns."""

    is_batch = False
    has_own_requests = False

    def __init__(self, template: Template, system: str | None, params: Mapping[str, Any]) -> None:
        self._template = template
        self._before = [] if system is None else [{"role": "system", "content": system}]
        self._params = dict(params)

    def row(self, position: int, values: Mapping[str, Any], where: str) -> Row:
        content = self._template.filled(values, where)
        if not content.strip():
            names = ", ".join(map(repr, self._template.names))
            raise wrong(where, f"the prompt is empty ({names}); fill the column, or leave out the row", "prompt")
        messages = [*self._before, {"role": "user", "content": content}]
        return Row(position, {**self._params, "messages": messages}, _own_id(values, where), values, where)


class MessagesShape:
    """Rows with a column `messages`: a list of messages, or one as JSON text."""

    is_batch = False
    has_own_requests = True

    def __init__(self, system: str | None, params: Mapping[str, Any]) -> None:
        self._system = system
        self._params = dict(params)

    def row(self, position: int, values: Mapping[str, Any], where: str) -> Row:
        if "messages" not in values:
            raise wrong(where, f"has no column 'messages'{columns_named(values.keys())}", "messages")
        messages = with_system(self._system, _listed(values["messages"], where), where)
        return Row(position, {**self._params, "messages": messages}, _own_id(values, where), values, where)


class BatchShape:
    """Rows with a `body` of their own, which goes before the job's parameters."""

    is_batch = True
    has_own_requests = True

    def __init__(self, system: str | None, params: Mapping[str, Any], known: Collection[str]) -> None:
        self._system = system
        self._params = dict(params)
        self._known = frozenset(known)

    def row(self, position: int, values: Mapping[str, Any], where: str) -> Row:
        if not is_batch_line(values):
            raise wrong(where, "has no 'body' with a request, as the lines before it have")
        custom_id = _checked_id(values.get("custom_id"), where)
        method, url = values.get("method", "POST"), values.get("url", _CHAT_URL)
        if method != "POST":
            raise wrong(where, f"method must be 'POST', got {method!r:.60}", "method")
        if not isinstance(url, str) or not url.endswith(_CHAT_URL):
            raise wrong(where, f"url must be '/v1{_CHAT_URL}', got {url!r:.60}; only chat is asked", "url")
        body = self._own(values["body"], where)
        messages = with_system(self._system, _listed(body.get("messages"), where), where)
        columns = {name: value for name, value in values.items() if name not in _BATCH_KEYS}
        return Row(position, {**self._params, **body, "messages": messages}, custom_id, columns, where)

    def _own(self, body: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A body as parameters of `create`: a field that only a provider knows goes into `extra_body`."""
        _require_model(body.get("model"), where)
        if body.get("stream"):
            raise wrong(where, "body.stream must not be true: a job takes whole answers", "stream")
        if "response_format" in self._params and body.get("response_format") is not None:
            raise wrong(where, "body.response_format and the job's schema exclude each other", "schema")
        own = {name: value for name, value in body.items() if name in self._known and value is not None}
        own.pop("stream", None)
        extra = {name: value for name, value in body.items() if name not in self._known and value is not None}
        for name in extra:
            match = nearest(name, self._known, cutoff=_MISSPELLED)
            if match is not None:
                raise wrong(where, f"body.{name} is unknown; did you mean {match!r}?", name)
        if extra:
            own["extra_body"] = {**self._params.get("extra_body", {}), **extra}
        # A body that has one of the two names of a limit overrides the job's, whichever that has.
        limits = own.keys() & {"max_tokens", "max_completion_tokens"}
        if limits and self._params.keys() & {"max_tokens", "max_completion_tokens"}:
            own |= dict.fromkeys({"max_tokens", "max_completion_tokens"} - limits)
        return own


def _require_model(model: object, where: str) -> None:
    names = [model] if isinstance(model, str) else model
    if names is None:
        return
    if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) and each for each in names):
        got = "a list of other values" if isinstance(model, list | tuple) and model else kind_of(model)
        got = "an empty text" if model == "" else "an empty list" if model in ([], ()) else got
        raise wrong(where, f"body.model must be a model's name, or a list of these, got {got}", "model")


def _checked_id(custom_id: object, where: str) -> str:
    if custom_id is None:
        raise wrong(where, "custom_id is missing; each line needs one of its own", "custom_id")
    if not isinstance(custom_id, str):
        remedy = f'; write it in quotes: "{custom_id}"' if type(custom_id) is int else ""
        raise wrong(where, f"custom_id must be text, got {kind_of(custom_id)}{remedy}", "custom_id")
    if not custom_id:
        raise wrong(where, "custom_id is empty; each line needs one of its own", "custom_id")
    return custom_id


def _own_id(values: Mapping[str, Any], where: str) -> str | None:
    """The id that a column `custom_id` gives; None: there is none."""
    return None if values.get("custom_id") is None else _checked_id(values["custom_id"], where)


def _listed(messages: object, where: str) -> list[Any]:
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError):
            raise wrong(where, "messages is text that is not JSON; it must be a list of messages", "messages") from None
    if not isinstance(messages, list | tuple) or not messages:
        got = "an empty list" if isinstance(messages, list | tuple) else kind_of(messages)
        raise wrong(where, f"messages must be a list of messages, got {got}", "messages")
    return [_without_gaps(message) for message in messages]


def _without_gaps(message: object) -> object:
    """A message without the fields that are null: in a column of Parquet each message has the fields of all."""
    if not isinstance(message, Mapping):
        return message
    kept = {name: value for name, value in message.items() if value is not None}
    return {**kept, "content": None} if "content" in message and "content" not in kept else kept


def with_system(system: str | None, messages: list[Any], where: str) -> list[Any]:
    if system is None:
        return messages
    role = messages[0].get("role") if isinstance(messages[0], Mapping) else None
    if role in ("system", "developer"):
        raise wrong(
            where, f"the messages begin with a {role} message; leave out the job's system, or that message", "system"
        )
    return [{"role": "system", "content": system}, *messages]
