"""In which order a route's targets are asked, and which of them not at all."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from llama_client import BudgetExceededError, ChatCompletion, ConfigError, LlamaClient, LocalOnlyError
from llama_client.config.load import load_config
from llama_client.routing.health import DecayedMean, LatencyStats
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, as_json
from tests.routing.asking import MESSAGES, MODES, Session, ask_all, config, failing, good, in_turn, story, timed
from tests.routing.in_memory import MemoryServer

each_mode = pytest.mark.parametrize("mode", MODES)


def route(configuration: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The same with more keys in the route."""
    chat = {**configuration["routes"]["chat"], **keys}
    return {**configuration, "routes": {"chat": chat}}


def price(target: str, input_usd: str, output_usd: str, **more: Any) -> dict[str, Any]:
    return {
        "target": target,
        "input_usd_per_mtok": float(input_usd),
        "output_usd_per_mtok": float(output_usd),
        **more,
    }


def targets_of(configuration: dict[str, Any], **params: Any) -> list[str]:
    """Whom a call would ask, in order, without asking anybody."""
    with LlamaClient(configuration) as client:
        return ordered(client, **params)


def ordered(client: LlamaClient, **params: Any) -> list[str]:
    """The same with a client that has asked before."""
    call = client.chat.completions._context.call({"messages": MESSAGES, **params}, stream=False)
    return [candidate.target.name for candidate in call.candidates if not candidate.is_excluded]


def test_the_cheapest_is_asked_first_for_a_thousand_requests() -> None:
    chance = random.Random(7)
    names = "abcdef"
    with MemoryServer(good()) as server:
        prices, table = [], {}
        for name in names[:5]:
            rates = [round(chance.uniform(0.01, 2.0), 4) for _ in range(2)]
            table[name] = [Decimal(str(rate)) for rate in rates]
            prices.append(price(f"{name}/m", str(rates[0]), str(rates[1])))
        # The sixth has no known price: it is never the cheapest.
        tables = route(config(*[server] * 6, prices=prices), policy="cheapest")
        seen: Counter[str] = Counter()
        with LlamaClient(tables) as client:
            checked = client.chat.completions._context.call
            for _ in range(1000):
                text, most = "x" * chance.randint(1, 40_000), chance.randint(1, 4000)
                call = checked({"messages": [{"role": "user", "content": text}], "max_tokens": most}, stream=False)
                # Four bytes a token, four tokens a message, and an answer as long as it may be: none has come yet.
                tokens = Decimal(len(text)) / 4 + 4
                costs = {name: tokens * rates[0] + most * rates[1] for name, rates in table.items()}
                best = min(costs, key=lambda name: costs[name])
                ordered = [candidate.target.provider_name for candidate in call.candidates]
                assert ordered[0] == best
                assert ordered[:5] == sorted(costs, key=lambda name: costs[name])
                assert ordered[5] == "f"
                seen[best] += 1
        assert len(seen) > 1


@each_mode
def test_the_cheapest_is_really_asked(mode: str) -> None:
    with MemoryServer(good()) as server:
        prices = [price("a/m", "2", "2"), price("b/m", "0.1", "0.1")]
        tables = route(config(server, server, server, prices=prices), policy="cheapest")
        [reply] = ask_all(tables, mode, 1)
    assert reply.target == "b/m"


def test_what_is_free_is_cheapest_and_what_is_unknown_is_dearest() -> None:
    tables = route(config("http://127.0.0.1:1", prices=[price("a/m", "0.01", "0.01")]), policy="cheapest")
    tables["routes"]["chat"]["targets"] = ["together/some-endpoint", "a/m", "ollama/llama3.1:8b"]
    assert targets_of(tables) == ["ollama/llama3.1:8b", "a/m", "together/some-endpoint"]


def test_a_price_holds_from_its_day_to_its_last() -> None:
    from datetime import date

    rows = [
        price("a/m", "9", "9", effective_until=date(2026, 1, 1)),
        price("a/m", "0.1", "0.1", effective_from=date(2026, 1, 1)),
        price("a/m", "9", "9", effective_from=date(2999, 1, 1)),
        price("b/m", "1", "1"),
    ]
    tables = route(config(*["http://127.0.0.1:1"] * 2, prices=rows), policy="cheapest")
    assert targets_of(tables) == ["a/m", "b/m"]


