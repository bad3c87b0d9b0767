"""The parts of a job that were given to a batch API, and the file that remembers them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from llama_client.config.files import atomic_file
from llama_client.errors import JobError

_NAME = "batches.json"
_VERSION = 1
_ID_CHARS = 12
_PREFIX = "llama-client"


class State(StrEnum):
    """What is done of a part. One in `-ING` was about to do the step: whether it did must be found out."""

    WRITTEN = "written"
    RESERVING = "reserving"
    RESERVED = "reserved"
    UPLOADING = "uploading"
    UPLOADED = "uploaded"
    CREATING = "creating"
    CREATED = "created"
    ENDED = "ended"
    COLLECTED = "collected"
    DONE = "done"


@dataclass(slots=True)
class Part:
    """A file of requests for one target, and what has become of it.

    Attributes:
        name: Of its file, here and there, and of its batch; it carries the job's id.
        target: `provider/model`.
        lines: How many requests it has.
        size_bytes: The size of its file.
        worst_usd: The most that it can cost; None: unknown.
        state: What is done.
        window_s: The time that the API was given for it.
        hold: The money that is set aside for it, as `costs.spending` keeps it; None: none is.
        held_at: The Unix time of that, whose windows of budgets it counts in.
        file_id: The uploaded file.
        batch_id: The batch.
        status: How the batch ended.
        created_at: Unix time of its creation.
        is_doubtful: Whether there may be a second batch of it, since the answer to a creation was lost.
        output_file_id: The file of its answers.
        error_file_id: The file of its errors.
        is_cancelled: Whether it was asked to stop.
        progress: How many requests its API has answered when it last told; None: it did not.
        why: Why rows of it have no answer; None: all have, or it is not over.
        answered: How many rows have an answer.
        failed: How many have an error of their own.
        unanswered: How many have neither, and may be asked elsewhere.
        stray: How many lines of its files were of no row of it, a second one of a row, or broken.
        usd: What it cost; None: not known.
        undeleted: Files that are still there.
        others: Second batches of it, which were cancelled, and whose files are still there.
    """

    name: str
    target: str
    lines: int
    size_bytes: int
    worst_usd: str | None = None
    state: State = State.WRITTEN
    window_s: float = 0.0
    hold: dict[str, Any] | None = None
    held_at: float = 0.0
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    created_at: float | None = None
    is_doubtful: bool = False
    output_file_id: str | None = None
    error_file_id: str | None = None
    is_cancelled: bool = False
    progress: int | None = None
    why: str | None = None
    answered: int = 0
    failed: int = 0
    unanswered: int = 0
    stray: int = 0
    usd: str | None = None
    undeleted: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether its rows may still be answered by it."""
        return self.state not in (State.COLLECTED, State.DONE)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.state is State.DONE and not (self.undeleted or self.others)


class PartsFile:
    """`batches.json` of a job's folder: replaced as a whole with each change, so that it is always readable.

    Args:
        folder: The job's folder.

    Raises:
        JobError: The file is there, and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[Part] = []
        self._path = folder / _NAME
        self.job_id = uuid.uuid4().hex[:_ID_CHARS]
        if self._path.exists():
            self._load()

    def save(self) -> None:
        """Writes it; it is on disk when this returns."""
        document = {"version": _VERSION, "job": self.job_id, "parts": [asdict(part) for part in self.parts]}
        with atomic_file(self._path) as file:
            file.write(json.dumps(document, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())

    def next_name(self) -> str:
        """The name of the next part."""
        return f"{_PREFIX}-{self.job_id}-{len(self.parts) + 1:04d}"

    def requests_of(self, part: Part) -> Path:
        """The file that is uploaded: its name there is that of the part."""
        return self.folder / f"{part.name}.jsonl"

    def tag_of(self, part: Part) -> str:
        """What stands before the rows' ids in a part's file, which makes the file one of its kind: Together takes two
        equal ones for the same."""
        return f"{part.name.removeprefix(f'{_PREFIX}-')}."

    def rows_of(self, part: Part) -> Path:
        """The rows of the part, a line each."""
        return self.folder / f"{part.name}.rows"

    def answers_of(self, part: Part) -> Path:
        return self.folder / f"{part.name}.answers"

    def errors_of(self, part: Part) -> Path:
        return self.folder / f"{part.name}.errors"

    def forget(self, part: Part) -> None:
        """Removes the files of a part that is over."""
        for path in (self.requests_of(part), self.rows_of(part), self.answers_of(part), self.errors_of(part)):
            path.unlink(missing_ok=True)

    def open_parts(self) -> Iterator[Part]:
        return (part for part in self.parts if part.is_open)

    def _load(self) -> None:
        remedy = "if the job is to begin anew, delete its folder, and look for its batches at the provider"
        try:
            document = json.loads(self._path.read_bytes())
            if document["version"] != _VERSION:
                message = f"{self._path}: was written by another version of this package; resume the job with that one"
                raise JobError(message, folder=self.folder)
            self.job_id = document["job"]
            self.parts = [Part(**{**part, "state": State(part["state"])}) for part in document["parts"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            message = f"{self._path}: cannot be read ({type(error).__name__}); {remedy}"
            raise JobError(message, folder=self.folder) from error
