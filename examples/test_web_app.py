"""The tests of `web_app.py`: no model, no server, no network, less than a second.

Run it after `pip install fastapi uvicorn pytest` by `pytest examples/test_web_app.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from web_app import application, ask, configuration, hang_up, status_of

from llama_client import (
    APITimeoutError,
    ContextLengthError,
    InvalidRequestError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from llama_client.testing import FakeProvider, Reply, asgi_client


def visit(*visits: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> tuple[list[Any], list[str]]:
    """What visitors at the same time get, and how their answers ended."""
    outcomes: asyncio.Queue[str] = asyncio.Queue()

    async def visiting() -> list[Any]:
        async with asgi_client(application(configuration("https://shop.example"), outcomes)) as web:
            return await asyncio.gather(*(each(web) for each in visits))

    return asyncio.run(visiting()), [outcomes.get_nowait() for _ in range(outcomes.qsize())]


@pytest.mark.parametrize(("route", "provider"), [("local", "gguf"), ("cloud", "shop"), ("breaking", "shop")])
def test_a_route_answers(llama: FakeProvider, route: str, provider: str) -> None:
    llama.on(provider).says("It is Tokyo.")
    assert visit(lambda web: ask(web, "Japan?", route)) == (["200: It is Tokyo."], ["ok"])
    llama.assert_asked("Japan?", target=provider, stream=True, params={"temperature": 0, "max_tokens": 500})


@pytest.mark.parametrize(("text", "status"), [("", 422), ("x" * 100_001, 422)], ids=["empty", "too long"])
def test_a_wrong_question_reaches_no_model(llama: FakeProvider, text: str, status: int) -> None:
    assert visit(lambda web: ask(web, text)) == ([f"{status}"], [])
    llama.assert_asked(times=0)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContextLengthError, 413),
        (OverloadedError, 503),
        (APITimeoutError, 504),
        (ServerError, 502),
    ],
)
def test_a_failure_is_a_status(llama: FakeProvider, error: type[ProviderError], status: int) -> None:
    llama.says(error)
    assert visit(lambda web: ask(web, "Japan?", "cloud")) == ([f"{status}"], [])


def test_a_rate_limit_says_when_to_come_back(llama: FakeProvider) -> None:
    llama.fails(RateLimitError, retry_after_s=7)
    [response], _ = visit(lambda web: web.post("/answers", json={"text": "Japan?"}))
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")


def test_a_break_in_the_middle_is_told(llama: FakeProvider) -> None:
    llama.says(Reply("It is", breaks="reset"))
    assert visit(lambda web: ask(web, "Japan?")) == (["200: It is [the answer broke off]"], ["interrupted"])


def test_a_visitor_who_hangs_up_stops_the_model(llama: FakeProvider) -> None:
    llama.says("Once upon a time there was a llama.")
    assert visit(lambda web: hang_up(web, "A story!")) == (["Once "], ["cancelled"])


def test_four_at_once_get_each_their_own_answer(llama: FakeProvider) -> None:
    llama.always(lambda asked: f"About {asked.text}")
    read, ends = visit(*(lambda web, name=name: ask(web, name) for name in "abcd"))
    assert (read, ends) == ([f"200: About {name}" for name in "abcd"], ["ok"] * 4)


def test_a_wrong_request_of_the_program_is_a_bad_request() -> None:
    assert status_of(InvalidRequestError()) == 400
