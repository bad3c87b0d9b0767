"""Prompts that were read once: for all choices of an answer, and for conversations that share slots."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatCompletion, LlamaClient
from tests.asking import Asker
from tests.lengths import two_modes
from tests.providers.gguf.conftest import TEMPLATES, ModelFile

SHELVES = " ".join(f"Books of shelf {number} may be lent for {number % 7 + 1} weeks." for number in range(20))
TOOL = {"type": "function", "function": {"name": "lend", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A model of one block in providers with one and two slots, with and without a cache."""
    folder = tmp_path_factory.mktemp("cache")
    file = ModelFile(tiny_model)
    plain, calling = (str(file.write(folder / f"{name}.gguf", TEMPLATES[name])) for name in ("any", "single"))
    options = {"kind": "gguf", "model_path": plain, "n_ctx": 1024, "n_threads": 1}
    providers = {
        "bare": options,
        "cached": {**options, "prompt_cache_mib": 16},
        "narrow": {**options, "prompt_cache_mib": 1},
        "two": {**options, "n_parallel": 2},
        "three": {**options, "n_parallel": 3},
        "wide": {**options, "n_ctx": 8192},
        "tools": {**options, "n_parallel": 2, "model_path": calling},
    }
    yield {"providers": providers, "ledger": {"enabled": False}, "routing": {"retries": 0}}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client(models: dict[str, Any]) -> Iterator[LlamaClient]:
    with LlamaClient(models) as client:
        yield client


def asked(client: LlamaClient, provider: str, place: str, question: str) -> ChatCompletion:
    """In the conversation of one place, whose system message has some 300 tokens that no other's begins with."""
    system = f"{place} is where you work. {SHELVES}"
    return client.ask(question, model=f"{provider}/default", system=system, temperature=0, max_tokens=4)


def read(reply: ChatCompletion) -> int:
    """The tokens of the prompt that were computed, as the usage tells it."""
    usage = reply.usage
    assert usage.prompt_tokens is not None
    assert usage.cached_tokens is not None
    return usage.prompt_tokens - usage.cached_tokens


def computed(reply: ChatCompletion) -> list[int]:
    """The same as llama.cpp's own timings tell it, for each group of choices."""
    return [chunk["timings"]["prompt_n"] for chunk in reply.raw["chunks"] if "timings" in chunk]


def test_conversations_that_take_turns_in_a_slot_are_each_read_once(client: LlamaClient) -> None:
    order = ["Rome", "Oslo", "Kyiv", "Rome", "Oslo", "Kyiv", "Rome"]
    without = [asked(client, "bare", place, f"Shelf {number}?") for number, place in enumerate(order)]
    within = [asked(client, "cached", place, f"Shelf {number}?") for number, place in enumerate(order)]
    assert [reply.text for reply in within] == [reply.text for reply in without]
    assert [read(reply) > 200 for reply in without] == [True] * 7
    assert [read(reply) > 200 for reply in within] == [True] * 3 + [False] * 4
    assert [computed(reply) for reply in within] == [[read(reply)] for reply in within]


def test_what_does_not_fit_into_the_cache_is_read_again(client: LlamaClient) -> None:
    places = ["Rome", "Oslo", "Kyiv", "Lima", "Bern", "Baku", "Doha", "Riga"]
    for place in places:
        asked(client, "narrow", place, "Shelf 1?")
    assert read(asked(client, "narrow", places[-2], "Shelf 2?")) < 50
    assert read(asked(client, "narrow", places[0], "Shelf 2?")) > 200


def test_a_system_message_is_read_once_by_a_slot_for_all_conversations_with_it(client: LlamaClient) -> None:
    replies = [asked(client, "two", "Oslo", f"Shelf {number}?") for number in range(3)]
    assert [read(reply) > 200 for reply in replies] == [True, False, False]


@pytest.mark.parametrize(("provider", "slots"), [("bare", 1), ("two", 2), ("three", 3)])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_all_choices_share_one_reading_of_the_prompt(client: LlamaClient, provider: str, slots: int, n: int) -> None:
    messages = [{"role": "user", "content": f"For {n} of {slots} in words. {SHELVES}"}]
    reply = client.chat.completions.create(
        model=f"{provider}/default",
        messages=messages,
        n=n,
        temperature=1,
        max_tokens=3,
        extra_body={"ignore_eos": True},
    )
    usage = reply.usage
    assert usage.prompt_tokens == client.count_tokens(messages, model=f"{provider}/default").tokens
    assert (len(reply.choices), usage.completion_tokens) == (n, 3 * n)
    assert usage.total_tokens == usage.prompt_tokens + 3 * n
    groups = [computed(reply)[0], *computed(reply)[min(n, slots) :]]
    # Later groups read again what was no whole prefix: the last token, or the last few.
    assert groups[0] == read(reply)
    assert sum(groups[1:]) < 50 * (n - 1) + 1


def test_choices_with_tools_share_one_reading_too(client: LlamaClient) -> None:
    messages = [{"role": "user", "content": f"Lend me a book. {SHELVES}"}]
    reply = client.chat.completions.create(
        model="tools/default", messages=messages, n=3, tools=[TOOL], tool_choice="auto", temperature=1, max_tokens=3
    )
    assert len(reply.choices) == 3
    assert computed(reply)[0] == read(reply) > 200
    assert max(computed(reply)[1:]) < 50


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int, int]]:
    records = [vars(record) for record in caplog.records if record.name == "llama_client.progress"]
    return [(record["read_tokens"], record["prompt_tokens"], record["cached_tokens"]) for record in records]


@two_modes
def test_progress_of_a_long_prompt_is_logged_in_tenths(
    models: dict[str, Any], client: LlamaClient, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    asked(client, "wide", "Rome", "?")  # which keeps it loaded
    with caplog.at_level("DEBUG", "llama_client"):
        prompt = f"By {mode}: {SHELVES * 8}"
        reply = Asker(mode, models, [])(prompt, model="wide/default", temperature=0, max_tokens=1)
    total = reply.usage.prompt_tokens
    assert total is not None
    lines = told(caplog)
    assert {line[1:] for line in lines} == {(total, reply.usage.cached_tokens)}
    tenths = [10 * read // total for read, *_ in lines]
    assert 5 <= len(tenths) == len(set(tenths)) < 10
    assert tenths == sorted(tenths)
    assert all(0 < read < total for read, *_ in lines)
    (line,) = {vars(record)["request_id"] for record in caplog.records if record.name == "llama_client.progress"}
    assert line == reply.request_id
    assert prompt[:20] not in caplog.text


def test_a_prompt_that_was_read_or_is_short_has_no_progress(
    client: LlamaClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "llama_client"):
        for _ in range(2):
            client.ask("Hello.", model="wide/default", temperature=0, max_tokens=1)
    assert told(caplog) == []
