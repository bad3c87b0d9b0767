"""A scripted provider behaves as the real thing: costs, attempts, ledger, breakers, in all dialects and modes."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import AsyncLlamaClient, ChatCompletion, LlamaClient, errors
from llama_client.testing import FakeClock, FakeProvider, Reply, ScriptedCall, ScriptError, UnscriptedRequestError
from llama_client.testing import tool_call as called
from llama_client.testing.dialects import DIALECTS, Dialect
from llama_client.testing.ledger import ledger_rows
from llama_client.testing.loopback import WireServer, as_json

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why do llamas hum?"}]
TOOL = {"type": "function", "function": {"name": "roll", "parameters": {"type": "object", "properties": {}}}}
GROQ = "groq/openai/gpt-oss-20b"
TOGETHER = "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"
TARGETS = [GROQ, TOGETHER, "acme/some-model", "ollama/llama3.2", "gguf/default"]
targets = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.partition("/")[0])
dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=str)
modes = pytest.mark.parametrize("mode", ["sync", "sync stream", "async", "async stream"])


class Dice(BaseModel):
    """What `parse` asks for."""

    sides: int


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No connection at all, unless the test's name says that it is about one."""
    if "socket" not in request.node.name:

        def refused(self: socket.socket, address: Any) -> None:
            raise AssertionError(f"a connection to {address}")

        monkeypatch.setattr(socket.socket, "connect", refused)
        monkeypatch.setattr(socket, "getaddrinfo", refused)


def finished(made: Any) -> ChatCompletion[Any]:
    """The completion of a call, or of a stream that was read."""
    completion: ChatCompletion[Any] = getattr(made, "completion", made)
    return completion


def ask(config: dict[str, Any], mode: str = "sync", **params: Any) -> ChatCompletion[Any]:
    """The completion of one call in one of the modes."""
    asked: dict[str, Any] = {"messages": MESSAGES, "stream": "stream" in mode, **params}

    async def awaited() -> ChatCompletion[Any]:
        async with AsyncLlamaClient(config) as client:
            made = await client.chat.completions.create(**asked)
            if asked["stream"]:
                async for _ in made:
                    pass
            return finished(made)

    if mode.startswith("async"):
        return asyncio.run(awaited())
    with LlamaClient(config) as client:
        made = client.chat.completions.create(**asked)
        if asked["stream"]:
            list(made)
        return finished(made)


@targets
@modes
def test_every_kind_of_provider_says_what_is_scripted(target: str, mode: str) -> None:
    reply = Reply(
        "They do not know the words.",
        reasoning="A joke, then.",
        usage=(11, 7),
        headers={"x-ratelimit-remaining-requests": "3", "x-ratelimit-limit-requests": "5"},
        request_id="req_mine",
    )
    with FakeProvider() as fake:
        fake.says(reply)
        made = ask(fake.config(target), mode)
    assert made.text == reply.text
    assert made.choices[0].message.reasoning == reply.reasoning
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (11, 7)
    assert made.target == target
    [attempt] = made.attempts
    assert (attempt.outcome, attempt.provider_request_id, attempt.http_status) == ("ok", "req_mine", 200)
    assert attempt.rate_limit == {"requests": {"limit": 5, "remaining": 3}}


@targets
@modes
def test_tools_are_called(target: str, mode: str) -> None:
    with FakeProvider() as fake:
        fake.says([called("roll", sides=6), ScriptedCall("roll", {"sides": 20}, id="call_x")])
        made = ask(fake.config(target), mode, tools=[TOOL])
    calls = made.choices[0].message.tool_calls
    assert calls is not None
    assert [(each.function.name, each.function.arguments.replace(" ", "")) for each in calls] == [
        ("roll", '{"sides":6}'),
        ("roll", '{"sides":20}'),
    ]
    assert made.choices[0].finish_reason == "tool_calls"


