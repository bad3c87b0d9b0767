"""Files and batches as the three APIs describe them, and what their paths mean. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llama_client.testing.faults.batches.answering import Billed
from llama_client.testing.faults.batches.plays import BatchKind, BatchPlay, Mishap, Step
from llama_client.testing.loopback import Answer, as_json, whole

_DAY_S = 86_400


@dataclass(slots=True)
class File:
    id: str
    name: str
    purpose: str
    created_at: int
    content: bytes = b""
    is_whole: bool = True
    is_deleted: bool = False
    is_used: bool = False
    checksum: str = ""


@dataclass(slots=True)
class Batch:
    id: str
    file_id: str
    metadata: Any
    created_at: float
    play: BatchPlay
    requests: list[dict[str, Any]]
    problem: str | None
    status: str = "validating"
    is_cancelling: bool = False
    output_file_id: str | None = None
    error_file_id: str | None = None
    billed: Sequence[Billed] = field(default_factory=tuple)


def file_json(kind: BatchKind, file: File) -> dict[str, Any]:
    """A file as an API describes it."""
    told: dict[str, Any] = {
        "id": file.id, "object": "file", "bytes": len(file.content), "created_at": file.created_at,
        "filename": file.name, "purpose": file.purpose,
    }  # fmt: skip
    return told | ({"FileType": "jsonl"} if kind == "together" else {"status": "processed"})


def batch_json(kind: BatchKind, batch: Batch) -> dict[str, Any]:
    """A batch as an API describes it."""
    files = {"output_file_id": batch.output_file_id, "error_file_id": batch.error_file_id}
    if kind == "together":
        moment = datetime.fromtimestamp(batch.created_at, tz=UTC).isoformat()
        status = "IN_PROGRESS" if batch.status == "cancelling" else batch.status.upper()
        error = batch.problem if batch.status == "failed" else None
        return {
            "id": batch.id, "input_file_id": batch.file_id, "status": status, "created_at": moment,
            "endpoint": "/v1/chat/completions", "error": error, **files,
        }  # fmt: skip
    errors = {"object": "list", "data": [{"message": batch.problem, "code": "invalid_request"}]}
    return {
        "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": batch.file_id,
        "completion_window": "24h", "status": batch.status, "created_at": int(batch.created_at),
        "expires_at": int(batch.created_at) + _DAY_S, "metadata": batch.metadata,
        "errors": errors if batch.status == "failed" else None,
        "request_counts": {
            "total": len(batch.requests), "completed": len(batch.billed), "failed": 0,
        }, **files,
    }  # fmt: skip


def step_of(method: str, what: str, identity: str | None, action: str | None) -> Step | None:
    """What a request asks for; None: nothing that is here."""
    if what == "files":
        if method in ("POST", "PUT"):
            return "upload" if identity is None else "put" if action in ("preprocess", "put") else None
        if method == "GET":
            return "list_files" if identity is None else "download" if action == "content" else None
        return "delete" if method == "DELETE" and identity is not None else None
    if method == "POST":
        return "create" if identity is None else "cancel" if action == "cancel" else None
    return None if method != "GET" else "list_batches" if identity is None else "retrieve"


def spoilt(answer: Answer, mishap: Mishap | None) -> Answer:
    """An answer as it arrives where something goes wrong."""
    match mishap:
        case "lost":
            return Answer((), "reset")
        case "garbled":
            return whole(b"<html>a proxy says hello</html>", headers={"content-type": "application/json"})
        case "cut":
            content = answer.content
            return Answer([content[: len(content) - 5]], "close")
        case _:
            return answer


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return as_json(
        {"error": {"message": message, "type": "server_error", "code": str(status)}}, status=status, headers=headers
    )
