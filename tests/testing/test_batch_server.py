"""The server that plays batch APIs, asked by the official clients themselves."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import groq
import httpx
import openai
import pytest

from llama_client.testing import FakeClock
from llama_client.testing.faults.batches import BatchPlay, BatchServer


def requests(count: int, **body: Any) -> bytes:
    lines = [
        {"custom_id": f"job.{index}", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", **body}}
        for index in range(count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.mark.parametrize("kind", ["openai", "groq"])
def test_official_clients_run_a_batch(kind: Any) -> None:
    clock = FakeClock()
    with BatchServer(kind, clock=clock) as server:
        server.batches(BatchPlay(ending="expired", takes_s=60, answered=0.5))
        package: Any = {"openai": openai.OpenAI, "groq": groq.Groq}[kind]
        with package(api_key="none", base_url=server.url_for(kind)) as client:
            file = client.files.create(file=("in.jsonl", io.BytesIO(requests(4))), purpose="batch")
            metadata = {"job": "night"}
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata=metadata
            )
            assert (batch.status, batch.metadata) == ("validating", metadata)
            assert client.batches.retrieve(batch.id).status == "in_progress"
            clock.turn(60)
            ended = client.batches.retrieve(batch.id)
            assert (ended.status, ended.request_counts.completed) == ("expired", 2)
            answers = client.files.content(ended.output_file_id).read().splitlines()
            errors = client.files.content(ended.error_file_id).read().splitlines()
            assert [json.loads(line)["custom_id"] for line in answers] == ["job.0", "job.1"]
            assert [json.loads(line)["error"]["code"] for line in errors] == ["batch_expired"] * 2
            assert client.files.delete(file.id).deleted
        report = server.batch_report()
    assert (report.uploaded, report.created, report.deleted, len(report.left_files)) == (1, 1, 1, 2)
    assert report.billed == {"0": 1, "1": 1}


def test_long_lists_come_in_pages_at_openai() -> None:
    with BatchServer("openai") as server, openai.OpenAI(api_key="none", base_url=server.url_for("openai")) as client:
        for index in range(5):
            client.files.create(file=(f"{index}.jsonl", io.BytesIO(b"{}")), purpose="batch")
        assert [file.filename for file in client.files.list(limit=2)] == [
            f"{index}.jsonl" for index in reversed(range(5))
        ]
        assert server.batch_report().asked["list_files"] == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"no json\n", "1: is not a request", id="no-json"),
        pytest.param(requests(1) * 2, "a custom_id is there twice", id="twice"),
        pytest.param(requests(1) + requests(2, model="n")[-130:], "", id="two-models"),
    ],
)
def test_a_file_that_is_none_fails_its_batch(content: bytes, problem: str) -> None:
    with BatchServer("openai") as server, openai.OpenAI(api_key="none", base_url=server.url_for("openai")) as client:
        file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        ended = client.batches.retrieve(batch.id)
    assert ended.status == "failed"
    assert ended.errors is not None
    assert ended.errors.data is not None
    assert problem in str(ended.errors.data[0].message)


def test_it_also_answers_chats_and_reports_them() -> None:
    with BatchServer("groq") as server:
        server.next("500")
        url = f"{server.url}/openai/v1/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        assert [httpx.post(url, json=body).status_code for _ in range(2)] == [500, 200]
        assert server.report().chats == {"groq": 2}


def test_what_it_cannot_play_is_refused() -> None:
    with pytest.raises(ValueError, match="kind: must be one of groq, together, openai, got 'ollama'"):
        BatchServer("ollama")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answered, failing: must be shares"):
        BatchPlay(answered=2)
    with BatchServer("openai") as server:
        with pytest.raises(ValueError, match=r"mishap: must be one of 500, .*, got '503'"):
            server.fails("create", "503")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="step: must be one of upload"):
            server.fails("look", "500")  # type: ignore[arg-type]


def test_it_is_there_for_programs_in_any_language() -> None:
    arguments = ["--commands", "--batches", "groq", "--batch-takes", "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_client.testing.faults", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    urls = json.loads(process.stdout.readline())["urls"]
    with groq.Groq(api_key="none", base_url=urls["groq"]) as client:
        file = client.files.create(file=("in.jsonl", io.BytesIO(requests(1))), purpose="batch")
        assert file.id is not None
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert client.batches.retrieve(batch.id).status == "in_progress"
    process.communicate(timeout=60)
    assert (process.returncode, urls.keys()) == (0, {"groq"})