@targets
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("said", [{"sides": 6}, Dice(sides=6), '{"sides": 6}'], ids=["dict", "object", "text"])
def test_parse_gets_an_object(target: str, said: Any, *, is_async: bool) -> None:
    async def awaited(config: dict[str, Any]) -> Any:
        async with AsyncLlamaClient(config) as client:
            return await client.chat.completions.parse(messages=MESSAGES, response_format=Dice)

    with FakeProvider() as fake:
        fake.says({"sides": "many"}, said)
        config = fake.config(target)
        if is_async:
            made = asyncio.run(awaited(config))
        else:
            with LlamaClient(config) as client:
                made = client.chat.completions.parse(messages=MESSAGES, response_format=Dice)
    assert made.choices[0].message.parsed == Dice(sides=6)
    assert [each.error for each in made.attempts] == ["GenerationFailedError", None]


@dialects
@modes
def test_costs_and_ledger_rows_are_those_of_a_socket(
    dialect: Dialect, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")

    def script(fake: FakeProvider) -> None:
        fake.fails(errors.RateLimitError, retry_after_s=0.01).says(Reply("Hum.", usage=(1000, 200, 400, 50)))

    def played(url: str, name: str) -> tuple[Any, Any]:
        ledger = {"enabled": True, "url": f"sqlite:///{tmp_path / name}"}
        config = {**dialect.config(url, api_key="k"), "routing": {"retries": 1}, "ledger": ledger}
        prices = {"input_usd_per_mtok": 2, "cached_usd_per_mtok": 1, "output_usd_per_mtok": 8}
        config["prices"] = [{"target": "x/some/model", **prices}]
        with LlamaClient(config) as client:
            made = ask(config, mode)
            client.costs.report()
            rows = [
                (row.target, row.outcome, row.error, row.input_tokens, row.output_tokens, row.cached_tokens, row.usd)
                for row in ledger_rows(client)
            ]
        attempts = [(each.outcome, each.error, each.http_status, each.usage, each.cost) for each in made.attempts]
        return (made.text, made.cost, made.usage, attempts), rows

    with FakeProvider() as fake:
        script(fake)
        in_memory = played("http://127.0.0.1:9", "memory.db")
    script(fake)
    fake.requests.clear()
    with WireServer(fake.play) as server:
        assert in_memory == played(server.url, "socket.db")
    assert len(in_memory[1]) == 2


def test_a_usage_that_is_not_said_is_counted_from_the_texts() -> None:
    with FakeProvider() as fake:
        fake.says("four" * 10, Reply("x" * 100, usage=()))
        config = fake.config()
        counted = ask(config)
        assert (counted.usage.prompt_tokens, counted.usage.completion_tokens) == (7, 10)
        assert counted.cost.usd is not None
        assert counted.cost.usd > 0
        assert ask(config).usage.prompt_tokens is None


def test_fail_twice_then_answer_takes_no_time_by_a_fake_clock() -> None:
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake:
        fake.fails(errors.RateLimitError, retry_after_s=20, times=2).says("Hello")
        made = ask(fake.config())
    assert [each.outcome for each in made.attempts] == ["error", "error", "ok"]
    assert sum(clock.slept) == pytest.approx(40)
    assert fake.left == 0


def test_a_failing_provider_fails_over_and_its_circuit_opens() -> None:
    with FakeProvider(clock=FakeClock()) as fake:
        fake.on("groq").always(errors.OverloadedError)
        fake.always("from the other one")
        config = {**fake.config(GROQ, TOGETHER), "routing": {"retries": 0, "breaker_failures": 3}}
        with LlamaClient(config) as client:
            replies = [client.ask("hi") for _ in range(5)]
            health = client.health()[GROQ]
    assert {reply.target for reply in replies} == {TOGETHER}
    assert (health.breaker, replies[-1].attempts[0].outcome) == ("open", "skipped")
    assert len(fake.assert_asked(target="groq")) == 3


def test_a_budget_refuses_what_is_played_too() -> None:
    with FakeProvider() as fake:
        fake.says(Reply("dear", usage=(1_000_000, 1_000_000)))
        with LlamaClient({**fake.config(), "budgets": [{"usd": 0.01, "window": "day"}]}) as client:
            assert client.ask("hi", max_tokens=10).cost.usd == Decimal("0.375")
            with pytest.raises(errors.BudgetExceededError):
                client.ask("hi", max_tokens=10)
    assert len(fake.requests) == 1


def test_the_users_own_ledger_stays_as_it_is(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CLIENT_LEDGER__ENABLED")
    before = sorted(clean_home.rglob("*"))
    with FakeProvider() as fake:
        fake.says("Hello")
        with LlamaClient({**fake.config(), "ledger": {"enabled": True}}) as client:
            client.ask("hi")
            assert len(ledger_rows(client)) == 1
    assert sorted(clean_home.rglob("*")) == before


def test_what_was_asked_can_be_read_in_the_same_words_for_each_dialect() -> None:
    with FakeProvider() as fake:
        fake.always("Hum.")
        for target in TARGETS:
            own: dict[str, Any] = {} if target.startswith("gguf") else {"extra_headers": {"x-mine": "1"}}
            ask(fake.config(target), temperature=0.5, max_tokens=9, tools=[TOOL], **own)
    for target, asked in zip(TARGETS, fake.requests, strict=True):
        assert (asked.target, asked.text, asked.system) == (target, "Why do llamas hum?", "Be brief.")
        assert (asked.tools, asked.stream) == (["roll"], False)
        assert (asked.params["temperature"], asked.params["max_tokens"]) == (0.5, 9)
        assert [each["role"] for each in asked.messages] == ["system", "user"]
        assert "authorization" not in asked.headers
        assert target.startswith("gguf") or asked.headers["x-mine"] == "1"
    assert [each.number for each in fake.requests] == [1, 2, 3, 4, 5]


def test_a_function_of_the_request_answers_it() -> None:
    with FakeProvider() as fake:
        fake.always(lambda asked: f"You asked {asked.text} of {asked.model}.")
        assert ask(fake.config()).text == "You asked Why do llamas hum? of openai/gpt-oss-20b."
        fake.says(lambda _: errors.ServerError("nothing", http_status=502))
        with pytest.raises(errors.ServerError, match="nothing"):
            ask({**fake.config(), "routing": {"retries": 0}})


def test_the_script_of_a_target_comes_before_that_of_its_provider_and_the_general_one() -> None:
    with FakeProvider() as fake:
        fake.says("general")
        fake.on("groq").says("provider")
        fake.on(GROQ).says("target")
        assert [ask(fake.config()).text for _ in range(3)] == ["target", "provider", "general"]
        fake.assert_said_everything()


@modes
def test_a_request_without_a_reply_is_an_error_at_once_and_at_the_end(mode: str) -> None:
    told = "no reply is scripted for request 2 to groq/openai/gpt-oss-20b: 'Why do llamas hum"
    fake = FakeProvider().says("one")
    with pytest.raises(UnscriptedRequestError, match=told) as at_the_end, fake:  # noqa: PT012
        config = fake.config(GROQ, TOGETHER)
        ask(config, mode)
        with pytest.raises(UnscriptedRequestError, match=told) as caught:
            ask(config, mode)
        assert [(each.outcome, each.sent) for each in caught.value.attempts] == [("error", False)]
    assert at_the_end.value.asked is not None
    assert len(fake.requests) == 2


def test_another_failure_of_the_block_is_raised_and_tells_of_the_request_without_a_reply() -> None:
    with pytest.raises(ZeroDivisionError) as caught, FakeProvider() as fake:  # noqa: PT012
        with pytest.raises(UnscriptedRequestError):
            ask(fake.config())
        raise ZeroDivisionError
    assert "no reply is scripted for request 1" in caught.value.__notes__[0]


def test_a_function_that_fails_is_raised_at_the_end_with_its_cause() -> None:
    def function(_: object) -> str:
        raise ZeroDivisionError("oh")

    with pytest.raises(ScriptError, match="failed: ZeroDivisionError: oh") as caught, FakeProvider() as fake:  # noqa: PT012
        fake.says(function)
        with pytest.raises(ScriptError):
            ask(fake.config(GROQ, TOGETHER))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_assertion_shows_what_was_asked_instead() -> None:
    with FakeProvider() as fake:
        fake.says("Hum.", "left over")
        ask(fake.config(), tools=[TOOL], temperature=0)
    assert fake.assert_asked("llamas", target="groq", tools=["roll"], stream=False, params={"temperature": 0}, times=1)
    with pytest.raises(AssertionError) as caught:
        fake.assert_asked("alpacas", target="together")
    assert str(caught.value).splitlines() == [
        "expected a request to together, with 'alpacas'; there were none",
        "asked was:",
        "  request 1 to groq/openai/gpt-oss-20b: 'Why do llamas hum?' (tools roll; temperature=0.0) - it went to "
        "groq/openai/gpt-oss-20b",
    ]
    with pytest.raises(AssertionError, match=r"its temperature is 0\.0"):
        fake.assert_asked(params={"temperature": 1})
    with pytest.raises(AssertionError, match="replies were never asked for: 1 for any request"):
        fake.assert_said_everything()


@targets
def test_lists_of_models_are_answered(target: str) -> None:
    with FakeProvider() as fake, LlamaClient(fake.config(target)) as client:
        fake.serves(target)
        assert target in {each.target for each in client.models.list() if each.is_served}


def test_an_app_without_a_configuration_is_answered_by_an_ollama_that_is_not_there() -> None:
    with FakeProvider() as fake, LlamaClient() as client:
        fake.says("Hello")
        assert client.ask("hi").provider == "ollama"


def test_images_behind_addresses_are_fetched() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/llama.png?size=3"}}
    content = [{"type": "text", "text": "What is it?"}, image]
    with FakeProvider() as fake:
        fake.says("A llama.")
        made = ask(fake.config("ollama/llama3.2-vision"), messages=[{"role": "user", "content": content}])
    assert made.text == "A llama."
    assert fake.requests[0].messages[0]["images"][0].startswith("iVBOR")


def test_local_only_refuses_what_it_refuses() -> None:
    with FakeProvider() as fake:
        with LlamaClient(fake.config(), local_only=True) as client, pytest.raises(errors.LocalOnlyError):
            client.ask("hi")
        fake.says("Hello")
        with LlamaClient(fake.config("ollama/llama3.2"), local_only=True) as client:
            assert client.ask("hi").cost.status == "free"
    assert len(fake.requests) == 1


def test_an_answer_in_bytes_is_sent_as_it_is() -> None:
    with FakeProvider() as fake:
        fake.says(as_json({"choices": [{"message": {"content": "raw"}}]}))
        assert ask(fake.config()).text == "raw"


def test_fifty_threads_get_each_their_own_answer() -> None:
    with FakeProvider(clock=FakeClock()) as fake:
        fake.always(lambda asked: asked.text)
        with LlamaClient(fake.config()) as client, ThreadPoolExecutor(50) as pool:
            texts = list(pool.map(lambda number: client.ask(f"{number}").text, range(300)))
    assert texts == [f"{number}" for number in range(300)]
    assert sorted(each.number for each in fake.requests) == list(range(1, 301))


def test_two_hundred_tasks_get_each_their_own_answer() -> None:
    async def asked(config: dict[str, Any]) -> list[str]:
        async with AsyncLlamaClient(config) as client:
            return [each.text for each in await asyncio.gather(*(client.ask(f"{number}") for number in range(200)))]

    with FakeProvider(clock=FakeClock()) as fake:
        fake.says(*(lambda request: Reply(request.text, after_s=1) for _ in range(200)))
        assert asyncio.run(asked(fake.config())) == [f"{number}" for number in range(200)]
        fake.assert_said_everything()


def test_n_choices_and_log_probabilities() -> None:
    with FakeProvider() as fake:
        fake.says(Reply("a", others=("b",), logprobs=[("a", -0.5)]))
        made = ask(fake.config("acme/some-model"), n=3, logprobs=True)
    assert [each.message.content for each in made.choices] == ["a", "b", "a"]
    assert made.choices[0].logprobs is not None
    assert made.choices[0].logprobs.content is not None
    assert made.choices[0].logprobs.content[0].logprob == -0.5


@modes
def test_a_stream_keeps_its_pace(mode: str) -> None:
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake:
        fake.says(Reply(pieces=("a", "b", "c"), after_s=2, pace_s=3))
        made = ask(fake.config(), mode)
    assert made.timing.total_s == pytest.approx(8)
    assert made.timing.ttft_s == pytest.approx(2 if "stream" in mode else 8)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda fake: fake.says(None), "a NoneType cannot be said"),
        (lambda fake: fake.says([]), "a list cannot be said"),
        (lambda fake: fake.says(Reply("a", pieces=("b",))), "must add up to the text"),
        (lambda fake: fake.says(Reply("a", usage=(1,))), "usage: must be"),
        (lambda fake: fake.says(Reply("a", times=0)), "whole number above 0"),
        (lambda fake: fake.on(""), "provider or provider/model"),
        (lambda fake: fake.config("groq"), "each must be provider/model"),
    ],
    ids=["none", "empty", "pieces", "usage", "times", "on", "config"],
)
def test_what_cannot_be_said_is_refused_at_once(make: Any, told: str) -> None:
    with FakeProvider() as fake, pytest.raises((TypeError, ValueError), match=told):
        make(fake)


