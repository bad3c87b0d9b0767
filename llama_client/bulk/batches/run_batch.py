"""Files for programs that answer batches without a server, such as vLLM's `run_batch`: written, and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.batches.collecting import Reading, Receiver
from llama_client.bulk.batches.kept_rows import row_line
from llama_client.bulk.batches.lines import request_line
from llama_client.bulk.batches.parts import Part
from llama_client.bulk.batches.requests import Requests
from llama_client.config.files import atomic_file
from llama_client.costs.spending import Spending
from llama_client.errors import JobError, LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.routing.targets import Target


def write_requests(
    context: CallContext,
    target: Target,
    rows: Iterable[Row],
    path: Path,
    refused: Callable[[Row, LlamaClientError], None],
) -> int:
    """Writes rows as a file that `vllm run_batch -i FILE -o ANSWERS --model MODEL` takes; the rows stand beside it.

    Args:
        context: The client's.
        target: The server whose form of requests it gets; nothing is sent to it.
        rows: The rows.
        path: The file; one that is there is replaced.
        refused: Gets each row that the target cannot take.

    Returns:
        How many requests it has.
    """
    requests, count = Requests(context, target), 0
    with atomic_file(_rows_beside(path)) as kept, atomic_file(path) as file:
        for row in rows:
            try:
                line = request_line(row.id, requests.body(requests.candidate(row)))
            except LlamaClientError as error:
                refused(row, error)
                continue
            file.write(line)
            kept.write(row_line(row))
            count += 1
    return count


def read_answers(
    context: CallContext,
    target: Target,
    path: Path,
    answers: Path,
    receiver: Receiver,
    *,
    tags: Mapping[str, str] | None = None,
) -> Part:
    """Reads what `run_batch` has answered, in whichever order; rows without a line are handed on as such.

    Args:
        context: The client's.
        target: As given to `write_requests`.
        path: The file of requests.
        answers: The file of answers.
        receiver: Takes what comes of each row.
        tags: Labels of the rows in the ledger, beside those of the client.

    Returns:
        How many rows were answered, failed and are left, and what it cost.

    Raises:
        JobError: A file is not there.
    """
    for wanted in (path, _rows_beside(path), answers):
        if not wanted.is_file():
            raise JobError(f"{wanted}: no such file; write_requests writes the first two, run_batch the answers")
    # The same in each reading, so that no row of the ledger is written twice.
    part = Part(path.name, target.name, 0, path.stat().st_size, created_at=path.stat().st_mtime)
    reading = Reading(
        Requests(context, target), Spending(context.accounting), {**context.tags, **(tags or {})}, receiver
    )
    reading.collect(part, _rows_beside(path), (answers,), "")
    return part


def _rows_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.rows")
