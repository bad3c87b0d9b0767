"""What a server puts on its messages is kept, and goes back to who takes it; what a service refuses is not sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from llama_client import (
    ConfigError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaClient,
    LocalOnlyError,
    Message,
    StreamInterruptedError,
    ToolCall,
    UnsupportedFeatureError,
)
from llama_client.testing.loopback import WireServer, endless
from tests.asking import MODES, Asker
from tests.wire.standins import (
    SSE,
    STAND_INS,
    AnyServer,
    Cerebras,
    DeepSeek,
    Fireworks,
    Gemini,
    Groq,
    Mistral,
    Ollama,
    OpenRouter,
    StandIn,
    Together,
)

HI = {"role": "user", "content": "Roll a die."}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "roll", "parameters": {"type": "object", "properties": {}}}}
]
MARK = {"cache_control": {"type": "ephemeral"}}
Kind = Callable[[], StandIn]
each_mode = pytest.mark.parametrize("mode", MODES)
each_service = pytest.mark.parametrize("kind", STAND_INS, ids=lambda kind: kind.__name__.lower())


class Quiet(StandIn):
    """Takes everything, and says what it is told to."""

    def __init__(self, kind: str, *deltas: Any, path: str = "/v1/chat/completions", base: str = "/v1") -> None:
        super().__init__(kind, path, base)
        self.deltas = deltas

    def message(self, turn: int) -> dict[str, Any]:
        return {"role": "assistant", "content": "Hello"}

    def pieces(self, turn: int) -> Iterator[dict[str, Any]]:
        yield from self.deltas or [{"content": "Hello"}]

    def wrong_with(self, body: Any) -> Iterator[str]:
        return iter(())


class QuietOllama(Ollama):
    def wrong_with(self, body: Any) -> Iterator[str]:
        return iter(())


def quiet(stand_in: StandIn) -> StandIn:
    """A server of the same kind that takes everything."""
    if isinstance(stand_in, Ollama):
        return QuietOllama()
    return Quiet(stand_in.kind, path=stand_in.path, base=stand_in.base)


@contextmanager
def served(stand_in: StandIn, **table: Any) -> Iterator[dict[str, Any]]:
    """A configuration with it as the provider `p`."""
    with WireServer(stand_in.answer) as server:
        yield {"providers": {"p": {**stand_in.table(server.url), **table}}, "routing": {"retries": 0}}


def sent(stand_in: StandIn, messages: Any, *, mode: str = "call-sync", table: Any = None, **params: Any) -> Any:
    """The messages as its server gets them."""
    server = quiet(stand_in)
    with served(server, **(table or {})) as config:
        Asker(mode, config, [])(messages, model="p/m", **params)
    return server.bodies[-1]["messages"]


def refused(stand_in: StandIn, messages: Any, **params: Any) -> UnsupportedFeatureError:
    server = quiet(stand_in)
    with served(server) as config, pytest.raises(UnsupportedFeatureError) as caught:
        Asker("call-sync", config, [])(messages, model="p/m", **params)
    assert server.bodies == []
    return caught.value


# Kept, whole and in pieces.


@each_service
@each_mode
def test_what_a_server_puts_on_a_message_is_kept_and_goes_back_to_it(kind: Kind, mode: str) -> None:
    stand_in = kind()
    with served(stand_in) as config:
        messages: list[Any] = [HI]
        for _ in range(3):
            message = Asker(mode, config, [])(messages, model="p/m", tools=TOOLS).choices[0].message
            messages.append(message)
            messages += [{"role": "tool", "tool_call_id": c.id, "content": "4"} for c in message.tool_calls or ()]
            messages += [] if message.tool_calls else [{"role": "user", "content": "And now?"}]
    # The stand-in compares each of its messages with what it had sent.
    assert stand_in.refused == []
    assert stand_in.answered == 3


@pytest.mark.parametrize("mode", ["call-sync", "stream-sync"])
def test_fields_are_there_under_the_names_of_the_server(mode: str) -> None:
    with served(AnyServer()) as config:
        message = Asker(mode, config, [])([HI], model="p/m").choices[0].message
    assert message.model_extra == {
        "reasoning_content": "openai thinks of 1.",
        "mood": {"now": "calm"},
        "annotations": [{"type": "note", "text": "n1"}],
    }
    assert message.reasoning == message.reasoning_content == "openai thinks of 1."  # type: ignore[attr-defined]
    (call,) = message.tool_calls or []
    assert call.model_extra == {"trace": ["t1"]}
    assert json.loads(message.model_dump_json())["tool_calls"][0]["trace"] == ["t1"]


def test_pieces_of_fields_are_in_the_chunks_as_they_came() -> None:
    asker = Asker("stream-sync", None, [])
    with served(OpenRouter()) as config:
        asker.config = config
        asker([HI], model="p/m")
    deltas = [choice.delta for chunk in asker.chunks for choice in chunk.choices]
    details = [delta.model_extra["reasoning_details"] for delta in deltas if delta.model_extra]
    assert [(len(each), each[0]["index"]) for each in details] == [(1, 0), (1, 0), (1, 0), (1, 1)]


@each_mode
def test_a_call_of_a_tool_of_another_type_goes_back_whole(mode: str) -> None:
    custom = {"name": "grep", "input": "llama"}
    given: list[Any]
    if mode.startswith("call"):
        given = [{"id": "c1", "type": "custom", "custom": custom}]
    else:
        given = [{"index": 0, "id": "c1", "type": "custom", "custom": {"name": "grep", "input": ""}}]
        given += [{"index": 0, "custom": {"input": text}} for text in ("lla", "ma")]
    server = Quiet("openai", *({"tool_calls": [each]} for each in given))
    server.message = lambda turn: {"role": "assistant", "content": None, "tool_calls": given}  # type: ignore[method-assign]
    with served(server) as config:
        asker = Asker(mode, config, [])
        message = asker([HI], model="p/m").choices[0].message
        (call,) = message.tool_calls or []
        assert (call.function.name, call.model_extra) == ("grep", {"custom": custom, "tool_type": "custom"})
        asker([HI, message, {"role": "tool", "tool_call_id": "c1", "content": "3 lines"}], model="p/m")
    assert server.bodies[1]["messages"][1]["tool_calls"] == [{"id": "c1", "type": "custom", "custom": custom}]


# Who gets what.


def answered(kind: Kind, mode: str = "call-sync") -> Message:
    with served(kind()) as config:
        return Asker(mode, config, [])([HI], model="p/m").choices[0].message


@each_service
def test_another_target_gets_a_message_without_it(kind: Kind) -> None:
    message = answered(AnyServer)
    stand_in = kind()
    with WireServer(stand_in.answer) as server:
        config = {"providers": {"other": stand_in.table(server.url)}}
        result = {"role": "tool", "tool_call_id": "openai-1", "content": "4"}
        Asker("call-sync", config, [])([HI, message, result], model="other/m", tools=TOOLS)
    # The stand-in refuses a message with anything that is another's.
    assert stand_in.refused == []


def test_another_model_of_the_same_provider_is_another_target() -> None:
    server = AnyServer()
    with served(server) as config:
        message = Asker("call-sync", config, [])([HI], model="p/m").choices[0].message
        server.message_names = server.call_names = None
        server.answered = 0
        Asker("call-sync", config, [])([HI, message], model="p/n")
    (call,) = server.bodies[-1]["messages"][1]["tool_calls"]
    assert server.bodies[-1]["messages"][1].keys() == {"role", "tool_calls"}
    assert call.keys() == {"id", "type", "function"}


THOUGHTS: dict[str, Any] = {
    "reasoning": "Hm.",
    "reasoning_content": "Hm.",
    "thinking": "Hm.",
    "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
    "annotations": [],
    "mood": {"now": None},
}
SAID = {"role": "assistant", "content": "They do."}
# Of messages that come as dicts, whose maker is unknown.
TAKEN: list[tuple[Any, str, dict[str, Any]]] = [
    *((AnyServer, name, {name: value}) for name, value in THOUGHTS.items()),
    *((OpenRouter, name, {name: value}) for name, value in THOUGHTS.items()),
    *((Groq, name, {}) for name in THOUGHTS),
    *((Cerebras, name, {}) for name in THOUGHTS),
    *((Mistral, name, {}) for name in THOUGHTS),
    *((Gemini, name, {}) for name in THOUGHTS),
    *((kind, "mood", {"mood": {"now": None}}) for kind in (DeepSeek, Together, Fireworks)),
    *((kind, "reasoning_details", {}) for kind in (DeepSeek, Together, Fireworks, Ollama)),
    *((DeepSeek, name, {"reasoning_content": "Hm."}) for name in ("reasoning", "reasoning_content", "thinking")),
    *((Fireworks, name, {"reasoning_content": "Hm."}) for name in ("reasoning", "reasoning_content", "thinking")),
    *((Together, name, {name: "Hm."}) for name in ("reasoning", "reasoning_content")),
    *((Ollama, name, {"thinking": "Hm."}) for name in ("reasoning", "reasoning_content", "thinking")),
    (Ollama, "mood", {}),
]


@pytest.mark.parametrize(
    ("kind", "name", "more"), TAKEN, ids=[f"{kind.__name__.lower()}-{name}" for kind, name, _ in TAKEN]
)
def test_of_a_dict_a_service_gets_what_it_takes(kind: Kind, name: str, more: dict[str, Any]) -> None:
    messages = [HI, {**SAID, name: THOUGHTS[name]}, HI]
    assert sent(kind(), messages)[1] == {**SAID, **more}


@pytest.mark.parametrize("kind", [AnyServer, OpenRouter, Gemini], ids=lambda kind: kind.__name__.lower())
def test_a_signature_on_a_call_goes_back_from_a_dict(kind: Kind) -> None:
    call: dict[str, Any] = {"id": "t1", "type": "function", "function": {"name": "roll", "arguments": "{}"}}
    signed = {**call, "extra_content": {"google": {"thought_signature": "s"}}}
    turns = [HI, {"role": "assistant", "content": None, "tool_calls": [signed]}]
    turns += [{"role": "tool", "tool_call_id": "t1", "content": "4"}]
    assert sent(kind(), turns, tools=TOOLS)[1]["tool_calls"] == [signed]


@pytest.mark.parametrize(
    "kind", [Groq, Cerebras, Together, DeepSeek, Fireworks], ids=lambda kind: kind.__name__.lower()
)
def test_a_signature_on_a_call_is_left_out_where_it_is_not_known(kind: Kind) -> None:
    call: dict[str, Any] = {"id": "t1", "type": "function", "function": {"name": "roll", "arguments": "{}"}}
    turns = [HI, {"role": "assistant", "content": "", "tool_calls": [{**call, "extra_content": {}, "x": 1}]}]
    turns += [{"role": "tool", "tool_call_id": "t1", "content": "4"}]
    assert sent(kind(), turns, tools=TOOLS)[1]["tool_calls"] == [call]


def test_mistrals_content_goes_back_to_it_from_a_dict_and_without_thinking_to_others() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    content = [thought, {"type": "text", "text": "They "}, {"type": "text", "text": "do."}]
    turns = [HI, {"role": "assistant", "content": content}, HI]
    assert sent(Mistral(), turns)[1]["content"] == content
    assert sent(AnyServer(), turns)[1]["content"] == content
    assert [sent(kind(), turns)[1] for kind in (Groq, DeepSeek, Together)] == [SAID] * 3


def test_an_answer_that_was_saved_as_json_has_its_thinking_still() -> None:
    saved = json.loads(answered(DeepSeek).model_dump_json())
    turns = [HI, saved, {"role": "tool", "tool_call_id": "deepseek-1", "content": "4"}]
    assert sent(DeepSeek(), turns, tools=TOOLS)[1]["reasoning_content"] == "deepseek thinks of 1."
    assert sent(Groq(), turns, tools=TOOLS)[1].keys() == {"role", "tool_calls"}
    saved = json.loads(answered(Mistral).model_dump_json())
    turns = [HI, saved, {"role": "tool", "tool_call_id": "mistral01", "content": "4"}]
    assert sent(Mistral(), turns, tools=TOOLS)[1]["content"][0]["type"] == "thinking"
    assert sent(AnyServer(), turns, tools=TOOLS)[1].keys() == {"role", "tool_calls", "reasoning"}


def test_the_content_that_the_caller_has_written_instead_is_what_goes_back() -> None:
    stand_in = Mistral()
    with served(stand_in) as config:
        asker = Asker("call-sync", config, [])
        messages = [HI, {"role": "tool", "tool_call_id": "mistral01", "content": "4"}]
        messages.insert(1, asker([HI], model="p/m").choices[0].message)  # type: ignore[arg-type]
        message = asker(messages, model="p/m").choices[0].message
        message.content = "Mine."
        stand_in.answered = 0
        asker([*messages[:1], message, HI], model="p/m")
    assert stand_in.bodies[-1]["messages"][1]["content"] == "Mine."


def test_what_cannot_be_json_is_left_out_of_a_servers_message_without_a_word() -> None:
    message = answered(AnyServer)
    message.mood = float("nan")  # type: ignore[attr-defined]
    assert "mood" not in sent(AnyServer(), [HI, message])[1]


def test_a_sound_goes_back_by_its_id() -> None:
    server = Quiet("openai")
    server.message = lambda turn: {"role": "assistant", "content": None, "audio": {"id": "a1", "data": "AAAA"}}  # type: ignore[method-assign]
    with served(server) as config:
        asker = Asker("call-sync", config, [])
        asker([HI, asker([HI], model="p/m").choices[0].message, HI], model="p/m")
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": "", "audio": {"id": "a1"}}


@pytest.mark.parametrize(
    ("takes_back", "names"),
    [
        (None, {"reasoning_content", "mood", "annotations"}),
        ("all", {"reasoning_content", "mood", "annotations"}),
        (["mood"], {"mood"}),
        ([], set()),
    ],
    ids=["absent", "all", "one", "none"],
)
def test_the_providers_table_says_what_goes_back(takes_back: Any, names: set[str]) -> None:
    table = {} if takes_back is None else {"takes_back": takes_back}
    server = quiet(AnyServer())
    with served(server, **table) as config:
        asker = Asker("call-sync", config, [])
        server.message = AnyServer().message  # type: ignore[method-assign]
        asker([HI, asker([HI], model="p/m").choices[0].message], model="p/m")
    assert server.bodies[1]["messages"][1].keys() == {"role", "tool_calls"} | names


def test_the_table_of_a_strict_service_can_let_more_go_back() -> None:
    turns = [HI, {**SAID, "reasoning_content": "Hm."}, HI]
    assert sent(Groq(), turns, table={"takes_back": "all"})[1]["reasoning_content"] == "Hm."
    assert sent(Groq(), turns, table={"takes_back": ["reasoning"]})[1]["reasoning"] == "Hm."
    assert sent(Ollama(), turns, table={"takes_back": []})[1] == SAID


@pytest.mark.parametrize("wrong", ["some", [1], True, {"a": 1}], ids=str)
def test_what_the_table_cannot_mean_is_refused(wrong: Any) -> None:
    config = {"providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "takes_back": wrong}}}
    with pytest.raises(ConfigError, match=r'takes_back: must be a list of names such as .*"all"'):
        LlamaClient(config)


# What a request may have beyond OpenAI's oldest shapes.

PARTS: dict[str, dict[str, Any]] = {
    "file": {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    "video_url": {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    "input_audio": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    "document_url": {"type": "document_url", "document_url": "https://far.test/a.pdf"},
    "image": {"type": "image", "image": "AAAA"},
    "own": {"type": "acme.map", "place": [1, 2]},
}


@pytest.mark.parametrize("name", PARTS)
@each_mode
def test_a_part_of_any_type_goes_to_a_server_that_is_not_known(name: str, mode: str) -> None:
    turns = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PARTS[name]]}]
    assert sent(AnyServer(), turns, mode=mode) == turns


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("kind", [Groq, Cerebras, Ollama, Mistral], ids=lambda kind: kind.__name__.lower())
def test_a_part_that_a_service_does_not_know_is_refused_by_its_place(kind: Any, name: str) -> None:
    turns = [HI, {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PARTS[name]]}]
    if name in {Cerebras: ("image",), Mistral: ("file", "input_audio", "document_url")}.get(kind, ()):
        assert sent(kind(), turns)[1] == turns[1]
        return
    error = refused(kind(), turns)
    assert error.param == "messages"
    assert f"messages[1].content[1] is of type '{PARTS[name]['type']}', and it takes " in str(error)
    assert "list another target" in str(error)


OPEN: dict[str, list[dict[str, Any]]] = {
    "a mark on a part": [{"role": "system", "content": [{"type": "text", "text": "Long rules.", **MARK}]}, HI],
    "a mark on a message": [{**HI, **MARK}],
    "a mark on an image": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, **MARK}]}
    ],
    "openai's own mark": [
        {"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]}
    ],
    "a name on a message": [{**HI, "weight": 0.5}],
    "a name on an image": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://far.test/a.png", "fps": 2}}]}
    ],
    "a prefix": [HI, {"role": "assistant", "content": "{", "prefix": True}],
    "an older call": [
        HI,
        {"role": "assistant", "content": None, "function_call": {"name": "roll", "arguments": "{}"}},
        HI,
    ],
}


@pytest.mark.parametrize("name", OPEN)
@each_mode
def test_names_that_are_not_known_go_to_a_server_that_is_not_known(name: str, mode: str) -> None:
    given = [{key: value for key, value in message.items() if value is not None} for message in OPEN[name]]
    expected = [{"content": "", **each} if each["role"] == "assistant" else each for each in given]
    assert sent(AnyServer(), OPEN[name], mode=mode) == expected


MARKS = ["a mark on a part", "a mark on a message", "a mark on an image", "openai's own mark"]


@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("kind", [Groq, Gemini, Ollama], ids=lambda kind: kind.__name__.lower())
def test_a_mark_of_what_is_to_be_cached_is_left_out_with_a_warning(kind: Kind, name: str) -> None:
    server = quiet(kind())
    with served(server) as config:
        reply = Asker("call-sync", config, [])(OPEN[name], model="p/m", tools=TOOLS)
    assert not any(mark in json.dumps(server.bodies) for mark in ("cache_control", "prompt_cache_breakpoint"))
    assert any(" which was left out" in warning for warning in reply.warnings)


@pytest.mark.parametrize("name", [name for name in OPEN if name not in (*MARKS, "an older call")])
@pytest.mark.parametrize("kind", [Groq, Gemini, Ollama], ids=lambda kind: kind.__name__.lower())
def test_another_name_is_refused_by_a_strict_service(kind: Kind, name: str) -> None:
    error = refused(kind(), OPEN[name])
    assert error.param == "messages"
    assert str(error).startswith("p/m cannot honour messages: messages[")


def test_mistral_and_deepseek_take_a_prefix() -> None:
    for kind in (Mistral, DeepSeek):
        assert sent(kind(), OPEN["a prefix"])[1]["prefix"] is True


def test_a_target_that_does_not_know_a_part_is_passed_over() -> None:
    server = quiet(AnyServer())
    turns = [{"role": "user", "content": [PARTS["video_url"]]}]
    with served(server) as config:
        config["providers"]["groq"] = {"kind": "groq", "base_url": "http://127.0.0.1:1", "api_key": "k"}
        reply = Asker("call-sync", config, [])(turns, model=["groq/m", "p/m"])
    assert [(each.target, each.outcome, each.sent) for each in reply.attempts] == [
        ("groq/m", "skipped", False),
        ("p/m", "ok", True),
    ]


def test_a_name_is_refused_also_after_calls_without_it() -> None:
    server = quiet(Groq())
    with served(server) as config, LlamaClient(config) as client:
        client.ask("Hi", model="p/m")
        client.ask("Hi", model="p/m")
        with pytest.raises(UnsupportedFeatureError, match=r"messages\[0\] has 'weight'"):
            client.ask([{**HI, "weight": 0.5}], model="p/m")


def test_who_reads_no_files_is_not_asked_to_again_and_may_yet_see_images() -> None:
    class Blind(Quiet):
        def wrong_with(self, body: Any) -> Iterator[str]:
            if "file" in json.dumps(body):
                yield "unsupported content part type: file"

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    server = Blind("openai")
    with served(server) as config, LlamaClient(config) as client:
        for was_sent in (True, False):
            with pytest.raises(UnsupportedFeatureError) as caught:
                client.ask([{"role": "user", "content": [PARTS["file"]]}], model="p/m")
            assert [attempt.sent for attempt in caught.value.attempts] == [was_sent]
        assert client.ask([{"role": "user", "content": [image]}], model="p/m").text == "Hello"


OTHER_TOOLS: list[dict[str, Any]] = [
    {"type": "web_search"},
    {"type": "custom", "custom": {"name": "grep", "format": {"type": "text"}}},
    {**TOOLS[0], **MARK},
    {"type": "function", "function": {**TOOLS[0]["function"], "returns": "a number"}},
]


@each_mode
def test_tools_of_any_type_go_to_a_server_that_is_not_known(mode: str) -> None:
    server = quiet(AnyServer())
    tools = [*OTHER_TOOLS[:2], {**OTHER_TOOLS[2], "function": {**OTHER_TOOLS[3]["function"], "name": "other"}}]
    choice = {"type": "custom", "custom": {"name": "grep"}}
    with served(server) as config:
        Asker(mode, config, [])([HI], model="p/m", tools=tools, tool_choice=choice)
    assert (server.bodies[0]["tools"], server.bodies[0]["tool_choice"]) == (tools, choice)


@pytest.mark.parametrize("tool", OTHER_TOOLS, ids=["web_search", "custom", "mark", "name"])
@pytest.mark.parametrize("kind", [Mistral, Cerebras, Ollama], ids=lambda kind: kind.__name__.lower())
def test_a_tool_that_a_service_does_not_know_is_refused_by_its_place(kind: Kind, tool: dict[str, Any]) -> None:
    if MARK.keys() <= tool.keys():
        server = quiet(kind())
        with served(server) as config:
            Asker("call-sync", config, [])([HI], model="p/m", tools=[tool])
        assert server.bodies[0]["tools"] == TOOLS
        return
    error = refused(kind(), [HI], tools=[tool])
    assert error.param == "tools"
    assert "tools[0]" in str(error)


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"role": "user"}], "messages[0].content"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user", "contnet": "x"}], "messages[0].content: is required (is 'contnet' a misspelling of it?)"),
        ([HI, {"role": "assistant", "mood": "calm"}], "messages[1].content"),
        ([{"role": "tool", "content": "4"}], "messages[0].tool_call_id"),
        ([{"role": "user", "content": [{"type": "file"}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"file": {}}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "image_url", "image_ulr": {}}]}], "messages[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "file", "file": b"x"}]}], "messages[0].content[0].file"),
        ([{**HI, "mood": float("inf")}], "messages[0].mood"),
        ([{**HI, "mood": {"\ud800": 1}}], "messages[0].mood"),
        ([HI, {"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages[1].tool_calls[0].function"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_right_is_refused_for_any_server(messages: Any, place: str) -> None:
    config = {"providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "k"}}}
    with LlamaClient(config) as client, pytest.raises(InvalidRequestError) as caught:
        client.chat.completions.create(model="p/m", messages=messages)
    assert str(caught.value).startswith(place)


def test_what_the_caller_changes_later_does_not_change_a_request() -> None:
    from llama_client.types.request import check_request

    call: dict[str, Any] = {"id": "a", "function": {"name": "f", "arguments": {"x": [1]}}, "trace": [1]}
    turns: list[Any] = [{**HI, "mood": {"now": ["calm"]}}, {"role": "assistant", "tool_calls": [call]}]
    request = check_request({"messages": turns}, stream=False)
    before = request.model_dump_json()
    turns[0]["mood"]["now"].append("angry")
    call["trace"].append(2)
    call["function"]["arguments"]["x"].append(2)
    assert request.model_dump_json() == before


class _Function(BaseModel):
    name: str
    arguments: str
    note: str | None = None


class _Call(BaseModel):
    id: str
    function: _Function
    index: int | None = 0
    type: str = "function"


class _Part(BaseModel):
    type: str = "text"
    text: str
    mark: str | None = None


_ROLL = {"id": "a", "type": "function", "function": {"name": "roll", "arguments": "{}"}}


@each_mode
@pytest.mark.parametrize(
    "call",
    [
        ToolCall.model_validate(_ROLL),
        _Call(id="a", function=_Function(name="roll", arguments="{}")),
        {"id": "a", "type": "function", "function": _Function(name="roll", arguments="{}")},
        {"id": "a", "type": "function", "function": ToolCall.model_validate(_ROLL).function},
    ],
    ids=["ours", "other", "other-function", "our-function"],
)
def test_objects_of_answers_may_stand_in_a_message_that_is_a_dict(call: Any, mode: str) -> None:
    turns: list[Any] = [
        {"role": "user", "content": (_Part(text="Roll."),)},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [_Part(text="4")]},
    ]
    assert sent(AnyServer(), turns, mode=mode, tools=TOOLS) == [
        {"role": "user", "content": [{"type": "text", "text": "Roll."}]},
        {"role": "assistant", "tool_calls": [_ROLL]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "4"}]},
    ]


def test_the_calls_of_an_answer_go_back_with_what_the_server_put_on_them() -> None:
    with served(AnyServer()) as config:
        message = Asker("call-sync", config, [])([HI], model="p/m", tools=TOOLS).choices[0].message
    (given,) = message.tool_calls or []
    turn = {"role": "assistant", "content": None, "tool_calls": message.tool_calls}
    (call,) = sent(AnyServer(), [HI, turn], tools=TOOLS)[1]["tool_calls"]
    assert (call["id"], call["trace"]) == (given.id, ["t1"])


@each_mode
@pytest.mark.parametrize("name", ["content", "content_parts"])
def test_a_strict_service_gets_no_unknown_names_of_parts_whose_maker_is_unknown(name: str, mode: str) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm.", "vendor": 1}], "signature": "s", "vendor": 2},
        {"type": "text", "text": "Four.", "vendor": {"x": 1}},
    ]
    parts += [{"type": "acme", "acme": 1}] if name == "content_parts" else []
    turn = {**Message(role="assistant", content="Four.").model_dump(), name: parts}
    assert sent(Mistral(), [HI, turn, HI], mode=mode)[1] == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "signature": "s"},
            {"type": "text", "text": "Four."},
        ],
    }


def test_a_result_without_content_and_a_call_without_arguments_are_sent_as_servers_take_them() -> None:
    calls = [
        {"id": "a", "function": {"name": "roll", "arguments": None}},
        {"id": "b", "type": "function", "function": {"name": "roll"}},
    ]
    turns = [HI, {"role": "assistant", "content": None, "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": name, "content": None} for name in "ab"]
    _, answer, *results = sent(AnyServer(), turns, tools=TOOLS)
    assert [call["function"] for call in answer["tool_calls"]] == [{"name": "roll", "arguments": "{}"}] * 2
    assert [result["content"] for result in results] == ["", ""]


# What servers know of parameters beyond OpenAI's.
ODD: list[tuple[str, dict[str, Any]]] = [
    ("response_format", {"response_format": {"type": "json_object", "schema": {"type": "object"}}}),
    ("response_format", {"response_format": {"type": "grammar", "grammar": "root ::= 'a'"}}),
    (
        "response_format",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "mode": "x"}}},
    ),
    ("stream_options", {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}),
    ("tool_choice", {"tools": TOOLS, "tool_choice": "any"}),
]
each_odd = pytest.mark.parametrize(("name", "params"), ODD, ids=["schema", "type", "inner", "stream", "any"])


@each_odd
@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_forms_beyond_openais_go_to_a_server_without_known_rules(name: str, params: dict[str, Any], mode: str) -> None:
    server = quiet(AnyServer())
    with served(server) as config:
        Asker(mode, config, [])([HI], model="p/m", **params)
    assert server.bodies[-1][name] == params[name]


@each_odd
@pytest.mark.parametrize("kind", [Mistral, Groq], ids=["mistral", "groq"])
def test_forms_beyond_openais_are_refused_for_services_with_known_rules(
    kind: Kind, name: str, params: dict[str, Any]
) -> None:
    server = quiet(kind())
    with served(server) as config, pytest.raises(UnsupportedFeatureError) as caught:
        Asker("stream-sync", config, [])([HI], model="p/m", **params)
    assert (server.bodies, caught.value.param) == ([], name)


def test_stream_options_beyond_openais_go_without_the_usage_that_the_caller_declines() -> None:
    server = quiet(AnyServer())
    with served(server) as config:
        options = {"include_usage": False, "include_obfuscation": False}
        Asker("stream-sync", config, [])([HI], model="p/m", stream_options=options)
    assert server.bodies[-1]["stream_options"] == {"include_obfuscation": False}


# Privacy, sizes and bounds.


@pytest.mark.parametrize(
    "part",
    [
        PARTS["document_url"],
        {"type": "video_url", "video_url": {"url": "HTTP://far.test/v.mp4"}},
        {"type": "file", "file": {"file_data": " https://far.test/a.pdf"}},
        {"type": "acme", "deep": [{"er": ["s3://bucket/key"]}]},
        {"type": "file", "file": {"file_data": "file:/etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "fallback": "https://far.test/a"}},
    ],
    ids=["document", "video", "file", "own", "scheme", "image"],
)
def test_nothing_behind_an_address_is_sent_where_all_stays_local(part: dict[str, Any]) -> None:
    server = quiet(AnyServer())
    with served(server) as config:
        asker = Asker("call-sync", {**config, "local_only": True}, [])
        with pytest.raises(LocalOnlyError, match="behind addresses"):
            asker([{"role": "user", "content": [part]}], model="p/m")
    assert server.bodies == []


_FAR = "https://far.test/a"
_ASSISTANT = {"role": "assistant", "content": "Here."}
_CALL = {"id": "a", "type": "function", "function": {"name": "roll", "arguments": "{}"}}


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": _FAR}]},
        {"tools": [{**TOOLS[0], "server_url": _FAR}]},
        {"tools": [{**TOOLS[0], "function": {**TOOLS[0]["function"], "webhook": _FAR}}]},
        {"tools": TOOLS, "tool_choice": {"type": "mcp", "server_url": _FAR}},
        {"messages": [{**_ASSISTANT, "images": [{"type": "image_url", "image_url": {"url": _FAR}}]}]},
        {"messages": [{**_ASSISTANT, "content_parts": [{"type": "document_url", "document_url": _FAR}]}]},
        {"messages": [{**_ASSISTANT, "tool_calls": [{"id": "a", "type": "mcp", "server_url": _FAR}]}]},
        {"messages": [{**_ASSISTANT, "tool_calls": [{**_CALL, "server_url": _FAR}]}]},
        {"messages": [{**HI, "source": _FAR}]},
        {"messages": [{**HI, "content": [{"type": "video_url", "video_url": {"url": "//203.0.113.5/a"}}]}]},
        {"messages": [{**HI, "content": [{"type": "video_url", "video_url": {"url": "//intranet/a"}}]}]},
        {"messages": [{**HI, "content": [{"type": "video_url", "video_url": "\\\\far.test\\a"}]}]},
        {"messages": [{**HI, "content": [{"type": "video_url", "video_url": "https:far.test"}]}]},
        {"messages": [{**HI, "content": [{"type": "video_url", "video_url": "\x01ht\ntps://far.test"}]}]},
        {"messages": [{**HI, "content": [{"type": "document", "name": _FAR}]}]},
        {"messages": [{**HI, "content": [{"type": "acme", "content": _FAR}]}]},
        {"messages": [{**HI, "content": [{"type": "reasoning", "url": _FAR}]}]},
    ],
    ids=[
        "tool", "function-tool", "function", "choice", "images", "parts", "call", "function-call", "message", "slashes",
        "short-host", "backslashes", "no-slashes", "controls", "name", "own", "answer-part",
    ],
)  # fmt: skip
def test_no_address_is_sent_under_any_name_where_all_stays_local(params: dict[str, Any]) -> None:
    server = quiet(AnyServer())
    with served(server) as config:
        asker = Asker("call-sync", {**config, "local_only": True}, [])
        with pytest.raises(LocalOnlyError, match="behind addresses"):
            asker([*params.pop("messages", []), HI], model="p/m", **params)
    assert server.bodies == []


def test_texts_of_tools_and_calls_and_media_in_base64_may_be_sent_where_all_stays_local() -> None:
    described = {"$schema": _FAR, "type": "object", "properties": {"u": {"type": "string", "default": _FAR}}}
    tools = [
        {"type": "function", "function": {"name": "roll", "description": _FAR, "parameters": described}},
        {"type": "custom", "custom": {"name": "grep", "description": _FAR}},
    ]
    calls = [
        {"id": "a", "type": "function", "function": {"name": "roll", "arguments": _FAR}},
        {"id": "b", "type": "custom", "custom": {"name": "grep", "input": _FAR}},
    ]
    parts = [
        {"type": "input_text", "text": _FAR},
        {"type": "input_audio", "input_audio": {"data": "//uQ/" + "A" * 3000, "format": "mp3"}},
        {"type": "document", "document": {"data": {"type": "text", "text": _FAR}}},
    ]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "tool_calls": calls}]
    turns += [{"role": "tool", "tool_call_id": each["id"], "content": _FAR} for each in calls]
    server = quiet(AnyServer())
    with served(server) as config:
        Asker("call-sync", {**config, "local_only": True}, [])(turns, model="p/m", tools=tools)
    assert server.bodies[0]["messages"] == turns


def test_addresses_that_are_only_read_may_be_sent_where_all_stays_local() -> None:
    cited = {**SAID, "annotations": [{"url": "https://far.test/"}], "reasoning_content": "https://far.test/"}
    turns = [{"role": "user", "content": [{"type": "text", "text": "https://far.test/"}, PARTS["file"]]}, cited, HI]
    server = quiet(AnyServer())
    with served(server) as config:
        Asker("call-sync", {**config, "local_only": True}, [])(turns, model="p/m")
    assert server.bodies[0]["messages"] == turns


def test_what_is_handed_back_counts_as_text_and_a_file_as_a_medium() -> None:
    with LlamaClient({"providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}}) as client:
        plain = client.count_tokens([HI, SAID], model="p/m").tokens
        thought = client.count_tokens([HI, {**SAID, "reasoning_content": "x" * 4000}], model="p/m").tokens
        with_file = client.count_tokens([{"role": "user", "content": [PARTS["file"]]}], model="p/m").tokens
    assert thought - plain == 1000
    assert with_file == 1604


PRICE = {"target": "p/m", "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}


@pytest.mark.parametrize("context", [None, 5000], ids=["unknown", "known"])
def test_the_most_that_a_file_can_cost_is_the_models_context(context: int | None) -> None:
    config: dict[str, Any] = {"providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}}}
    config["prices"] = [PRICE]
    if context is not None:
        config["models"] = [{"target": "p/m", "name": "m", "context_tokens": context}]
    messages = [{"role": "user", "content": [PARTS["file"]]}]
    with LlamaClient(config) as client:
        estimate = client.estimate_cost(messages, model="p/m", max_tokens=1000)
    assert estimate.most_usd == (None if context is None else Decimal("0.006"))


@pytest.mark.parametrize("mode", [pytest.param("stream-sync", marks=pytest.mark.long), "stream-async"])
def test_a_stream_that_adds_fields_without_end_is_given_up(mode: str) -> None:
    nested: dict[str, Any] = {"a": [[[]] * 500] * 40}
    choice = {"index": 0, "delta": {"content": "x", "more": [nested]}}
    piece = b"data: " + json.dumps({"id": "c", "created": 1, "model": "m", "choices": [choice]}).encode() + b"\n\n"
    with WireServer(lambda _: endless(piece, headers=SSE)) as server:
        config = {"providers": {"p": {"kind": "openai", "base_url": f"{server.url}/v1"}}, "routing": {"retries": 0}}
        with pytest.raises(StreamInterruptedError) as caught:
            Asker(mode, config, [])([HI], model="p/m", timeout=60)
        assert not server.overran.is_set()
    assert isinstance(caught.value.__cause__, InvalidResponseError)
    # Parsed, such fields take twenty times of what they take as bytes.
    assert caught.value.partial is not None
    assert len(piece) * len(caught.value.partial.raw["chunks"]) < 64 << 20


def test_a_whole_answer_keeps_fields_of_any_depth() -> None:
    deep: Any = "x"
    for _ in range(150):
        deep = {"a": [deep]} if _ % 2 else deep
    server = Quiet("openai")
    server.message = lambda turn: {"role": "assistant", "content": "x", "deep": deep}  # type: ignore[method-assign]
    with served(server) as config:
        asker = Asker("call-sync", config, [])
        asker([HI, asker([HI], model="p/m").choices[0].message, HI], model="p/m")
    assert server.bodies[1]["messages"][1]["deep"] == deep