def test_the_catalogues_list_price_is_known_without_a_row() -> None:
    tables = {
        "routes": {"chat": {"targets": ["groq/openai/gpt-oss-120b", "groq/openai/gpt-oss-20b"], "policy": "cheapest"}}
    }
    assert targets_of(tables, model="chat")[0] == "groq/openai/gpt-oss-20b"


def test_what_the_cache_takes_off_the_price_counts() -> None:
    def cached(request: Received) -> Answer:
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 100}}
        return as_json(OPENAI.whole() | {"usage": usage})

    rows = [price("a/m", "1", "1", cached_usd_per_mtok=0.1), price("b/m", "0.5", "1")]
    with MemoryServer(cached) as server:
        tables = route(config(server, server, prices=rows), policy="cheapest")
        with LlamaClient(tables) as client:
            long = "x" * 4000
            assert client.ask(long, max_tokens=1).target == "b/m"
            client.ask(long, max_tokens=1, model="a/m")
            assert client.ask(long, max_tokens=1).target == "a/m"


def test_what_costs_too_much_is_skipped_and_so_is_what_has_no_price() -> None:
    rows = [price("a/m", "1000", "1000"), price("c/m", "0.1", "0.1")]
    with MemoryServer(good()) as server:
        tables = route(config(server, server, server, prices=rows), max_price_usd=0.001)
        [reply] = ask_all(tables, "call-sync", 1)
    assert reply.target == "c/m"
    assert story(reply)[:2] == [("a/m", "BudgetExceededError", False), ("b/m", "BudgetExceededError", False)]


@each_mode
def test_where_everybody_costs_too_much_nobody_is_asked(mode: str) -> None:
    with MemoryServer(good()) as server:
        tables = route(config(server, prices=[price("a/m", "1000", "1000")]), max_price_usd=0.001)
        [error] = ask_all(tables, mode, 1, max_tokens=1000)
        assert server.requests == []
    assert isinstance(error, BudgetExceededError)
    assert error.budget == "routes.chat.max_price_usd"
    assert error.needed_usd is not None
    assert error.needed_usd > 1


@each_mode
def test_the_fastest_is_asked_first_once_all_were_measured(mode: str) -> None:
    fake = FakeClock()

    def taking(seconds: float) -> Any:
        def answer(request: Received) -> Answer:
            fake.now += seconds
            return good()(request)

        return answer

    with (
        MemoryServer(taking(3.0)) as slow,
        MemoryServer(taking(0.2)) as fast,
        MemoryServer(taking(1.0)) as middling,
    ):
        tables = route(config(slow, fast, middling), policy="fastest")
        with Session(tables, mode, fake) as session:
            targets = [reply.target for reply in session.many(8)]
            assert sorted(targets[:3]) == ["a/m", "b/m", "c/m"]
            assert targets[3:] == ["b/m"] * 5
            health = session.client.health()
            assert (health["a/m"].ttft_s or health["a/m"].latency_s) >= 3.0
            # What was measured long ago is forgotten, and measured again.
            fake.now += 3600
            assert sorted(reply.target for reply in session.many(3)) == ["a/m", "b/m", "c/m"]


def test_the_fastest_explores_a_little() -> None:
    with MemoryServer(good()) as server:
        tables = route(config(server, server), policy="fastest")
        with LlamaClient(tables) as client:
            first = Counter(client.ask("hi").target for _ in range(3))
            seen = Counter(ordered(client)[0] for _ in range(2000))
    assert len(first) == 2
    assert 0 < min(seen.values()) < 200


def test_weights_are_shares_and_zero_is_the_last_resort() -> None:
    tables = config(*["http://127.0.0.1:1"] * 3)
    rows = [{"target": "a/m", "weight": 3}, {"target": "b/m", "weight": 1}, {"target": "c/m", "weight": 0}]
    tables = {**tables, "routes": {"chat": {"targets": rows, "policy": "weighted"}}}
    with LlamaClient(tables) as client:
        orders = [ordered(client) for _ in range(4000)]
    assert {order[2] for order in orders} == {"c/m"}
    first = Counter(order[0] for order in orders)
    assert 0.7 < first["a/m"] / 4000 < 0.8
    assert first["c/m"] == 0


