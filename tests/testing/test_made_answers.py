"""Answers and streams made for a test are as those of a client, and so is a web application's client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import StreamInterruptedError
from llama_client.testing import asgi_client, astream, completion, stream, tool_call


class Dice(BaseModel):
    """An object that an answer holds."""

    sides: int


def test_a_completion_is_filled_as_a_real_one() -> None:
    made = completion("Hello", usage=(3, 2), target="groq/openai/gpt-oss-20b", warnings=["a stale price"])
    assert (made.text, made.target, made.provider, made.model) == (
        "Hello",
        "groq/openai/gpt-oss-20b",
        "groq",
        "openai/gpt-oss-20b",
    )
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (3, 2, 5)
    assert (made.cost.status, made.cost.usd) == ("exact", Decimal("8.25E-7"))
    assert [(each.outcome, each.http_status) for each in made.attempts] == [("ok", 200)]
    assert made.raw["choices"][0]["message"]["content"] == "Hello"
    assert made.timing.total_s is not None
    assert made.request_id.startswith("req_")
    assert made.warnings == ["a stale price"]


def test_a_completion_has_the_cost_the_calls_and_the_object_that_are_said() -> None:
    made = completion(Dice(sides=6), cost_usd="0.001", tool_calls=[tool_call("roll", sides=6)], reasoning="Hm.")
    assert made.cost.usd == made.attempts[0].cost.usd == Decimal("0.001")  # type: ignore[union-attr]
    message = made.choices[0].message
    assert (message.parsed, message.content, message.reasoning) == (Dice(sides=6), '{"sides":6}', "Hm.")
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == "roll"
    assert completion(refusal="No.").choices[0].message.refusal == "No."
    assert completion("cut", finish_reason="length").choices[0].finish_reason == "length"


def test_a_stream_gives_its_pieces_and_may_break() -> None:
    with stream("Hel", "lo", usage=(3, 2)) as chunks:
        assert [chunk.text for chunk in chunks if chunk.text] == ["Hel", "lo"]
        assert (chunks.completion.text, chunks.completion.usage.total_tokens) == ("Hello", 5)
    with stream("Hel", breaks="reset") as broken, pytest.raises(StreamInterruptedError):
        list(broken)
    assert broken.partial.text == "Hel"


def test_an_async_stream_does_too() -> None:
    async def read() -> list[str]:
        async with await astream("Hel", "lo") as chunks:
            return [chunk.text async for chunk in chunks if chunk.text]

    assert asyncio.run(read()) == ["Hel", "lo"]


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def test_a_client_of_a_web_application_streams_and_hangs_up() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        while scope["type"] == "lifespan":
            kind = (await receive())["type"]
            seen.append(kind)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
        assert (await receive())["body"] == b"hi"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        seen.append((await receive())["type"])

    async def visit() -> bytes:
        async with (
            asgi_client(app) as web,
            web.stream("POST", "/a?b=c", content=b"hi") as response,
        ):
            assert response.headers["x-mine"] == "1"
            async for piece in response.aiter_bytes():
                return piece
        return b""

    assert asyncio.run(visit()) == b"0"
    assert seen == ["lifespan.startup", "http.disconnect", "lifespan.shutdown"]


def test_a_web_application_that_fails_to_start_is_told() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no model"})

    async def visit() -> None:
        async with asgi_client(app):
            pass

    with pytest.raises(RuntimeError, match="failed to start: no model"):
        asyncio.run(visit())


def test_a_completion_of_an_object_and_of_a_cost_that_is_a_float() -> None:
    made = completion({"sides": 6}, cost_usd=0.001)
    assert (made.text, made.cost.usd) == ('{"sides":6}', Decimal("0.001"))
