"""The official clients of `client.sdk` are answered from the same script."""

from __future__ import annotations

import asyncio
from typing import Any

import groq
import openai
import pytest

from llama_client import AsyncLlamaClient, LlamaClient, RateLimitError, ServerError
from llama_client.testing import FakeClock, FakeProvider, Reply, UnscriptedRequestError
from llama_client.testing.loopback import as_json

MESSAGES: Any = [{"role": "user", "content": "Why do llamas hum?"}]
clients = pytest.mark.parametrize("provider", ["groq", "together", "acme"])
colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
CONFIG = ("groq/m", "together/m", "acme/m")


def ask(config: dict[str, Any], provider: str, *, is_async: bool, stream: bool = False, **params: Any) -> Any:
    """The answer of an official client: its completion, or the texts of its stream."""
    asked = {"model": "m", "messages": MESSAGES, "stream": stream, **params}

    async def awaited() -> Any:
        async with AsyncLlamaClient(config) as client:
            made = await client.sdk(provider).chat.completions.create(**asked)
            return [each async for each in made] if stream else made

    if is_async:
        return asyncio.run(awaited())
    with LlamaClient(config) as client:
        made = client.sdk(provider).chat.completions.create(**asked)
        return list(made) if stream else made


@clients
@colours
def test_it_gets_a_whole_answer(provider: str, *, is_async: bool) -> None:
    with FakeProvider() as fake:
        fake.on(provider).says(Reply("Hum.", usage=(3, 2)))
        made = ask(fake.config(*CONFIG), provider, is_async=is_async)
    assert (made.choices[0].message.content, made.usage.total_tokens) == ("Hum.", 5)
    fake.assert_asked("llamas", target=f"{provider}/m", times=1)


@clients
@colours
def test_it_gets_a_stream_in_its_pace(provider: str, *, is_async: bool) -> None:
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake:
        fake.says(Reply(pieces=("Hum", ", hum."), usage=(3, 2), after_s=2, pace_s=3))
        options = {} if provider == "groq" else {"stream_options": {"include_usage": True}}
        chunks = ask(fake.config(*CONFIG), provider, is_async=is_async, stream=True, **options)
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "Hum, hum."
    usage = chunks[-1].x_groq.usage if provider == "groq" else chunks[-1].usage
    assert usage.total_tokens == 5
    assert sum(clock.slept) == pytest.approx(5)


@clients
@colours
def test_it_raises_its_own_errors(provider: str, *, is_async: bool) -> None:
    package = groq if provider == "groq" else openai
    with FakeProvider() as fake:
        fake.fails(RateLimitError, retry_after_s=0.001).fails(ServerError, status=500).says("at last")
        assert ask(fake.config(*CONFIG), provider, is_async=is_async).choices[0].message.content == "at last"
        fake.always(RateLimitError(retry_after_s=0.001))
        with pytest.raises(package.RateLimitError):
            ask(fake.config(*CONFIG), provider, is_async=is_async)


@clients
@colours
def test_a_silence_is_its_read_timeout(provider: str, *, is_async: bool) -> None:
    package = groq if provider == "groq" else openai
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake:
        fake.always(Reply("late", after_s=30))
        with pytest.raises(package.APITimeoutError):
            ask(fake.config(*CONFIG), provider, is_async=is_async, timeout=20)
    assert 20 in clock.slept
    assert 30 not in clock.slept


@clients
@colours
def test_a_request_without_a_reply_is_asked_once_and_told_at_the_end(provider: str, *, is_async: bool) -> None:
    package = groq if provider == "groq" else openai
    with pytest.raises(UnscriptedRequestError, match="request 1 to"), FakeProvider() as fake:  # noqa: PT012
        with pytest.raises(package.InternalServerError, match="no reply is scripted for request 1"):
            ask(fake.config(*CONFIG), provider, is_async=is_async)
        assert len(fake.requests) == 1


@colours
def test_a_silence_without_a_timeout_ends_all_the_same(*, is_async: bool) -> None:
    with FakeProvider() as fake:
        fake.always(Reply("Hum", breaks="stall"))
        with pytest.raises(groq.APITimeoutError):
            ask(fake.config(*CONFIG), "groq", is_async=is_async, timeout=None)


def test_other_endpoints_are_answered_in_bytes_and_its_list_of_models_anyway() -> None:
    with FakeProvider() as fake, LlamaClient(fake.config("acme/m")) as client:
        fake.on("acme").says(as_json({"object": "list", "data": [{"embedding": [0.5], "index": 0}], "model": "e"}))
        made = client.sdk("acme").embeddings.create(model="e", input="llama", encoding_format="float")
        assert made.data[0].embedding == [0.5]
        fake.serves("acme/m")
        assert "m" in {each.id for each in client.sdk("acme").models.list()}
