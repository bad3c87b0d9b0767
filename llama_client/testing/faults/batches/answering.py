"""The answers to the lines of a batch: what stands in its files, and what is charged for. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_client.testing.faults.batches.plays import BatchKind, BatchPlay
from llama_client.testing.wire_format import OpenAIFormat, as_bytes

_USUAL_TOKENS = 16
_PROBLEM_STATUS = 400


@dataclass(frozen=True, slots=True)
class Billed:
    """What is charged for one line.

    Attributes:
        custom_id: The id of its request.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
    """

    custom_id: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a batch that is over.

    Attributes:
        answers: The file of answers; None: there is none.
        errors: The file of errors; None: there is none.
        billed: What is charged for.
    """

    answers: bytes | None
    errors: bytes | None
    billed: Sequence[Billed]


def read_requests(content: bytes) -> list[dict[str, Any]]:
    """The requests in a file.

    Raises:
        ValueError: A line is no request; the text begins with its number.
    """
    requests = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("body"), dict) or "custom_id" not in request:
            raise ValueError(f"{number}: is not a request with custom_id and body")
        requests.append(request)
    ids = [request["custom_id"] for request in requests]
    if len({*ids}) < len(ids):
        raise ValueError(f"{len(ids)}: a custom_id is there twice")
    if len({request["body"].get("model") for request in requests}) > 1:
        raise ValueError(f"{len(ids)}: more than one model")
    return requests


def written(
    kind: BatchKind, requests: Sequence[Mapping[str, Any]], share: float, play: BatchPlay, ending: str
) -> Written:
    """What comes of the first share of some requests, in a batch that ended so."""
    count = round(len(requests) * share)
    answers, errors, billed = [], [], []
    for index, request in enumerate(requests[:count]):
        if int((index + 1) * play.failing) > int(index * play.failing):
            errors.append(_error_line(kind, request, {"message": "the prompt is too odd", "code": "invalid_prompt"}))
            continue
        body = _answer(request["body"])
        usage = body["usage"]
        billed.append(Billed(request["custom_id"], usage["prompt_tokens"], usage["completion_tokens"]))
        answers.append(_line(request["custom_id"], {"status_code": 200, "request_id": f"req_{index}", "body": body}))
    # Together says nothing of what it did not come to.
    if kind != "together":
        for request in requests[count:]:
            error = {"code": f"batch_{ending}", "message": "this request could not be executed in time"}
            errors.append(as_bytes({"id": "", "custom_id": request["custom_id"], "response": None, "error": error}))
    strange = [
        _line(f"strange-{index}", {"status_code": 200, "body": _answer({"messages": []})})
        for index in range(play.strange_ids)
    ]
    return Written(_file([*answers, *strange], play), _file(errors, play) if errors else None, billed)


def _answer(body: Mapping[str, Any]) -> dict[str, Any]:
    messages = body.get("messages") or [{"content": ""}]
    prompt = str(messages[-1].get("content"))
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or _USUAL_TOKENS
    usage = OpenAIFormat.usage(len(prompt) // 4 + 3, min(limit, len(prompt) % 7 + 1))
    form = OpenAIFormat(str(body.get("model")))
    return form.body([form.choice(0, {"role": "assistant", "content": f"re: {prompt}"}, "stop")], usage)


def _line(custom_id: str, response: Mapping[str, Any]) -> bytes:
    return as_bytes({"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None})


def _error_line(kind: BatchKind, request: Mapping[str, Any], error: Mapping[str, Any]) -> bytes:
    if kind == "together":
        return as_bytes({"custom_id": request["custom_id"], "error": error})
    return _line(
        request["custom_id"], {"status_code": _PROBLEM_STATUS, "request_id": "req_x", "body": {"error": error}}
    )


def _file(lines: Sequence[bytes], play: BatchPlay) -> bytes | None:
    if not lines:
        return None
    content = b"".join(each + b"\n" for each in _ordered(lines, play))
    return content[: -len(lines[-1]) // 2] if play.is_truncated else content


def _ordered(lines: Sequence[bytes], play: BatchPlay) -> Iterator[bytes]:
    for line in reversed(lines) if play.is_reordered else lines:
        yield line
        if play.is_duplicated:
            yield line