@each_mode
def test_a_targets_own_parameters_fill_in_what_the_call_does_not_say(mode: str) -> None:
    with MemoryServer(in_turn(failing(500))) as first, MemoryServer(good()) as second:
        rows = [{"target": "a/m", "params": {"temperature": 0.2, "max_tokens": 10}}, "b/m"]
        tables = {**config(first, second), "routes": {"chat": {"targets": rows}}}
        ask_all(tables, mode, 1, max_tokens=20)
        sent = [request.json for request in (first.requests[0], second.requests[0])]
    assert (sent[0]["temperature"], sent[0]["max_tokens"]) == (0.2, 20)
    assert "temperature" not in sent[1]


def test_a_prompt_that_cannot_fit_is_not_sent_there_where_another_has_room() -> None:
    rows = [{"target": "a/m", "name": "small", "context_tokens": 2048}]
    with MemoryServer(good()) as first, MemoryServer(good()) as second:
        tables = config(first, second, models=rows)
        with LlamaClient(tables) as client:
            reply = client.ask("x" * 40_000)
            assert story(reply) == [("a/m", "ContextLengthError", False), ("b/m", "ok", True)]
            assert first.requests == []
            # Alone it is asked all the same: the server knows better.
            assert client.ask("x" * 40_000, model="a/m").target == "a/m"


def test_local_only_leaves_what_is_local() -> None:
    with MemoryServer(good()) as server:
        tables = config(server, local_only=True)
        tables["routes"]["chat"]["targets"] = ["groq/openai/gpt-oss-20b", "a/m"]
        tables["providers"]["groq"] = {"api_key": "k"}
        [reply] = ask_all(tables, "call-sync", 1)
        assert story(reply) == [("groq/openai/gpt-oss-20b", "LocalOnlyError", False), ("a/m", "ok", True)]
        tables["routes"]["chat"]["targets"] = ["groq/openai/gpt-oss-20b"]
        [error] = ask_all(tables, "call-sync", 1)
        assert isinstance(error, LocalOnlyError)


@each_mode
def test_a_parameter_that_nobody_honours_is_left_out_where_that_is_wanted(mode: str) -> None:
    with MemoryServer(lambda request: OPENAI.good(streams=request.json.get("stream", False))) as server:
        providers = {"x": {"kind": "groq", "base_url": server.url, "api_key": "k"}}
        tables = {"default_model": "x/m", "providers": providers, "routing": {"drop_unsupported": True}}
        [reply] = ask_all(tables, mode, 1, top_k=5, min_p=0.1, temperature=0.5)
        sent = server.requests[0].json
    assert isinstance(reply, ChatCompletion)
    assert {"top_k", "min_p"} & set(sent) == set()
    assert sent["temperature"] == 0.5
    assert [warning.split()[0] for warning in reply.warnings] == ["min_p", "top_k"]


