"""An answer from the cache in spans and metrics: no time and no token of its target's."""

from __future__ import annotations

from llama_client import LlamaClient
from llama_client.testing.loopback import WireServer
from tests.routing.asking import config
from tests.telemetry.program import PRICE, TELEMETRY, Program, counting, known


def test_a_hit_is_told_as_one_and_measured_by_what_it_saved(program: Program) -> None:
    cache = {"enabled": True, "url": "memory"}
    with WireServer(counting) as server:
        with LlamaClient(config(server, telemetry=TELEMETRY, prices=[PRICE], cache=cache)) as client:
            client.ask("a")
            program.forget()
            assert client.ask("a").is_cached
    told = known(program.span())
    assert told["llama_client.attempt.outcome"] == "cached"
    assert told["llama_client.cache.saved_usd"] == 0.00034
    assert told["llama_client.cost.usd"] == 0
    assert "gen_ai.usage.input_tokens" not in told
    measured = {name: points for name, points in program.points().items() if points}
    assert [*measured] == ["llama_client.cache.saved {USD}"]
    assert measured["llama_client.cache.saved {USD}"][0].value == 0.00034
