"""Scripts of a test as users type them, checked by mypy and pyright: never run."""

from __future__ import annotations

import re
from typing import Any, assert_type

import httpx
from pydantic import BaseModel

from llama_client import AsyncChatStream, ChatCompletion, ChatStream, RateLimitError
from llama_client.testing import (
    AskedRequest,
    FakeClock,
    FakeProvider,
    Reply,
    Script,
    ScriptedCall,
    asgi_client,
    astream,
    completion,
    fails,
    stream,
    tool_call,
)


class Dice(BaseModel):
    sides: int


def answer(asked: AskedRequest) -> str:
    return asked.text


def test_says(llama: FakeProvider, llama_clock: FakeClock) -> None:
    assert_type(llama.says("Hello", {"sides": 6}, Dice(sides=6)), FakeProvider)
    llama.says(tool_call("roll", sides=6), [tool_call("roll"), ScriptedCall("roll", "{", id="x")])
    llama.says(Reply("Hello", usage=(3, 2), breaks="reset", pieces=["Hel", "lo"], headers={"a": "b"}))
    llama.says(RateLimitError, RateLimitError("slow"), fails(RateLimitError, retry_after_s=2, times=2))
    llama.says(answer, lambda asked: Reply(asked.text), lambda asked: RateLimitError)
    llama.fails(RateLimitError, times=2).says("Hello").always("Hello again")
    assert_type(llama.on("groq"), Script)
    llama.on("groq/openai/gpt-oss-20b").fails(RateLimitError).says("Hello")
    found = llama.assert_asked(re.compile("H.m"), target="groq", tools=["roll"], params={"temperature": 0}, times=1)
    assert_type(found, list[AskedRequest])
    assert_type(llama.requests[0].params, dict[str, Any])
    llama.assert_said_everything()
    llama_clock.turn(3)


async def test_made(app: Any) -> None:
    assert_type(
        completion("Hello", usage=(3, 2), cost_usd="0.001", tool_calls=[tool_call("roll")]), ChatCompletion[Any]
    )
    assert_type(completion(Dice(sides=6)), ChatCompletion[Any])
    assert_type(stream("Hel", "lo", breaks="reset"), ChatStream)
    assert_type(await astream("Hel", "lo"), AsyncChatStream)
    async with asgi_client(app) as web:
        assert_type(web, httpx.AsyncClient)
