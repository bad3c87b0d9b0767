"""What a batch API is to the rest: eight verbs, and a batch as all of them describe it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from llama_client.bulk.batches.limits import BatchLimits

BatchStatus = Literal["running", "completed", "failed", "expired", "cancelled"]
"""`running` is every state that is not an end: validating, in progress, finalizing, cancelling."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that was uploaded, maybe not to its end.

    Attributes:
        id: The API's id.
        size_bytes: Its size; None: not told.
    """

    id: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch, as its API tells of it.

    Attributes:
        id: The API's id.
        status: How far it is.
        file_id: The file of its requests.
        created_at: Unix time in seconds; None: not told.
        output_file_id: The file of its answers; None: there is none, or not yet.
        error_file_id: The file of its errors.
        answered: How many requests are answered, as it counts them; None: not told.
        problems: Why it failed, in its words.
    """

    id: str
    status: BatchStatus
    file_id: str
    created_at: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    answered: int | None = None
    problems: tuple[str, ...] = ()


class BatchApi(Protocol):
    """A batch API. Each verb is one exchange, or a few; none is tried again here. All raise `LlamaClientError`s."""

    @property
    def limits(self) -> BatchLimits: ...

    def upload(self, path: Path) -> str:
        """Uploads a file under its own name, read as it is sent; returns its id."""

    def files_named(self, name: str) -> Sequence[RemoteFile] | None:
        """The files with a name; None: the API lists none."""

    def create(self, file_id: str, name: str, window_s: float) -> RemoteBatch:
        """Starts a batch under a name of ours."""

    def batches_named(self, name: str, file_id: str) -> Sequence[RemoteBatch] | None:
        """The batches with a name, or of a file; None: the API lists none."""

    def retrieve(self, batch_id: str) -> RemoteBatch: ...

    def cancel(self, batch_id: str) -> None: ...

    def download(self, file_id: str, to: Path) -> None:
        """Writes a file, as it comes."""

    def delete(self, file_id: str) -> None:
        """Deletes a file; one that is gone already is no error."""
