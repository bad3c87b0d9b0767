"""What calls get of the cache, and what is recorded of that."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    AsyncLlamaClient,
    BudgetExceededError,
    ConfigError,
    InvalidRequestError,
    LlamaClient,
    LocalOnlyError,
    RateLimitError,
    ServerError,
)
from llama_client.testing import FakeClock, FakeProvider, Reply, tool_call

_TOOL = {"type": "function", "function": {"name": "roll", "parameters": {"type": "object", "properties": {}}}}
Config = dict[str, Any]


class City(BaseModel):
    city: str


def test_a_rerun_is_answered_from_the_cache_and_costs_nothing(config: Config) -> None:
    with FakeProvider() as fake:
        fake.says(Reply("Tokyo.", usage=(10, 3)))
        with LlamaClient(config) as client:
            first = client.ask("The capital of Japan?")
        # Another client, as in another run.
        with LlamaClient(config) as client:
            again = client.ask("The capital of Japan?")
            report = client.costs.report()
            traffic = client.costs.traffic()
    assert len(fake.requests) == 1
    assert (again.text, again.id, again.usage, again.raw) == (first.text, first.id, first.usage, first.raw)
    assert (first.is_cached, again.is_cached) == (False, True)
    [attempt] = again.attempts
    assert (attempt.outcome, attempt.sent, attempt.usage) == ("cached", False, None)
    assert again.cost.usd == 0
    assert attempt.saved_usd == first.cost.usd == Decimal("0.000016")
    assert (report.calls, report.cached_calls, report.saved_usd) == (2, 1, first.cost.usd)
    assert report.total_usd == first.cost.usd
    assert [(group.cached_calls, group.saved_usd) for group in report.groups] == [(1, first.cost.usd)]
    # No load of any machine.
    assert traffic.calls == 1


@pytest.mark.parametrize("kind", ["text", "tools"])
def test_the_short_way_gives_the_same_as_the_long_one(config: Config, kind: str, tmp_path: Path) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "a"}], "tags": {"a": "b"}}
    if kind == "tools":
        asked["tools"] = [_TOOL]
    replies = []
    with FakeProvider() as fake:
        fake.says(tool_call("roll") if kind == "tools" else Reply("x", reasoning="hm"))
        for local_only in (False, False, True):
            # Under `local_only` each call goes the long way.
            with LlamaClient(config, local_only=local_only) as client:
                client.chat.completions.create(**asked)
                replies.append(client.chat.completions.create(**asked))
    _, short, long = replies
    ours = {"request_id", "timing", "attempts"}
    assert short.model_dump(exclude=ours) == long.model_dump(exclude=ours)
    assert short.raw == long.raw
    assert short.choices[0].message._made_by == long.choices[0].message._made_by == "some/m"
    times = {"latency_s", "ttft_s"}
    assert [each.attempts[0].model_dump(exclude=times) for each in (short, long)] == [
        short.attempts[0].model_dump(exclude=times)
    ] * 2
    # All columns, but for which call it was and when.
    own = {"id", "request_id", "at_us", "latency_us", "ttft_us"}
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        cursor = ledger.execute("SELECT * FROM llama_client_attempts WHERE outcome = 'cached'")
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
    rows = [{name: value for name, value in each.items() if name not in own} for each in found]
    assert len(rows) == 5
    assert rows == rows[:1] * 5


class Looked(Mapping[str, Any]):
    """A message that counts how often it is read."""

    def __init__(self, content: str) -> None:
        self._values = {"role": "user", "content": content}
        self.times = 0

    def __getitem__(self, name: str) -> str:
        self.times += 1
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_call_that_is_not_in_the_cache_is_checked_once(config: Config, is_async: bool) -> None:
    def times(config: Config) -> int:
        message = Looked("Why?")
        if is_async:

            async def ask() -> None:
                async with AsyncLlamaClient(config) as client:
                    await client.chat.completions.create(messages=[message])

            asyncio.run(ask())
        else:
            with LlamaClient(config) as client:
                client.chat.completions.create(messages=[message])
        return message.times

    with FakeProvider() as fake:
        fake.always("Hi")
        assert times(config) == times({**config, "cache": {"enabled": False}})
    assert len(fake.requests) == 2


@pytest.mark.parametrize("local_only", [False, True], ids=["short way", "long way"])
def test_a_warning_about_the_request_is_kept_with_the_answer(config: Config, local_only: bool) -> None:
    groq = {"groq": {"base_url": "http://127.0.0.1:9/v1", "api_key": "k"}}
    config = {**config, "default_model": "groq/m", "providers": groq}
    asked: Any = {"messages": [{"role": "user", "content": "a"}], "frequency_penalty": 0.5}
    replies = []
    with FakeProvider() as fake:
        fake.says("x")
        for _ in range(2):
            # The second client finds it in the database.
            with LlamaClient(config, local_only=local_only) as client:
                replies += [client.chat.completions.create(**asked) for _ in range(2)]
    assert [each.is_cached for each in replies] == [False, True, True, True]
    assert [each.warnings for each in replies] == [["groq accepts frequency_penalty and does not apply it yet"]] * 4


def test_hits_are_reported_by_day_too(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.always("x")
        cost = client.ask("a").cost.usd
        client.ask("a")
        [day] = client.costs.report(by="day").groups
        [of_day] = client.costs.timeline(by="target")
    assert (day.cached_calls, day.saved_usd) == (1, cost)
    assert [(group.cached_calls, group.saved_usd) for group in of_day.groups] == [(1, cost)]


def test_off_is_the_default(config: Config) -> None:
    del config["cache"]
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.always("x")
        assert [client.ask("a").is_cached for _ in range(2)] == [False, False]
    assert len(fake.requests) == 2


@pytest.mark.parametrize("first_streams", [False, True], ids=["from a whole", "from a stream"])
@pytest.mark.parametrize("then_streams", [False, True], ids=["whole", "streamed"])
def test_a_stream_and_a_whole_answer_serve_each_other(config: Config, first_streams: bool, then_streams: bool) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "Roll!"}], "tools": [_TOOL]}
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says(tool_call("roll", sides=6))
        replies = []
        for streams in (first_streams, then_streams):
            if streams:
                options = {"include_usage": True}
                with client.chat.completions.create(**asked, stream=True, stream_options=options) as stream:
                    chunks = list(stream)
                assert chunks[-1].usage is not None
                replies.append(stream.completion)
            else:
                replies.append(client.chat.completions.create(**asked))
    first, again = replies
    assert again.is_cached
    assert again.choices == first.choices
    assert again.usage == first.usage
    assert again.choices[0].message.tool_calls[0].function.arguments == '{"sides": 6}'


@pytest.mark.parametrize(
    "reply",
    [
        Reply("no", finish_reason="content_filter"),
        Reply("cut", finish_reason="length"),
        Reply("odd", finish_reason="because"),
        Reply(""),
    ],
    ids=["filtered", "cut", "unknown end", "empty"],
)
def test_an_answer_with_a_doubt_is_not_kept(config: Config, reply: Reply) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says(reply, "whole")
        client.ask("a")
        assert client.ask("a").text == "whole"


def test_an_answer_at_the_limit_of_the_request_is_kept(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says(Reply("cut", finish_reason="length"))
        client.ask("a", max_tokens=1)
        again = client.ask("a", max_tokens=1)
    assert (again.is_cached, again.choices[0].finish_reason) == (True, "length")


def test_an_error_is_not_kept(config: Config) -> None:
    config["routing"] = {"retries": 0}
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.fails(ServerError).says("there")
        with pytest.raises(ServerError):
            client.ask("a")
        assert client.ask("a").text == "there"


def test_a_stream_that_was_not_read_to_its_end_is_not_kept(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says("one two three", "whole")
        with client.chat.completions.create(messages=[{"role": "user", "content": "a"}], stream=True) as stream:
            next(stream)
        assert client.ask("a").text == "whole"


def test_a_hit_needs_no_healthy_target_and_no_budget(config: Config) -> None:
    config["routing"] = {"retries": 0, "breaker_failures": 1}
    config["budgets"] = [{"usd": 0.001, "window": "total"}]
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says("kept").fails(ServerError)
        client.ask("a", max_tokens=9)
        with pytest.raises(ServerError):
            client.ask("b", max_tokens=9)
        assert client.health()["some/m"].breaker == "open"
        with pytest.raises(BudgetExceededError):
            client.ask("c", max_tokens=1_000_000)
        spent = client.costs.budgets()[0].spent_usd
        assert client.ask("a", max_tokens=9).is_cached
        assert client.costs.budgets()[0].spent_usd == spent


def test_each_target_has_its_own_answers(config: Config) -> None:
    config["providers"]["other"] = {**config["providers"]["some"], "base_url": "http://127.0.0.1:8/v1"}
    with FakeProvider() as fake, LlamaClient(config) as client:
        numbers = itertools.count()
        fake.always(lambda request: f"answer {next(numbers)}")
        texts = {client.ask("a", model=model).text for model in ("some/m", "some/n", "other/m")}
    assert len(texts) == 3


def test_a_provider_under_another_name_finds_the_same_answers(config: Config) -> None:
    config["providers"]["renamed"] = config["providers"]["some"]
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says("x")
        client.ask("a")
        again = client.ask("a", model="renamed/m")
    assert (again.is_cached, again.target) == (True, "renamed/m")


def test_a_namespace_and_its_tags_divide_the_answers(config: Config) -> None:
    config["cache"]["namespace_tags"] = ["sample"]
    other = {**config, "cache": {**config["cache"], "namespace": "other"}}
    with FakeProvider() as fake:
        numbers = itertools.count()
        fake.always(lambda request: f"answer {next(numbers)}")
        texts = []
        for each in (config, other):
            with LlamaClient(each) as client:
                texts += [
                    client.ask("a", tags={"sample": str(i), "x": str(j)}).text for i in range(2) for j in range(2)
                ]
    assert [text.removeprefix("answer ") for text in texts] == list("00112233")


def test_a_view_may_ask_anew_or_do_without(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says("first", "second", "third")
        client.ask("a")
        assert client.with_options(cache="off").ask("a").text == "second"
        assert client.ask("a").text == "first"
        assert client.with_options(cache="refresh").ask("a").text == "third"
        assert client.ask("a").text == "third"
        with pytest.raises(InvalidRequestError, match="cache: must be one of"):
            client.with_options(cache="never")  # type: ignore[arg-type]


def test_an_object_is_parsed_from_the_cache(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says(City(city="Tokyo"))
        asked: Any = {"messages": [{"role": "user", "content": "a"}], "response_format": City}
        client.chat.completions.parse(**asked)
        again = client.chat.completions.parse(**asked)
    assert again.is_cached
    assert again.choices[0].message.parsed == City(city="Tokyo")


def test_an_answer_that_the_caller_changed_stays_as_it_was(config: Config) -> None:
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.says("x")
        for _ in range(3):
            reply = client.ask("a")
            assert reply.text == "x"
            reply.choices[0].message.content = "changed"
            reply.usage.prompt_tokens = 0


def test_old_answers_are_not_used(config: Config) -> None:
    config["cache"] |= {"url": "memory", "max_age_days": 1.0}
    clock = FakeClock()
    with FakeProvider(clock=clock) as fake, LlamaClient(config) as client:
        fake.says("old", "new")
        client.ask("a")
        clock.turn(86_000)
        assert client.ask("a").text == "old"
        clock.turn(1_000)
        assert client.ask("a").text == "new"


def test_many_equal_calls_in_threads_make_one(config: Config) -> None:
    entered = threading.Event()

    def answer(request: Any) -> str:
        entered.wait(10)
        return "x"

    with FakeProvider() as fake, LlamaClient(config) as client, ThreadPoolExecutor(200) as pool:
        fake.always(answer)
        calls = [pool.submit(client.ask, "a") for _ in range(200)]
        entered.set()
        replies = [call.result() for call in calls]
    assert len(fake.requests) == 1
    assert sum(reply.is_cached for reply in replies) == 199


@pytest.mark.parametrize("url", ["memory", "sqlite"])
def test_many_equal_tasks_make_one_call(config: Config, url: str) -> None:
    if url == "memory":
        config["cache"]["url"] = "memory"

    async def ask() -> int:
        with FakeProvider() as fake:
            async with AsyncLlamaClient(config) as client:
                fake.always("x")
                replies = await asyncio.gather(*[client.ask("a") for _ in range(200)])
                assert sum(reply.is_cached for reply in replies) == 199
                return len(fake.requests)

    assert asyncio.run(ask()) == 1


def test_a_thread_waits_for_a_task_of_another_client(config: Config) -> None:
    entered, leave = threading.Event(), threading.Event()

    def answer(request: Any) -> str:
        entered.set()
        leave.wait(10)
        return "x"

    def in_a_loop() -> str:
        async def ask() -> str:
            async with AsyncLlamaClient(config) as client:
                return (await client.ask("a")).text

        return asyncio.run(ask())

    with FakeProvider() as fake, ThreadPoolExecutor(2) as pool, LlamaClient(config) as client:
        fake.always(answer)
        first = pool.submit(in_a_loop)
        assert entered.wait(10)
        second = pool.submit(client.ask, "a")
        leave.set()
        assert (first.result(), second.result().text) == ("x", "x")
    assert len(fake.requests) == 1


def test_the_failure_of_one_call_is_not_that_of_all(config: Config) -> None:
    config["routing"] = {"retries": 0}

    async def ask() -> tuple[int, int, int]:
        with FakeProvider() as fake:
            async with AsyncLlamaClient(config) as client:
                fake.fails(RateLimitError).always("x")
                calls = [client.ask("a") for _ in range(50)]
                ended = await asyncio.gather(*calls, return_exceptions=True)
                failed = sum(isinstance(each, Exception) for each in ended)
                return failed, len(ended) - failed, len(fake.requests)

    assert asyncio.run(ask()) == (1, 49, 2)


def test_a_cancelled_call_hands_over_to_the_next(config: Config) -> None:
    async def ask() -> tuple[str, int]:
        with FakeProvider() as fake:
            async with AsyncLlamaClient(config) as client:
                began = asyncio.Event()

                def answer(request: Any) -> Reply:
                    began.set()
                    return Reply("x", after_s=0.05)

                fake.always(answer)
                first = asyncio.create_task(client.ask("a"))
                await began.wait()
                second = asyncio.create_task(client.ask("a"))
                await asyncio.sleep(0)
                first.cancel()
                return (await second).text, len(fake.requests)

    assert asyncio.run(ask()) == ("x", 2)


def test_an_unread_stream_holds_up_no_equal_call_of_its_own_thread(config: Config) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "a"}], "stream": True}
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.always("one two three")
        with client.chat.completions.create(**asked) as first, client.chat.completions.create(**asked) as second:
            assert "".join(chunk.text for chunk in second) == "one two three"
            assert "".join(chunk.text for chunk in first) == "one two three"


def test_a_broken_database_fails_no_call(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "answers.db").write_bytes(b"this is no database, and long enough to be seen as none" * 9)
    with FakeProvider() as fake, LlamaClient(config) as client:
        fake.always("x")
        assert [client.ask(text).text for text in "ab"] == ["x", "x"]
        # What is in memory is still found.
        assert client.ask("a").is_cached
    warnings = [record for record in caplog.records if record.name == "llama_client.cache"]
    assert len(warnings) == 1


def test_a_damaged_answer_is_asked_for_again(config: Config, tmp_path: Path) -> None:
    with FakeProvider() as fake:
        fake.always("x")
        with LlamaClient(config) as client:
            client.ask("a")
        with closing(sqlite3.connect(tmp_path / "answers.db")) as database, database:
            database.execute("UPDATE llama_client_answers SET value = substr(value, 1, length(value) - 5)")
        with LlamaClient(config) as client:
            assert not client.ask("a").is_cached


def test_a_locked_database_fails_no_call(config: Config, tmp_path: Path) -> None:
    with FakeProvider() as fake:
        fake.always("x")
        with LlamaClient(config) as client:
            client.ask("a")
        with closing(sqlite3.connect(tmp_path / "answers.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            with LlamaClient(config) as client:
                assert client.ask("b").text == "x"
            database.execute("ROLLBACK")


def test_the_size_of_the_cache_is_bounded(config: Config, tmp_path: Path) -> None:
    config["cache"]["max_mib"] = 1
    long = os.urandom(16_000).hex()
    with FakeProvider() as fake:
        fake.always(long)
        with LlamaClient(config) as client:
            for number in range(60):
                client.ask(str(number))
    with closing(sqlite3.connect(tmp_path / "answers.db")) as database:
        [(size, rows)] = database.execute("SELECT sum(size), count(*) FROM llama_client_answers")
    assert size <= (1 << 20) + (1 << 18)
    assert 0 < rows < 60


def test_neither_question_nor_key_is_in_the_file(config: Config, tmp_path: Path) -> None:
    with FakeProvider() as fake:
        fake.always("answer")
        with LlamaClient(config) as client:
            client.ask("a-secret-question", extra_headers={"X-Key": "a-secret-key"})
    found = b"".join(file.read_bytes() for file in tmp_path.glob("answers.db*"))
    assert b"a-secret" not in found
    if os.name == "posix":
        assert (tmp_path / "answers.db").stat().st_mode & 0o077 == 0


def test_local_only_refuses_a_cache_on_another_machine(config: Config) -> None:
    config["cache"]["url"] = "postgresql://user@db.example.com/answers"
    with pytest.raises(LocalOnlyError) as caught:
        LlamaClient(config, local_only=True)
    assert caught.value.rule == "cache"


def test_wrong_settings_name_their_key(config: Config) -> None:
    config["cache"]["max_age_days"] = 0
    with pytest.raises(ConfigError, match=r"cache\.max_age_days"):
        LlamaClient(config)