def test_a_list_may_hold_routes_and_each_target_is_asked_once() -> None:
    tables = config(*["http://127.0.0.1:1"] * 3)
    tables["routes"]["chat"]["targets"] = ["b/m", "c/m"]
    assert targets_of(tables, model=["c/m", "chat", "a/m", "a/m"]) == ["c/m", "b/m", "a/m"]


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"routes": {"chat": {"targets": ["grok/x"]}}}, "routes.chat.targets[0]: no provider is named 'grok'"),
        ({"routes": {"chat": {"targets": ["grok/x"]}}}, "did you mean 'groq'?"),
        ({"routes": {"chat": {"targets": []}}}, "routes.chat.targets: must not be empty"),
        ({"routes": {"chat": {"targets": ["groq/x"], "policy": "cheap"}}}, "routes.chat.policy: must be"),
        ({"routes": {"chat": {"target": ["groq/x"]}}}, "did you mean 'targets'?"),
        ({"routes": {"a/b": {"targets": ["groq/x"]}}}, "a route's name must not be empty or contain '/'"),
        ({"routes": {"a": {"targets": ["groq/x"]}, "b": {"targets": ["a"]}}}, "'a' is a route itself"),
        ({"routes": {"chat": {"targets": [{"target": "groq/x", "weight": -1}]}}}, "routes.chat.targets[0].weight"),
        ({"routes": {"chat": {"targets": [{"target": "groq/x", "params": {"temp": 1}}]}}}, "temp: is not a parameter"),
        ({"routes": {"c": {"targets": [{"target": "groq/x", "params": {"top_p": 9}}]}}}, "top_p: must be"),
        ({"routes": {"chat": {"targets": ["groq/x"], "max_price_usd": "a"}}}, "must be a number of US dollars"),
        ({"routing": {"retrys": 1}}, "did you mean 'retries'?"),
        ({"routing": {"retries": -1}}, "routing.retries: must be"),
        ({"routing": {"deadline_s": 0}}, "routing.deadline_s: must be"),
        ({"routing": {"on_interrupt": "go"}}, "routing.on_interrupt: must be 'continue'"),
        ({"prices": [{"target": "x", "input_usd_per_mtok": 1, "output_usd_per_mtok": 1}]}, "prices[0].target"),
        ({"prices": [{"target": "x/y", "input_usd_per_mtok": 1}]}, "prices[0].output_usd_per_mtok: is required"),
        ({"providers": {"groq": {"max_concurrency": 0}}}, "providers.groq.max_concurrency: must be"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_its_key(tables: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tables, environ={})
    assert said in str(caught.value)


def test_money_is_read_as_it_was_written() -> None:
    rows = [price("a/m", "0.1", "0.3")]
    [row] = load_config({"prices": rows}, environ={}).prices
    assert (row.input_usd_per_mtok, row.output_usd_per_mtok) == (Decimal("0.1"), Decimal("0.3"))


def test_a_route_that_is_not_there_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'chat'"):
        targets_of(config("http://127.0.0.1:1"), model="chatt")


def test_a_mean_forgets() -> None:
    mean = DecayedMean()
    assert mean.value(0.0) is None
    mean.add(10.0, 0.0)
    mean.add(20.0, 0.0)
    assert mean.value(0.0) == 15.0
    mean.add(100.0, 3000.0)
    assert mean.value(3000.0) == pytest.approx(100.0, rel=0.01)
    assert mean.value(30_000.0) is None


def test_a_pace_tells_a_stream_from_a_whole_answer() -> None:
    pace = LatencyStats()
    assert pace.expected_s(0.0, tokens=100, streams=True) is None
    pace.note(0.0, latency_s=3.0, ttft_s=1.0, tokens=100, tokens_per_s=50.0)
    assert pace.expected_s(0.0, tokens=100, streams=True) == 3.0
    pace.note(0.0, latency_s=4.0, ttft_s=None, tokens=100, tokens_per_s=None)
    assert pace.expected_s(0.0, tokens=100, streams=True) == 3.0
    assert pace.expected_s(0.0, tokens=100, streams=False) == 4.0


def test_a_client_of_a_test_has_the_tests_own_time() -> None:
    fake = FakeClock()
    with timed(fake)[0](config("http://127.0.0.1:1")) as client:
        assert client._context.clock is fake.clock


def test_a_list_skips_who_has_no_room_too() -> None:
    rows = [{"target": "a/m", "name": "small", "context_tokens": 2048}]
    with MemoryServer(good()) as server, LlamaClient(config(server, server, models=rows)) as client:
        assert client.ask("x" * 40_000, model=["a/m", "b/m"]).target == "b/m"


def test_a_targets_own_limit_counts_for_its_price() -> None:
    rows = [{"target": "a/m", "params": {"max_tokens": 1}}]
    tables = config("http://127.0.0.1:1", prices=[price("a/m", "1", "1000")])
    tables["routes"] = {"chat": {"targets": rows, "max_price_usd": 0.01}}
    assert targets_of(tables) == ["a/m"]


def test_a_target_may_be_listed_twice_with_parameters_of_its_own() -> None:
    rows = [{"target": "a/m", "params": {"temperature": 0.0}}, {"target": "a/m", "params": {"temperature": 1.0}}]
    tables = {**config("http://127.0.0.1:1"), "routes": {"chat": {"targets": rows}}}
    assert targets_of(tables) == ["a/m", "a/m"]
