"""The lines of batch files: requests, answers and errors. The same at OpenAI, Groq, Together and vLLM's `run_batch`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_client.providers.wire.decoders import json_value

URL = "/v1/chat/completions"
# A longer line is no answer: that of a call is bounded by 256 MiB, which a line in memory several times must not be.
MAX_LINE_BYTES = 64 << 20
# What an API writes into the place of an answer for requests that it has not come to.
_UNDONE_CODES = frozenset(
    {"batch_expired", "batch_cancelled", "batch_canceled", "request_expired", "request_cancelled"}
)
_OK = 200


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """A line of an output or error file.

    Attributes:
        custom_id: The id of its request.
        status: The status that its answer would have had; None: there was no answer.
        body: The body of the answer, or the error.
        request_id: The provider's id of the request.
        is_undone: Whether the request was not worked on: the batch was over before.
    """

    custom_id: str
    status: int | None
    body: Mapping[str, Any]
    request_id: str | None = None
    is_undone: bool = False


def request_line(custom_id: str, body: bytes) -> bytes:
    """A request as a line. The body is JSON on one line, as codecs write it."""
    head = json.dumps({"custom_id": custom_id, "method": "POST", "url": URL})[:-1]
    return head.encode() + b', "body": ' + body + b"}\n"


def lines_of(path: Path) -> Iterator[bytes | None]:
    """The lines of a file that are not empty, read as they are asked for; None: one that is too long."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if line.endswith(b"\n") or len(line) < MAX_LINE_BYTES:
                if line.strip():
                    yield line
                continue
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None


def answer_line(line: bytes | None) -> AnswerLine | None:
    """A line, read; None: it is broken, as the last one of a file that was cut."""
    try:
        value = json_value(line, is_object=True) if line is not None else None
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is counted, and its row is asked elsewhere
        return None
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        return None
    response, error = value.get("response"), value.get("error")
    told = error if isinstance(error, dict) else {"message": error} if isinstance(error, str) and error else None
    status, body, request_id = None, None, value.get("id")
    if isinstance(response, dict):
        body, request_id = response.get("body"), response.get("request_id") or request_id
        code = response.get("status_code")
        status = code if isinstance(code, int) and not isinstance(code, bool) else _OK if told is None else None
    elif told is None:
        return None
    is_undone = told is not None and told.get("code") in _UNDONE_CODES
    if told is not None and not (isinstance(body, dict) and body):
        body = {"error": told}
        status = None if status == _OK else status
    if not isinstance(body, dict):
        return None
    known = request_id if isinstance(request_id, str) else None
    return AnswerLine(value["custom_id"], status, body, known, is_undone)
