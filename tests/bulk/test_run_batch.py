"""Files for vLLM's `run_batch`, written and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_client import LlamaClient
from llama_client.bulk.batches.run_batch import read_answers, write_requests
from llama_client.errors import JobError
from llama_client.testing import ledger_rows
from tests.bulk.batching import Kept, rows

TABLE = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
CONFIG: dict[str, Any] = {"providers": {"v": TABLE}, "ledger": {"enabled": True, "url": "memory"}}


@pytest.fixture(autouse=True)
def ledger_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")


def answered(request: dict[str, Any]) -> dict[str, Any]:
    """As vLLM 0.11 writes it."""
    message = {"role": "assistant", "content": f"re: {request['body']['messages'][0]['content']}"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    response = {"status_code": 200, "request_id": "vllm-batch-1", "body": body}
    return {"id": "vllm-1", "custom_id": request["custom_id"], "response": response, "error": None}


def test_requests_are_written_and_answers_read_in_any_order(tmp_path: Path) -> None:
    path, answers, kept = tmp_path / "in.jsonl", tmp_path / "out.jsonl", Kept()
    with LlamaClient(CONFIG) as client:
        [choice] = client._context.resolver.choices("v/m")
        target = choice.targets[0]
        some = [*rows(3), *rows(1, start=3, temperature=9)]
        assert write_requests(client._context, target, some, path, kept.refuse) == 3
        requests = [json.loads(line) for line in path.read_text().splitlines()]
        assert requests[0] == {
            "custom_id": some[0].id,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "user", "content": "ticket 0"}], "max_tokens": 8},
        }
        answers.write_text("".join(json.dumps(answered(each)) + "\n" for each in reversed(requests[:2])))
        for _ in range(2):
            part = read_answers(client._context, target, path, answers, kept, tags={"job": "night"})
        assert (part.answered, part.failed, part.unanswered) == (2, 0, 1)
        assert [row.tags for row in ledger_rows(client)] == [{"job": "night"}] * 2
    assert kept.texts == {0: "re: ticket 0", 1: "re: ticket 1"}
    assert ({*kept.left}, {*kept.refused}) == ({2}, {3})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with LlamaClient(CONFIG) as client:
        [choice] = client._context.resolver.choices("v/m")
        with pytest.raises(JobError, match=r"in\.jsonl: no such file"):
            read_answers(client._context, choice.targets[0], tmp_path / "in.jsonl", tmp_path / "out", Kept())
