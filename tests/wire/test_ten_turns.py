"""Ten turns with tools and thinking, moved to another service and back: each gets what it takes, and its own back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from llama_client import ChatCompletion
from llama_client.testing.loopback import WireServer
from tests.asking import Asker
from tests.wire.standins import STAND_INS, StandIn

TOOLS = [{"type": "function", "function": {"name": "roll", "parameters": {"type": "object", "properties": {}}}}]
TURNS = 10
# Where the first service is down, and where it is up again.
DOWN, UP = 4, 8
PAIRS = [*pairwise(STAND_INS), (STAND_INS[-1], STAND_INS[0])]


def _names(pair: tuple[type[StandIn], type[StandIn]]) -> str:
    return f"{pair[0].__name__}-{pair[1].__name__}".lower()


@pytest.fixture(params=PAIRS, ids=_names)
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[StandIn, StandIn, dict[str, Any]]]:
    first, second = (kind() for kind in request.param)
    with ExitStack() as stack:
        addresses = [stack.enter_context(WireServer(each.answer)).url for each in (first, second)]
        providers = {"one": first.table(addresses[0]), "two": second.table(addresses[1])}
        routing = {"retries": 0, "breaker_failures": 100}
        yield first, second, {"providers": providers, "routing": routing, "ledger": {"enabled": False}}


def converse(asker: Asker, first: StandIn) -> Iterator[ChatCompletion]:
    """The replies of all turns; each message goes back as the object that it was."""
    messages: list[Any] = [{"role": "user", "content": "Roll a die."}]
    for turn in range(1, TURNS + 1):
        first.is_down = DOWN <= turn < UP
        reply = asker(messages, model=["one/m", "two/m"], tools=TOOLS)
        message = reply.choices[0].message
        messages.append(message)
        results = [{"role": "tool", "tool_call_id": call.id, "content": "4"} for call in message.tool_calls or ()]
        messages += results
        if not message.tool_calls:
            messages.append({"role": "user", "content": f"And {turn + 1}?"})
        yield reply


@pytest.mark.parametrize("mode", ["call-sync", "stream-async"])
def test_each_server_takes_all_that_is_sent_to_it(servers: tuple[StandIn, StandIn, dict[str, Any]], mode: str) -> None:
    first, second, config = servers
    replies = list(converse(Asker(mode, config, []), first))
    assert first.refused == second.refused == []
    assert [reply.provider for reply in replies] == ["one"] * 3 + ["two"] * 4 + ["one"] * 3
    assert (first.answered, second.answered) == (6, 4)
    assert all(reply.choices[0].message.reasoning for reply in replies if _kind(reply, config) not in ("gemini",))


def _kind(reply: ChatCompletion, config: dict[str, Any]) -> str:
    kind: str = config["providers"][reply.provider]["kind"]
    return kind
