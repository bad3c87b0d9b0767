"""Rows as they are answered, without a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_client.bulk.inputs.rows_input import RowsInput
from llama_client.bulk.outputs.writers import writer_of
from llama_client.bulk.results import BulkResult
from llama_client.bulk.rows import Row
from llama_client.errors import LlamaClientError
from llama_client.types.completion import ChatCompletion, Choice, Message

Reply = str | LlamaClientError


def completion(text: str | None) -> ChatCompletion:
    return ChatCompletion(
        id="chatcmpl-1",
        created=1_700_000_000,
        model="tiny",
        target="cloud/tiny",
        provider="cloud",
        request_id="req-1",
        choices=[Choice(index=0, message=Message(content=text), finish_reason="stop")],
    )


def result(row: Row, reply: Reply, usd: Decimal | None = None) -> BulkResult:
    if isinstance(reply, LlamaClientError):
        return BulkResult(row, None, reply, usd=usd)
    return BulkResult(row, completion(reply), usd=usd)


def written(
    rows: RowsInput, path: Path, reply: Callable[[Row], Reply] | Iterable[Reply], usd: Decimal | None = None
) -> Path:
    """The output of an input, each row of which got its reply."""
    replies: Any = map(reply, rows.rows()) if callable(reply) else iter(reply)
    if callable(reply):
        results = (result(row, reply(row), usd) for row in rows.rows())
    else:
        results = (result(row, each, usd) for row, each in zip(rows.rows(), replies, strict=True))
    writer_of(path, rows).write(path, results)
    return path
