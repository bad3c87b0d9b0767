"""A stream that breaks off goes on from another target where that is wanted, and says so."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from llama_client import ChatCompletion, LlamaClient, StreamInterruptedError
from llama_client.testing.clock import FakeClock
from llama_client.testing.dialects import OLLAMA, OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, as_json, silence, streamed
from tests.routing.asking import (
    MESSAGES,
    PLENTY_S,
    Session,
    ask,
    ask_all,
    broken_after,
    config,
    failing,
    good,
    story,
    until,
)
from tests.routing.in_memory import MemoryServer

each_stream = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])


def continuing(*servers: MemoryServer | WireServer, **tables: Any) -> dict[str, Any]:
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
    fake = FakeClock()

    def later(request: Received) -> Answer:
        fake.turn(10.0)
        answer: Answer = going_on("other how ", "they are.")(request)
        return answer

    with WireServer(lambda request: broken_after("To tell ", "each ")) as first:
        with WireServer(later) as second:
            reply = ask(continuing(first, second), mode, fake, max_tokens=100)
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
    # That of the first target.
    assert reply.timing.ttft_s == pytest.approx(0.0)
    assert reply.timing.total_s == pytest.approx(10.0)


@each_stream
def test_it_may_break_off_again(mode: str) -> None:
    with MemoryServer(lambda request: broken_after("a ")) as first:
        with MemoryServer(lambda request: broken_after("b ")) as second, MemoryServer(going_on("c")) as third:
            reply = ask(continuing(first, second, third), mode)
            assert third.requests[0].json["messages"][-1]["content"] == "a b "
    assert reply.text == "a b c"
    assert [each.outcome for each in reply.attempts] == ["interrupted", "interrupted", "ok"]


@each_stream
def test_where_nobody_can_go_on_the_break_is_raised_with_all_that_was_tried(mode: str) -> None:
    with MemoryServer(lambda request: broken_after("a ")) as first:
        with MemoryServer(lambda request: failing(401)) as second:
            [error] = ask_all(continuing(first, second), mode, 1)
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "a "
    assert story(error) == [("a/m", "APIConnectionError", True), ("b/m", "AuthenticationError", True)]


@each_stream
@pytest.mark.parametrize("wanted", [True, False])
def test_a_target_that_is_not_known_to_go_on_is_not_asked_to(mode: str, *, wanted: bool) -> None:
    with MemoryServer(lambda request: broken_after("a ")) as first, MemoryServer(going_on("b")) as second:
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
    with (
        MemoryServer(lambda request: streamed([OPENAI.text("a ")])) as first,
        MemoryServer(going_on("b")) as second,
    ):
        assert ask(continuing(first, second), mode).text == "a b"


@each_stream
def test_tool_calls_are_not_gone_on_from(mode: str) -> None:
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}
    chunk = {"id": "c1", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    with MemoryServer(lambda request: streamed([OPENAI.event(chunk)], "reset")) as first:
        with MemoryServer(going_on("b")) as second:
            [error] = ask_all(continuing(first, second), mode, 1)
    assert isinstance(error, StreamInterruptedError)


def test_a_real_model_goes_on_from_what_a_server_began(demo_model: Path) -> None:
    beginning = "The capital of Japan"
    with MemoryServer(lambda request: broken_after(beginning)) as server:
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
    with MemoryServer(lambda request: broken_after("a ", "a ")) as first:
        with MemoryServer(lambda request: broken_after("b ", "b ")) as second, MemoryServer(going_on("c")) as third:
            ask(continuing(first, second, third), mode, max_tokens=10)
            sent = third.requests[0].json
    assert sent["messages"] == [*MESSAGES, {"role": "assistant", "content": "a a b b "}]
    assert sent["max_tokens"] == 6


@each_stream
def test_several_answers_at_once_are_not_gone_on_from(mode: str) -> None:
    with MemoryServer(lambda request: broken_after("a ")) as first, MemoryServer(going_on("b")) as second:
        [error] = ask_all(continuing(first, second), mode, 1, n=2)
        assert isinstance(error, StreamInterruptedError)
        assert second.requests == []


def test_closing_a_stream_ends_the_search_for_somebody_who_goes_on() -> None:
    with (
        MemoryServer(lambda request: broken_after("a ")) as first,
        MemoryServer(lambda request: silence()) as second,
    ):
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
            until(lambda: bool(second.requests))
            stream.close()
            reader.join(PLENTY_S)
            assert not reader.is_alive()
            assert "".join(str(text) for text in seen) == "a "
            assert client.health()["b/m"].in_flight == 0


# A target that does not go on, but begins again.

LONG = "Llamas hum to tell each other how they are, and "
LINES = "Llamas hum.\nThey hum to tell each other how they are, and"
LOG = "".join(f"line: 2026-11-30 11:50:0{second} ok\n" for second in range(4))
AGAIN = [
    pytest.param("The capital of", ["The", " capital", " of", " Japan"], "The capital of Japan", id="token by token"),
    pytest.param("The capital of", ["The capital of Japan"], "The capital of Japan", id="at once"),
    pytest.param("The capital of", [" The capital", " of Japan"], "The capital of Japan", id="after a space"),
    pytest.param("The capital of ", ["The capital of", " ", "Japan"], "The capital of Japan", id="with its last space"),
    pytest.param(LONG, [LONG[:20], LONG[20:] + "to each other."], f"{LONG}to each other.", id="a long one"),
    pytest.param(LONG, [*LONG, "to each other."], f"{LONG}to each other.", id="character by character"),
    pytest.param(LINES, ["\n\n", LINES, " more."], f"{LINES} more.", id="lines after lines"),
]
ONWARD = [
    pytest.param("The capital of", [" Japan"], "The capital of Japan", id="plainly"),
    pytest.param("The capital of The ", ["The", " Hague"], "The capital of The The Hague", id="with the same word"),
    pytest.param("ha ha ", ["ha ha", "!"], "ha ha ha ha!", id="a refrain"),
    pytest.param("1, 1, ", ["1, 1, ", "2"], "1, 1, 1, 1, 2", id="numbers"),
    pytest.param("| a |\n|---|\n", ["| b", " |"], "| a |\n|---|\n| b |", id="a table"),
    pytest.param("No", ["No"], "NoNo", id="too short to tell"),
    pytest.param("very", [" very", " good"], "very very good", id="a word"),
    pytest.param("New York,", [" New York, it's big"], "New York, New York, it's big", id="a name"),
    pytest.param("- item\n", ["- item\n", "- last\n"], "- item\n- item\n- last\n", id="a list"),
    pytest.param("- an item of it", ["\n- an item of it"], "- an item of it\n- an item of it", id="a list in words"),
    pytest.param(LOG, [LOG, "end"], f"{LOG}{LOG}end", id="a log, again"),
    pytest.param(LOG, [LOG[:100], "1 failed"], f"{LOG}{LOG[:100]}1 failed", id="a log, nearly again"),
    pytest.param(LOG[:29], [LOG[:26], "1 ok\n"], f"{LOG[:29]}{LOG[:26]}1 ok\n", id="a line of a log"),
    pytest.param(LONG.strip() + "\n", [LONG, "so"], f"{LONG.strip()}\n{LONG}so", id="a whole line"),
    pytest.param("The capital of", ["The capital", " city"], "The capital ofThe capital city", id="a part of it"),
    pytest.param("The capital of", [" " * 70, "The capital of"], f"The capital of{' ' * 70}The capital of", id="space"),
]


@each_stream
@pytest.mark.parametrize(("beginning", "pieces", "whole"), AGAIN)
def test_what_a_target_says_again_is_shown_once(beginning: str, pieces: list[str], whole: str, mode: str) -> None:
    with MemoryServer(lambda request: broken_after(beginning)) as first:
        with MemoryServer(going_on(*pieces)) as second, Session(continuing(first, second), mode) as session:
            [reply] = session.many(1)
            shown = session.shown
    assert reply.text == whole
    assert shown == whole
    assert "b/m said the beginning again, which was taken out of its answer" in reply.warnings


@each_stream
@pytest.mark.parametrize(("beginning", "pieces", "whole"), ONWARD)
def test_what_only_looks_like_a_repetition_is_kept(beginning: str, pieces: list[str], whole: str, mode: str) -> None:
    with MemoryServer(lambda request: broken_after(beginning)) as first:
        with MemoryServer(going_on(*pieces)) as second:
            reply = ask(continuing(first, second), mode)
    assert reply.text == whole
    assert reply.warnings == [f"a/m was interrupted after {len(beginning)} characters; b/m continued"]


LONGER = f"{LONG}they do it all day, in the mountains of"
ANEW = [
    pytest.param(LONGER, [LONGER[:81], "then something else"], id="with other words"),
    pytest.param(LONGER, [*LONGER[:81], "!"], id="character by character"),
    pytest.param(LONGER, [LONGER[:81]], id="that ends before it"),
]


@each_stream
@pytest.mark.parametrize(("beginning", "pieces"), ANEW)
def test_an_answer_that_is_begun_anew_goes_no_further_and_the_next_target_goes_on(
    beginning: str, pieces: list[str], mode: str
) -> None:
    with MemoryServer(lambda request: broken_after(beginning)) as first:
        with MemoryServer(going_on(*pieces)) as second, MemoryServer(going_on(" end")) as third:
            reply = ask(continuing(first, second, third), mode)
            [error] = ask_all(continuing(first, second), mode, 1)
    assert reply.text == f"{beginning} end"
    assert [(each.target, each.outcome) for each in reply.attempts] == [
        ("a/m", "interrupted"),
        ("b/m", "error"),
        ("c/m", "ok"),
    ]
    assert "began the answer anew" in (reply.attempts[1].reason or "")
    # What it has written is paid for.
    assert reply.attempts[1].estimated_usage is not None
    assert reply.attempts[1].estimated_usage.completion_tokens
    assert isinstance(error, StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == beginning


@each_stream
def test_an_answer_that_is_begun_anew_after_thinking_goes_no_further_either(mode: str) -> None:
    def answer(request: Received) -> Answer:
        chunk = {"id": "c1", "created": 1, "model": "m"}
        thought = {**chunk, "choices": [{"index": 0, "delta": {"reasoning": "Hm."}, "finish_reason": None}]}
        return streamed([OPENAI.event(thought), OPENAI.text(f"{LONGER[:81]}!"), *OPENAI.ending()])

    with MemoryServer(lambda request: broken_after(LONGER)) as first:
        with MemoryServer(answer) as second, MemoryServer(going_on(" Peru")) as third:
            reply = ask(continuing(first, second, third), mode)
    assert reply.text == f"{LONGER} Peru"


def test_a_target_that_begins_anew_is_not_taken_for_broken() -> None:
    with MemoryServer(lambda request: broken_after(LONGER)) as first:
        with MemoryServer(going_on(f"{LONGER[:81]}!")) as second:
            with LlamaClient(continuing(first, second)) as client:
                for _ in range(5):
                    with pytest.raises(StreamInterruptedError):
                        list(client.chat.completions.create(messages=MESSAGES, stream=True))
                assert client.health()["b/m"].failures_in_row == 0


# A beginning that the caller gives.

MINE = [*MESSAGES, {"role": "assistant", "content": LONGER}]
each_mode = pytest.mark.parametrize("mode", ["call-sync", "call-async", "stream-sync", "stream-async"])


@each_mode
@pytest.mark.parametrize("content", [LONGER, [{"type": "text", "text": LONGER}]], ids=["text", "parts"])
@pytest.mark.parametrize("said", [f"{LONGER} Peru", " Peru"], ids=["again", "onward"])
def test_a_long_beginning_of_the_caller_s_own_is_not_repeated_in_whole_answers_nor_in_streams(
    said: str, content: Any, mode: str
) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": content}]
    with MemoryServer(good(said)) as server:
        reply = ask(config(server), mode, messages=messages)
    assert reply.text == " Peru"
    assert bool(reply.warnings) == (said != " Peru")


@each_mode
@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        ("very", " very good"),
        ("ROW: ", "ROW: 2"),
        ("New York,", " New York, it's a wonderful town"),
        ("The capital of", "The capital of Japan"),
        (LOG, f"{LOG}end"),
        (f"{LONG.strip()}\n", f"{LONG}so"),
    ],
    ids=["word", "row", "name", "short", "log", "line"],
)
def test_what_proves_no_repetition_is_the_caller_s(beginning: str, said: str, mode: str) -> None:
    with MemoryServer(good(said)) as server:
        reply = ask(config(server), mode, messages=[*MESSAGES, {"role": "assistant", "content": beginning}])
    assert reply.text == said
    assert reply.warnings == []


@pytest.mark.parametrize("mode", ["call-sync", "call-async", "stream-sync", "stream-async"])
def test_an_answer_that_is_begun_anew_is_the_caller_s_to_judge(mode: str) -> None:
    with MemoryServer(good(f"{LONGER[:81]}!")) as server:
        assert ask(config(server), mode, messages=MINE).text == f"{LONGER[:81]}!"


@pytest.mark.parametrize(("timings", "text"), [({"timings": {"predicted_n": 3}}, '"a": 1}'), ({}, '{"a": 1}')])
def test_llama_cpp_s_server_repeats_even_a_short_beginning_in_whole_answers(timings: Any, text: str) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "{"}]
    with MemoryServer(lambda _: as_json({**OPENAI.whole('{"a": 1}'), **timings})) as server:
        reply = ask(config(server), "call-sync", messages=messages)
    assert reply.text == text
    assert reply.raw["choices"][0]["message"]["content"] == '{"a": 1}'


# Ollama, where a model's template decides.

CLOSED = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
OPEN = """
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if or (eq .Role "user") (eq .Role "system") }}<|{{ .Role }}|>
{{ .Content }}<|end|>
{{- else if eq .Role "assistant" }}<|assistant|>
{{ if .ToolCalls }}{{ json .ToolCalls }}{{ else }}{{ .Content }}{{ end }}{{ if not $last }}<|end|>{{ end }}
{{- end }}
{{- if and (ne .Role "assistant") $last }}<|assistant|>
{{ end }}
{{- end }}"""
TEMPLATES = {
    "closed": ({"template": CLOSED}, False),
    "open": ({"template": OPEN}, True),
    "open, with a loop that stops": (
        {"template": OPEN + '{{ range .Messages }}{{ if eq .Role "user" }}{{ break }}{{ end }}{{ end }}'},
        True,
    ),
    "closed where it thinks": ({"template": OPEN + "{{ if .Think }}<think>{{ end }}"}, False),
    "turn by turn": ({"template": "[INST] {{ .System }} {{ .Prompt }} [/INST] {{ .Response }}</s>"}, True),
    "turn by turn, without an answer": ({"template": "{{ .System }} {{ .Prompt }}"}, True),
    "turn by turn, where an answer is": (
        {"template": "{{ .Prompt }}{{ if .Response }}{{ .Response }}<end>{{ end }}"},
        False,
    ),
    "of the file": ({"template": "{% for m in messages %}{{ m.content }}{% endfor %}"}, True),
    "code of Ollama's own": ({"template": OPEN, "renderer": "qwen3-coder"}, False),
    "code of Ollama's own, in the Modelfile": (
        {"template": OPEN, "modelfile": "FROM x\nRENDERER qwen3-coder\n"},
        False,
    ),
    "with a function that is not known": ({"template": "{{ range .Messages }}{{ trim .Content }}{{ end }}"}, False),
    "with a variable that is not": ({"template": "{{ range .Messages }}{{ $x }}{{ .Content }}{{ end }}"}, False),
    "not closed": ({"template": "{{ range .Messages }}{{ .Content }}"}, False),
    "without end": ({"template": "{{ range .Messages }}" * 60 + "{{ .Content }}" + "{{ end }}" * 60}, False),
    "none": ({}, False),
    "no text": ({"template": 7}, False),
}


def ollama(shown: Any, *, status: int = 200) -> Any:
    """An Ollama that goes on from a last message; what it was shown of its model."""

    def answer(request: Received) -> Answer:
        if request.path == "/api/show":
            assert request.method == "POST"
            assert request.json == {"model": "m"}
            return as_json(shown, status=status)
        return OLLAMA.good(streams=True, text=" Japan")

    return answer


def with_ollama(first: MemoryServer | WireServer, second: MemoryServer | WireServer, **tables: Any) -> dict[str, Any]:
    made = config(first, second, routing={"on_interrupt": "continue"}, **tables)
    made["providers"]["b"] = {"kind": "ollama", "base_url": second.url}
    return made


@each_stream
@pytest.mark.parametrize("which", TEMPLATES)
def test_ollama_goes_on_only_where_the_template_is_known_to_leave_the_answer_open(which: str, mode: str) -> None:
    shown, is_open = TEMPLATES[which]
    with (
        MemoryServer(lambda request: broken_after("The capital of")) as first,
        MemoryServer(ollama(shown)) as second,
    ):
        [outcome] = ask_all(with_ollama(first, second), mode, 1)
        asked = [request.path for request in second.requests]
    if is_open:
        assert outcome.text == "The capital of Japan"
        assert asked == ["/api/show", "/api/chat"]
    else:
        assert isinstance(outcome, StreamInterruptedError)
        assert outcome.attempts[-1].outcome == "skipped"
        assert "prefill" in (outcome.attempts[-1].reason or "")
        assert asked == ["/api/show"]


@each_stream
def test_the_user_s_word_on_a_model_of_ollama_s_is_enough(mode: str) -> None:
    rows = [{"target": "b/m", "name": "mine", "abilities": ["prefill"]}]
    with MemoryServer(lambda request: broken_after("The capital of")) as first:
        with MemoryServer(ollama({"template": CLOSED})) as second:
            reply = ask(with_ollama(first, second, models=rows), mode)
            assert [request.path for request in second.requests] == ["/api/chat"]
    assert reply.text == "The capital of Japan"


@each_stream
def test_an_ollama_that_does_not_tell_the_template_does_not_go_on(mode: str) -> None:
    with MemoryServer(lambda request: broken_after("The capital of")) as first:
        with MemoryServer(ollama({"error": "model 'm' not found"}, status=404)) as second:
            [error] = ask_all(with_ollama(first, second), mode, 1)
    assert isinstance(error, StreamInterruptedError)
    assert (error.attempts[-1].error, error.attempts[-1].sent) == ("ModelNotFoundError", False)
