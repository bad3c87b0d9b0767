"""Splits rows into files of requests within an API's limits, written as the rows come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llama_client.bulk.batches.kept_rows import row_line
from llama_client.bulk.batches.limits import BatchLimits
from llama_client.bulk.batches.lines import request_line
from llama_client.bulk.batches.parts import Part, PartsFile
from llama_client.bulk.batches.requests import Requests
from llama_client.costs.money import added
from llama_client.errors import LlamaClientError, RequestTooLargeError

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row


class _Draft:
    """The files of a part that is being written."""

    def __init__(self, file: PartsFile, part: Part) -> None:
        self.part = part
        self._paths = (file.requests_of(part), file.rows_of(part))
        with ExitStack() as stack:
            self._files: list[IO[bytes]] = [stack.enter_context(_draft_of(path).open("wb")) for path in self._paths]
            self._closing = stack.pop_all()

    def add(self, line: bytes, row: Row) -> None:
        requests, rows = self._files
        requests.write(line)
        rows.write(row_line(row))
        self.part.lines += 1
        self.part.size_bytes += len(line)

    def finish(self) -> None:
        """Both files are on disk under their names when this returns."""
        with self._closing:
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
        for path in self._paths:
            _draft_of(path).replace(path)

    def drop(self) -> None:
        self._closing.close()
        for path in self._paths:
            _draft_of(path).unlink(missing_ok=True)


def split(
    rows: Iterable[Row],
    requests: Requests,
    limits: BatchLimits,
    file: PartsFile,
    *,
    at: float,
    window_s: float,
    refused: Callable[[Row, LlamaClientError], None],
) -> Iterator[Part]:
    """Writes the parts, and adds each to `file` once it is whole.

    Args:
        rows: The rows, all for one target.
        requests: The target's.
        limits: Those of its API.
        file: What remembers the parts.
        window_s: The time that each is given.
        at: The moment whose prices count, in Unix time.
        refused: Gets each row that the target or its API cannot take.
    """
    draft: _Draft | None = None
    worst: Decimal | None = Decimal(0)
    try:
        for row in rows:
            try:
                candidate = requests.candidate(row)
                body = requests.body(candidate)
                _require_fits(len(body), limits)
            except LlamaClientError as error:
                refused(row, error)
                continue
            if draft is None:
                draft, worst = _begun(file, requests, window_s), Decimal(0)
            line = request_line(file.tag_of(draft.part) + row.id, body)
            if draft.part.lines >= limits.max_lines or draft.part.size_bytes + len(line) > limits.max_bytes:
                yield _finished(draft, file, worst)
                draft, worst = _begun(file, requests, window_s), Decimal(0)
                line = request_line(file.tag_of(draft.part) + row.id, body)
            draft.add(line, row)
            usd = requests.worst_usd(candidate, at)
            worst = None if worst is None or usd is None else added(worst, usd)
        if draft is not None:
            done, draft = draft, None
            yield _finished(done, file, worst)
    finally:
        if draft is not None:
            draft.drop()


# What a line has around its body, generously.
_AROUND_BYTES = 256


def _require_fits(size_bytes: int, limits: BatchLimits) -> None:
    if size_bytes + _AROUND_BYTES > limits.max_bytes:
        raise RequestTooLargeError(
            f"{limits.title} takes files of {limits.max_bytes // 1_000_000} MB, and it is longer"
        )


def _begun(file: PartsFile, requests: Requests, window_s: float) -> _Draft:
    return _Draft(file, Part(file.next_name(), requests.target.name, 0, 0, window_s=window_s))


def _finished(draft: _Draft, file: PartsFile, worst: Decimal | None) -> Part:
    draft.finish()
    draft.part.worst_usd = None if worst is None else str(worst)
    file.parts.append(draft.part)
    file.save()
    return draft.part


def _draft_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.draft")
