"""A result as a line of the journal, and back."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client import errors
from llama_client.bulk.results import BulkResult
from llama_client.bulk.rows import Row
from llama_client.errors import LlamaClientError, ProviderError
from llama_client.types.completion import Attempt, ChatCompletion

if TYPE_CHECKING:
    from collections.abc import Mapping

# A line begins with the id, so that the index can be made without reading the rest.
_BEGINNING = re.compile(rb'\{"id":"(\d{1,15})-([0-9a-f]{16})"')


def line_of(result: BulkResult, *, with_columns: bool) -> bytes:
    """One line of JSON, with its end."""
    row = result.row
    fields: dict[str, Any] = {"id": row.id, "custom_id": row.custom_id, "where": row.where}
    if with_columns and row.columns:
        fields["columns"] = dict(row.columns)
    fields |= {"venue": result.venue, "usd": None if result.usd is None else str(result.usd)}
    if result.completion is not None:
        # What was parsed is parsed again; it may be of any class.
        without = {"choices": {"__all__": {"message": {"parsed"}}}}
        fields["completion"] = result.completion.model_dump(mode="json", exclude_none=True, exclude=without)
    elif result.error is not None:
        fields["error"] = _error_fields(result.error)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace") + b"\n"


def identity_of(line: bytes) -> tuple[int, bytes] | None:
    """The position and digest of a whole line; None: it is not one."""
    found = _BEGINNING.match(line)
    if found is None or not line.endswith(b"}\n"):
        return None
    return int(found[1]), bytes.fromhex(found[2].decode())


def result_of(line: bytes, row: Row | None = None) -> BulkResult:
    """The result of a line. Without its row from the input, the row has no params."""
    fields = json.loads(line)
    if row is None:
        position, _, digest = fields["id"].partition("-")
        row = Row(int(position), {}, fields.get("custom_id"), fields.get("columns") or {}, fields.get("where") or "")
        # The params that it was made of are not known here.
        row.__dict__["digest"] = bytes.fromhex(digest)
    completion, error = fields.get("completion"), fields.get("error")
    usd = fields.get("usd")
    return BulkResult(
        row,
        None if completion is None else ChatCompletion.model_validate(completion),
        None if error is None else _error_of(error),
        fields.get("venue", "now"),
        None if usd is None else Decimal(usd),
        is_earlier=True,
    )


_KEPT = ("provider", "target", "http_status", "provider_code", "request_id", "retryable", "retry_after_s", "param")


def _error_fields(error: LlamaClientError) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    fields |= {name: value for name in _KEPT if (value := getattr(error, name, None)) is not None}
    fields["attempts"] = [each.model_dump(mode="json", exclude_none=True) for each in error.attempts]
    return fields


def _error_of(fields: Mapping[str, Any]) -> LlamaClientError:
    """The error again, as far as a line holds it."""
    named = getattr(errors, str(fields.get("type")), None)
    # One of a third-party provider's own is not known here.
    kind = named if isinstance(named, type) and issubclass(named, LlamaClientError) else ProviderError
    made = kind(fields.get("message", ""))
    for name in _KEPT:
        if name in fields and hasattr(made, name):
            setattr(made, name, fields[name])
    made.attempts = [Attempt.model_validate(each) for each in fields.get("attempts", ())]
    return made
