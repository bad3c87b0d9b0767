"""The guide for who comes from another package is right about errors: each row of its table, with both packages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import groq
import openai
import pytest

import llama_client
from llama_client import LlamaClient
from tests.wire.server import ReplayServer, as_json

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "migrating.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| (.*) \|$", flags=re.MULTILINE)
ROWS = [(theirs, int(status), re.findall(r"`(\w+)`", ours)) for theirs, status, ours in ROW.findall(GUIDE)]
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def test_the_table_is_there() -> None:
    assert len(ROWS) == 8


@pytest.mark.parametrize("package", ["groq", "openai"])
@pytest.mark.parametrize(("theirs", "status", "ours"), ROWS, ids=[str(status) for _, status, _ in ROWS])
def test_a_status_is_the_error_that_the_table_names(package: str, theirs: str, status: int, ours: list[str]) -> None:
    failure = as_json({"error": {"message": "No.", "type": "some_error"}}, status=status)
    official: Any = groq.Groq if package == "groq" else openai.OpenAI
    errors: Any = groq if package == "groq" else openai
    with ReplayServer(lambda _: failure) as server:
        with official(api_key="k", base_url=server.url, max_retries=0) as client:
            with pytest.raises(errors.APIStatusError) as before:
                client.chat.completions.create(model="m", messages=MESSAGES)
        with LlamaClient.for_provider(package, api_key="k", base_url=server.url) as new:
            with pytest.raises(llama_client.ProviderError) as after:
                new.chat.completions.create(model="m", messages=MESSAGES, timeout=0.5)
    assert type(before.value).__name__ == theirs
    assert type(after.value).__name__ in ours
    assert after.value.http_status == before.value.status_code == status


def test_every_error_that_the_table_names_is_one() -> None:
    for name in {name for *_, ours in ROWS for name in ours}:
        assert issubclass(getattr(llama_client, name), llama_client.LlamaClientError)
