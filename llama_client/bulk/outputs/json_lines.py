"""Results as JSON lines: the input's columns and the answer, or OpenAI's batch output for batch-shaped input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.bulk.outputs.records import encoded, records, to_json
from llama_client.bulk.outputs.whole_files import whole_file
from llama_client.errors import ProviderError

if TYPE_CHECKING:
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult
    from llama_client.errors import LlamaClientError


class JsonLinesWriter:
    """Writes JSON lines."""

    def __init__(self, rows: RowsInput, *, replace: bool) -> None:
        self._rows = rows
        self._replace = replace

    def write(self, path: Path, results: Iterator[BulkResult], *, claim: Callable[[], object] | None = None) -> None:
        lines = map(batch_line, results) if self._rows.is_batch else self._table_lines(results)
        with whole_file(path, replace=self._replace, claim=claim) as file:
            for line in lines:
                file.write(encoded(to_json(line) + "\n"))

    def _table_lines(self, results: Iterator[BulkResult]) -> Iterator[dict[str, Any]]:
        fields = self._rows.answers.fields(self._rows.columns)
        for columns, added in records(results, self._rows.answers, with_ids=False):
            yield {**columns, **{field.name: value for field, value in zip(fields, added, strict=True)}}


def batch_line(result: BulkResult) -> dict[str, Any]:
    """A line of OpenAI's batch output."""
    row, completion = result.row, result.completion
    line: dict[str, Any] = {"id": f"batch_req_{row.id}", "custom_id": row.custom_id, "response": None, "error": None}
    if completion is not None:
        line["response"] = _response(200, completion.request_id, completion.to_openai())
    elif result.error is not None:
        _put_error(line, result.error)
    return line


def _response(status: int, request_id: str | None, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": request_id or "", "body": body}


def _put_error(line: dict[str, Any], error: LlamaClientError) -> None:
    code = type(error).__name__
    if isinstance(error, ProviderError) and error.http_status is not None:
        told = {"message": str(error), "type": code, "param": None, "code": error.provider_code}
        line["response"] = _response(error.http_status, error.request_id, {"error": told})
    else:
        line["error"] = {"code": code, "message": str(error)}
