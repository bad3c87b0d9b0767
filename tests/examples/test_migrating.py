"""The guide for who comes from another package is right about errors: each row of its table, with both packages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import groq
import openai
import pytest
from pydantic import BaseModel

import llama_client
from llama_client import LlamaClient
from llama_client.testing.loopback import WireServer, as_json

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "migrating.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([\d, ]+) \| (.*) \|$", flags=re.MULTILINE)
ROWS = [
    (theirs, int(status), re.findall(r"`(\w+)`", ours))
    for theirs, statuses, ours in ROW.findall(GUIDE)
    for status in statuses.split(", ")
]
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def answer(finish_reason: str, text: str) -> Any:
    """A whole answer of an OpenAI-compatible server."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return as_json({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def test_the_table_is_there() -> None:
    assert len(ROWS) == 14


@pytest.mark.parametrize("package", ["groq", "openai"])
@pytest.mark.parametrize(("theirs", "status", "ours"), ROWS, ids=[str(status) for _, status, _ in ROWS])
def test_a_status_is_the_error_that_the_table_names(package: str, theirs: str, status: int, ours: list[str]) -> None:
    failure = as_json({"error": {"message": "No.", "type": "some_error"}}, status=status)
    official: Any = groq.Groq if package == "groq" else openai.OpenAI
    errors: Any = groq if package == "groq" else openai
    with WireServer(lambda _: failure) as server:
        with official(api_key="k", base_url=server.url, max_retries=0) as client:
            with pytest.raises(errors.APIStatusError) as before:
                client.chat.completions.create(model="m", messages=MESSAGES)
        config = {"providers": {package: {"api_key": "k", "base_url": server.url}}, "routing": {"retries": 0}}
        with LlamaClient(config) as new, pytest.raises(llama_client.ProviderError) as after:
            new.chat.completions.create(model=f"{package}/m", messages=MESSAGES)
    assert type(before.value).__name__ == theirs
    assert type(after.value).__name__ in ours
    assert after.value.http_status == before.value.status_code == status


def test_every_error_that_the_table_names_is_one() -> None:
    for name in {name for *_, ours in ROWS for name in ours}:
        assert issubclass(getattr(llama_client, name), llama_client.LlamaClientError)


class City(BaseModel):
    city: str


@pytest.mark.parametrize(
    ("reason", "text", "theirs"),
    [
        ("length", '{"city": "Tok', openai.LengthFinishReasonError),
        ("content_filter", '{"city": "Tok', openai.ContentFilterFinishReasonError),
    ],
)
def test_what_parse_raises_for_an_answer_that_was_cut(reason: str, text: str, theirs: type[Exception]) -> None:
    with WireServer(lambda _: answer(reason, text)) as server:
        with openai.OpenAI(api_key="k", base_url=server.url, max_retries=0) as client, pytest.raises(theirs):
            client.chat.completions.parse(model="m", messages=MESSAGES, response_format=City)
        with LlamaClient.for_provider("openai", api_key="k", base_url=server.url) as new:
            with pytest.raises(llama_client.GenerationFailedError):
                new.chat.completions.parse(model="m", messages=MESSAGES, response_format=City, timeout=0.5)


def test_a_whole_answer_is_parsed_although_a_filter_ended_it() -> None:
    with WireServer(lambda _: answer("content_filter", '{"city": "Tokyo"}')) as server:
        with LlamaClient.for_provider("openai", api_key="k", base_url=server.url) as new:
            [choice] = new.chat.completions.parse(model="m", messages=MESSAGES, response_format=City).choices
    assert (choice.message.parsed, choice.finish_reason) == (City(city="Tokyo"), "content_filter")


def test_ollamas_own_options_are_taken_as_the_table_says() -> None:
    line = {"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": True, "done_reason": "stop"}
    with WireServer(lambda _: as_json(line)) as server:
        options: Any = {"options": {"num_ctx": 8192}, "keep_alive": "10m"}
        with LlamaClient.for_provider("ollama", base_url=server.url, **options) as client:
            client.ask("hi", model="m")
        sent = [request.json for request in server.requests if request.path == "/api/chat"]
    assert sent[0]["options"]["num_ctx"] == 8192
    assert sent[0]["keep_alive"] == "10m"