def _odd() -> object:
    return object()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Reply(5), "text: must be a str"),  # type: ignore[arg-type]
        (lambda: Reply({"a": 1}), "say an object or a tool call itself"),  # type: ignore[arg-type]
        (lambda: Reply(tool_calls=called("roll")), r"tool_calls: must be a list of tool_call\(\.\.\.\)"),  # type: ignore[arg-type]
        (lambda: Reply(usage=(3, "2")), "usage: must be whole numbers"),  # type: ignore[arg-type]
        (lambda: Reply(usage=(3, -2)), "usage: must be"),
        (lambda: Reply(pieces="abc"), "pieces: must be a list of str"),
        (lambda: Reply(headers={"retry-after": 3}), "headers: 'retry-after': must be a str"),  # type: ignore[dict-item]
        (lambda: Reply(after_s=float("nan")), "after_s: must be 0 or more"),
        (lambda: Reply(after_s="1"), "after_s: must be a number"),  # type: ignore[arg-type]
        (lambda: Reply(reasoning=b"hm"), "reasoning: must be a str"),  # type: ignore[arg-type]
        (lambda: called("roll", of=_odd()), "arguments: must be what JSON can hold"),
        (lambda: FakeProvider(clock=FakeClock().clock), "clock: must be a FakeClock"),  # type: ignore[arg-type]
        (lambda: FakeProvider().always(Reply("x", times=2)), "times: of what is always said"),
    ],
)
def test_a_mistake_in_a_reply_is_refused_where_it_is_made(make: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        make()


def test_a_tool_is_called_with_a_date() -> None:
    from datetime import UTC, datetime

    assert called("book", at=datetime(2026, 1, 1, tzinfo=UTC)).as_json == '{"at": "2026-01-01T00:00:00Z"}'


def test_a_reply_that_cannot_be_written_is_told_at_the_end_though_the_app_caught_it() -> None:
    reply = Reply("Hum.")
    # What no check of types can see.
    object.__setattr__(reply, "reasoning", 5)
    with pytest.raises(ScriptError, match=r"the reply to request 1 to .* cannot be given"), FakeProvider() as fake:  # noqa: PT012
        fake.says(reply)
        with pytest.raises(errors.LlamaClientError):
            ask(fake.config(GROQ, TOGETHER))


def test_a_completion_is_no_reply() -> None:
    from llama_client.testing import completion

    with FakeProvider() as fake, pytest.raises(TypeError, match="say its text"):
        fake.says(completion("Hello"))


@pytest.mark.parametrize("breaks", ["cut", "reset"])
def test_an_answer_that_breaks_off_does_so_however_long_its_head_is(breaks: Any) -> None:
    with FakeProvider() as fake:
        fake.says(Reply("x", breaks=breaks, headers={"x-long": "y" * 5000}))
        with pytest.raises(errors.APIConnectionError):
            ask({**fake.config(), "routing": {"retries": 0}})
