"""What the workers of a job and its driver tell each other, and how outcomes look on the way."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llama_client import errors
from llama_client.bulk.job.lines import line_of, result_of
from llama_client.bulk.results import BulkResult
from llama_client.errors import JobError, LlamaClientError
from llama_client.types.completion import Attempt

if TYPE_CHECKING:
    from decimal import Decimal

    from llama_client.bulk.outages import Waiting
    from llama_client.bulk.pending import Done, Outcome, PendingRow
    from llama_client.bulk.rows import Row

Kind = Literal["open", "read", "began", "record", "beat", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class SentOutcome:
    """What came of a row, as the journal writes it: pickles may be of classes that only one process has.

    Attributes:
        position: The row's.
        line: The outcome.
        attempts: Those of its failed tries, as JSON.
    """

    position: int
    line: bytes
    attempts: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """From a worker.

    Attributes:
        session: One run of one shard's code: a shard that Ray starts again has another one.
        kind: `open`: a shard begins; `read`: it wants rows; `began`: rows are about to be asked; `record`: rows are
            done; `beat`: it is alive; `failed`: the job cannot go on; `closed`: the shard has ended.
        shard: Its number; of `open`.
        most: How many rows it wants; of `read`.
        positions: Of `began`.
        withdrawn: Rows whose call has failed, and that will be tried again, with the cost of all tries so far.
        outcomes: Of `record`.
        error: Of `failed`.
        waiting: The target without a connection that it waits for; of `beat`.
    """

    session: str
    kind: Kind
    shard: int = 0
    most: int = 0
    positions: Sequence[int] = ()
    withdrawn: Sequence[tuple[int, Decimal | None]] = ()
    outcomes: Sequence[SentOutcome] = ()
    error: bytes = b""
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """To a worker.

    Attributes:
        rows: To be asked.
        has_more: Whether others may follow soon.
        is_stopped: No further call may begin; those in flight may end.
        is_refused: The calls that were about to begin may not: there is no money for them. The shard ends.
        is_over: The shard ends now.
        is_unknown: The driver has given the session up; the shard begins a new one.
    """

    rows: Sequence[Row] = ()
    has_more: bool = True
    is_stopped: bool = False
    is_refused: bool = False
    is_over: bool = False
    is_unknown: bool = False


def lent_rows(lent: Iterable[PendingRow]) -> list[Row]:
    """Rows as a worker needs them: what the input says beside a request stays with the driver."""
    return [replace(each.row, columns={}) for each in lent]


def packed(done: Done) -> SentOutcome:
    pending, outcome = done
    is_error = isinstance(outcome, LlamaClientError)
    # The row itself is the driver's; of this one only the id is in the line.
    result = BulkResult(pending.row, None, outcome) if is_error else BulkResult(pending.row, outcome)  # type: ignore[arg-type]
    attempts = [each.model_dump(mode="json", exclude_none=True) for each in pending.attempts]
    return SentOutcome(pending.row.position, line_of(result, with_columns=False), json.dumps(attempts).encode())


def unpacked(sent: SentOutcome, row: Row) -> tuple[Outcome, list[Attempt]]:
    """The outcome, and the attempts before it."""
    result = result_of(sent.line, row)
    outcome = result.completion if result.completion is not None else result.error
    assert outcome is not None
    return outcome, [Attempt.model_validate(each) for each in json.loads(sent.attempts)]


def packed_error(error: BaseException) -> bytes:
    """What ends a job. Of errors that are not this package's only the type is told: their texts may hold prompts."""
    if isinstance(error, LlamaClientError):
        told = error
        if getattr(errors, type(error).__name__, None) is not type(error):
            told = JobError(f"{type(error).__name__}: {error}")
    else:
        told = JobError(f"a worker failed with {type(error).__name__}; its log has the place")
    return pickle.dumps(told)


def unpacked_error(content: bytes) -> LlamaClientError:
    error = pickle.loads(content)  # noqa: S301 - from a worker of this job, as everything that Ray hands over
    return error if isinstance(error, LlamaClientError) else JobError("a worker failed; its log has the place")
