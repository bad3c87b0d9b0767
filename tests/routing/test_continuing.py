"""A stream that breaks off goes on from another target where that is wanted, and says so."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatCompletion, LlamaClient, StreamInterruptedError
from tests.routing.asking import MESSAGES, ask, ask_all, broken_after, config, failing, story
from tests.wire.dialects import OPENAI
from tests.wire.server import Answer, Received, ReplayServer, silence, streamed

each_stream = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])


def continuing(*servers: ReplayServer, **tables: Any) -> dict[str, Any]:
    """A configuration in which streams are continued, by targets that can."""
    made = config(*servers, routing={"on_interrupt": "continue"}, **tables)
    rows = [{"target": f"{name}/m", "name": f"m-{name}", "abilities": ["prefill"]} for name in made["providers"]]
    return {**made, "models": rows}


def going_on(*pieces: str) -> Any:
    """A server that goes on from a last assistant message."""

    def answer(request: Received) -> Answer:
        assert request.json["messages"][-1]["role"] == "assistant"
        return streamed([OPENAI.preamble(), *map(OPENAI.text, pieces), *OPENAI.ending()])

    return answer


@each_stream
def test_the_next_target_goes_on_from_what_has_arrived(mode: str) -> None:
    with ReplayServer(lambda request: broken_after("To tell ", "each ")) as first:
        with ReplayServer(going_on("other how ", "they are.")) as second:
            reply = ask(continuing(first, second), mode, max_tokens=100)
        sent = second.requests[0].json
    assert reply.text == "To tell each other how they are."
    assert sent["messages"] == [*MESSAGES, {"role": "assistant", "content": "To tell each "}]
    # What has been said counts.
    assert sent["max_tokens"] == 98
    # vLLM's way.
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert reply.target == "b/m"
    assert [(each.target, each.outcome) for each in reply.attempts] == [("a/m", "interrupted"), ("b/m", "ok")]
    assert reply.warnings == ["a/m was interrupted after 13 characters; b/m continued"]
    assert reply.usage.completion_tokens is None
    assert reply.timing.ttft_s is not None
    assert reply.timing.ttft_s <= (reply.attempts[0].latency_s or 0)


@each_stream
def test_it_may_break_off_again(mode: str) -> None:
    with ReplayServer(lambda request: broken_after("a ")) as first:
        with ReplayServer(lambda request: broken_after("b ")) as second, ReplayServer(going_on("c")) as third:
            reply = ask(continuing(first, second, third), mode)
            assert third.requests[0].json["messages"][-1]["content"] == "a b "
    assert reply.text == "a b c"
    assert [each.outcome for each in reply.attempts] == ["interrupted", "interrupted", "ok"]


@each_stream
def test_where_nobody_can_go_on_the_break_is_raised_with_all_that_was_tried(mode: str) -> None:
    with ReplayServer(lambda request: broken_after("a ")) as first:
        with ReplayServer(lambda request: failing(401)) as second:
            [error] = ask_all(continuing(first, second), mode, 1)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "a "
    assert story(error) == [("a/m", "APIConnectionError", True), ("b/m", "AuthenticationError", True)]


@each_stream
@pytest.mark.parametrize("wanted", [True, False])
def test_a_target_that_is_not_known_to_go_on_is_not_asked_to(mode: str, *, wanted: bool) -> None:
    with ReplayServer(lambda request: broken_after("a ")) as first, ReplayServer(going_on("b")) as second:
        tables = continuing(first, second)
        if wanted:
            tables["models"] = []
        else:
            tables["routing"] = {}
        [error] = ask_all(tables, mode, 1)
        assert isinstance(error, StreamInterruptedError)
        assert second.requests == []


@each_stream
def test_an_end_without_a_finish_reason_is_a_break_too(mode: str) -> None:
    with ReplayServer(lambda request: streamed([OPENAI.text("a ")])) as first, ReplayServer(going_on("b")) as second:
        assert ask(continuing(first, second), mode).text == "a b"


@each_stream
def test_tool_calls_are_not_gone_on_from(mode: str) -> None:
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    chunk = {"id": "c1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    with ReplayServer(lambda request: streamed([OPENAI.event(chunk)], "reset")) as first:
        with ReplayServer(going_on("b")) as second:
            [error] = ask_all(continuing(first, second), mode, 1)
    assert isinstance(error, StreamInterruptedError)


def test_a_real_model_goes_on_from_what_a_server_began(demo_model: Path) -> None:
    beginning = "The capital of Japan"
    with ReplayServer(lambda request: broken_after(beginning)) as server:
        tables = config(server, routing={"on_interrupt": "continue"})
        tables["providers"]["b"] = {"kind": "gguf", "model_path": str(demo_model), "n_ctx": 2048}
        tables["routes"]["chat"]["targets"] = ["a/m", "b/default"]
        question = [{"role": "user", "content": "What is the capital of Japan?"}]
        with LlamaClient(tables) as client:
            stream = client.chat.completions.create(messages=question, stream=True, temperature=0, max_tokens=60)
            shown = "".join(chunk.text for chunk in stream)
            reply: ChatCompletion = stream.completion
    assert shown == reply.text
    assert reply.text.startswith(f"{beginning} is Tokyo")
    assert reply.target == "b/default"


@each_stream
def test_each_that_goes_on_gets_the_whole_beginning_once(mode: str) -> None:
    with ReplayServer(lambda request: broken_after("a ", "a ")) as first:
        with ReplayServer(lambda request: broken_after("b ", "b ")) as second, ReplayServer(going_on("c")) as third:
            ask(continuing(first, second, third), mode, max_tokens=10)
            sent = third.requests[0].json
    assert sent["messages"] == [*MESSAGES, {"role": "assistant", "content": "a a b b "}]
    assert sent["max_tokens"] == 6


@each_stream
def test_several_answers_at_once_are_not_gone_on_from(mode: str) -> None:
    with ReplayServer(lambda request: broken_after("a ")) as first, ReplayServer(going_on("b")) as second:
        [error] = ask_all(continuing(first, second), mode, 1, n=2)
        assert isinstance(error, StreamInterruptedError)
        assert second.requests == []


def test_closing_a_stream_ends_the_search_for_somebody_who_goes_on() -> None:
    with ReplayServer(lambda request: broken_after("a ")) as first, ReplayServer(lambda request: silence()) as second:
        with LlamaClient(continuing(first, second)) as client:
            stream = client.chat.completions.create(messages=MESSAGES, stream=True)
            seen: list[object] = []

            def read() -> None:
                try:
                    seen.extend(chunk.text for chunk in stream)
                except StreamInterruptedError as error:
                    seen.append(error)

            reader = threading.Thread(target=read)
            reader.start()
            time.sleep(0.5)
            stream.close()
            reader.join(5)
            assert not reader.is_alive()
            assert "".join(str(text) for text in seen) == "a "
            assert client.health()["b/m"].in_flight == 0
