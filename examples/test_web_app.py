"""The tests of `web_app.py`, on scripted answers and on recorded ones: no model, no server, no network, under a second.

Run them after `pip install fastapi uvicorn pytest` by `pytest examples/test_web_app.py`. The cassettes beside this file
were recorded with `--llama-cassettes=record` from the demo model, and from a server whose address was in SHOP_URL.
"""

import asyncio
import os

import pytest
from web_app import application, ask, configuration, hang_up

from llama_client import APITimeoutError, ContextLengthError, OverloadedError, RateLimitError, ServerError
from llama_client.testing import FakeProvider, Reply, asgi_client

JAPAN, TOKYO = "What is the capital of Japan?", "The capital of Japan is Tokyo."
SHOP_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:9")
TORN = Reply("The capital of Japan", breaks="cut")


def visit(*visits):
    """What visitors at the same time read."""

    async def visiting():
        async with asgi_client(application(configuration(SHOP_URL), asyncio.Queue())) as web:
            return await asyncio.gather(*(each(web) for each in visits))

    return asyncio.run(visiting())


@pytest.mark.parametrize("played", ["llama", "cassette"])
@pytest.mark.parametrize(
    ("route", "text", "said", "reads"),
    [
        pytest.param("local", JAPAN, TOKYO, f"200: {TOKYO}", id="local"),
        pytest.param("cloud", JAPAN, TOKYO, f"200: {TOKYO}", id="cloud"),
        pytest.param("cloud", "Are you there?", ServerError, "502", id="down"),
        pytest.param("breaking", JAPAN, TORN, "200: The capital of Japan [the answer broke off]", id="torn"),
        pytest.param("local", "llama " * 2000, ContextLengthError, "413", id="long"),
        pytest.param("local", "", None, "422", id="empty"),
    ],
)
def test_what_a_visitor_reads(request, played, route, text, said, reads):
    provider = request.getfixturevalue(played)
    if isinstance(provider, FakeProvider) and said is not None:
        provider.says(said)
    assert visit(lambda web: ask(web, text, route)) == [reads]


@pytest.mark.parametrize(("error", "status"), [(OverloadedError, 503), (APITimeoutError, 504), (RateLimitError, 503)])
def test_a_failure_is_a_status(llama, error, status):
    llama.says(error)
    assert visit(lambda web: ask(web, JAPAN, "cloud")) == [str(status)]


def test_a_limit_says_when_to_come_back(llama):
    llama.fails(RateLimitError, retry_after_s=7)
    [response] = visit(lambda web: web.post("/answers", json={"text": JAPAN}))
    assert response.headers["retry-after"] == "7"


def test_a_visitor_who_hangs_up_and_four_at_once(llama):
    llama.always(lambda asked: f"About {asked.text}, at length.")
    reads = visit(lambda web: hang_up(web, "llamas"), *(lambda web, name=name: ask(web, name) for name in "abcd"))
    assert reads == ["About ", *(f"200: About {name}, at length." for name in "abcd")]
