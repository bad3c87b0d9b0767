"""`open_input`: rows from whatever a job is given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_client.bulk.inputs.answers import Answers
from llama_client.bulk.inputs.rows_input import RowsInput
from llama_client.bulk.inputs.shapes import BatchShape, MessagesShape, PromptShape, Shape, is_batch_line
from llama_client.bulk.inputs.sources import first_record, table_of
from llama_client.bulk.inputs.tables import Record, Table
from llama_client.bulk.inputs.templates import Template, columns_named
from llama_client.errors import InvalidRequestError
from llama_client.validation import nearest

_DEFAULT_COLUMNS = ("prompt", "text")
_NOT_IN_PARAMS = {
    "messages": "the input holds them",
    "stream": "a job takes whole answers",
    "stream_options": "a job takes whole answers",
}


def open_input(
    source: object,
    *,
    prompt: str | None = None,
    system: str | None = None,
    schema: object = None,
    params: Mapping[str, Any] | None = None,
    model: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> RowsInput:
    """Opens what a job's rows come from, and finds out what they ask.

    A file is known by its first bytes and its name: JSON lines (`.jsonl`, `.ndjson`), CSV (`.csv`, `.tsv`), Parquet.
    Text must be UTF-8; gzip, bzip2 and xz are unpacked while reading. In memory: a pandas DataFrame, a table of pyarrow
    or polars, or any iterable of dicts, texts (a column `text`) or lists of messages (a column `messages`).

    A row is a line of OpenAI's batch files (`custom_id`, `body`), or has a column `messages`, or its columns are put
    into `prompt`. Without `prompt`, its column `prompt` or `text` is the prompt.

    Args:
        source: A path, a table or an iterable.
        prompt: A template with columns in it: `"Classify: {text}"`; `{{` and `}}` are braces.
        system: The system message of each row.
        schema: What each answer must be: a Pydantic class, a JSON schema as a dict, or the path of one in a file.
        params: Parameters of `chat.completions.create` for each row; the `body` of a batch line goes before them.
        model: The model, for rows whose `body` names none.
        limit: How many rows to take, from the first.

    Returns:
        The rows.

    Raises:
        InvalidRequestError: The source or an argument cannot be used; the message says what to do.
        MissingExtraError: Parquet or Arrow without the extra `bulk`.

    Example:
        >>> from llama_client.bulk.inputs.opening import open_input
        >>> rows = open_input([{"text": "Late again"}], prompt="Sort: {text}").rows()
        >>> next(rows).params["messages"]
        [{'role': 'user', 'content': 'Sort: Late again'}]
    """
    _require_text("prompt", prompt)
    _require_text("system", system)
    _require_limit(limit)
    answers = Answers(schema)
    shared = _shared(params, model, answers)
    template = None if prompt is None else Template(prompt)
    table = table_of(source)
    first = first_record(table)
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    return RowsInput(table, _shape(table, first, template, system, shared, prompt), answers, first, limit, path)


def _require_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"{name}: must be text, got a value of type {type(value).__name__}", param=name)


def _require_limit(limit: object) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InvalidRequestError(f"limit: must be a whole number from 1, got {limit!r:.60}", param="limit")


def _shared(params: Mapping[str, Any] | None, model: object, answers: Answers) -> dict[str, Any]:
    if params is not None and not isinstance(params, Mapping):
        raise InvalidRequestError("params: must be a mapping of names to values", param="params")
    shared = {name: value for name, value in (params or {}).items() if value is not None}
    for name, why in _NOT_IN_PARAMS.items():
        if name in shared:
            raise InvalidRequestError(f"params: {name} must not be there; {why}", param="params")
    if model is not None:
        if "model" in shared:
            raise InvalidRequestError("params: model is given twice; give only the argument", param="params")
        shared["model"] = model
    if answers.form is not None:
        if "response_format" in shared:
            raise InvalidRequestError("params: response_format and schema exclude each other", param="params")
        shared["response_format"] = answers.form.response_format
    return shared


def _shape(
    table: Table, first: Record, template: Template | None, system: str | None, shared: dict[str, Any], prompt: object
) -> Shape:
    values = first.values
    if is_batch_line(values):
        if template is not None:
            raise InvalidRequestError("prompt: the input holds whole requests (body); leave out prompt", param="prompt")
        from llama_client.types.request import CreateParams

        return BatchShape(system, shared, CreateParams.__annotations__.keys())
    place = table.name if table.columns is not None else f"{table.name}, {table.unit} {first.number}"
    if template is not None:
        if not template.names:
            near = nearest(str(prompt), values)
            hint = f"; did you mean '{{{near}}}'?" if near else columns_named(values)
            raise InvalidRequestError(
                f"prompt: it names no column, so each row would ask the same{hint}", param="prompt"
            )
        template.require(values, place)
        return PromptShape(template, system, shared)
    candidates = [name for name in ("messages", *_DEFAULT_COLUMNS) if name in values]
    if len(candidates) > 1:
        names = " and ".join(map(repr, candidates))
        raise InvalidRequestError(
            f"prompt: {place} has columns {names}; say which is meant, such as prompt='{{{candidates[-1]}}}'",
            param="prompt",
        )
    if candidates == ["messages"]:
        return MessagesShape(system, shared)
    if not candidates:
        example = next(iter(values), "column")
        raise InvalidRequestError(
            f"prompt: {place} has no column 'prompt', 'text' or 'messages'; say what to ask, such as "
            f"prompt='{{{example}}}'{columns_named(values)}",
            param="prompt",
        )
    return PromptShape(Template(f"{{{candidates[0]}}}"), system, shared)
