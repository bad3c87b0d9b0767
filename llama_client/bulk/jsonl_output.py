"""All results as lines of JSON, in the order of the input."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult


class JsonLinesOutput:
    def write(self, path: Path, results: Iterator[BulkResult]) -> None:
        """Writes a new file beside it, which then takes its place."""
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                for result in results:
                    file.write(json.dumps(_line(result), ensure_ascii=False, default=str) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _line(result: BulkResult) -> dict[str, Any]:
    row, error = result.row, result.error
    line: dict[str, Any] = dict(row.columns)
    if row.custom_id is not None:
        line["custom_id"] = row.custom_id
    line["answer"] = result.text
    line["error"] = None if error is None else f"{type(error).__name__}: {error}"
    return line
