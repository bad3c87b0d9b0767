"""What a real library cannot be made to do on demand: break off, answer with tools, think aloud.

A module stands in for xllamacpp here, and plays a script through the same callback; all else is real.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion as OpenAICompletion
from openai.types.chat import ChatCompletionChunk as OpenAIChunk

from llama_client import (
    AllTargetsFailedError,
    AsyncLlamaClient,
    ChatCompletionChunk,
    ContextLengthError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaClient,
    ServerError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from llama_client.testing.loopback import Answer, Received, WireServer, as_json
from tests.asking import MODES, Asker

ABLE = ("supports_tools", "supports_tool_calls", "supports_parallel_tool_calls", "supports_reasoning_effort")
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
# A function runs between two chunks.
Step = dict[str, Any] | Exception | Callable[[], object]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}


def tool_call(index: int, **fields: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, **fields}]})


PREAMBLE = chunk({"role": "assistant", "content": None})
BROKE = {"error": {"code": 500, "message": "the engine broke", "type": "server_error"}}


class Script:
    """The stand-in's answers, and the bodies that it was asked with."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.asked: list[dict[str, Any]] = []
        self.stopped = threading.Event()

    def play(self, body: dict[str, Any], receive: Callable[[dict[str, Any]], bool]) -> None:
        self.asked.append(body)
        for step in self.steps:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
            elif receive(step):
                self.stopped.set()
                return


def _engine_answer(request: Received) -> Answer:
    if request.method == "POST":
        # A template that shows whatever it is given.
        return as_json({"prompt": request.body.decode(), "tokens": []})
    return as_json(
        {
            "default_generation_settings": {"n_ctx": 512},
            "chat_template_caps": dict.fromkeys(ABLE, True),
            "modalities": {"vision": True},
        }
    )


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Puts the stand-in in the place of xllamacpp."""
    script = Script()
    loopback = WireServer(_engine_answer)

    class Server:
        listening_address = loopback.url

        def __init__(self, parameters: object) -> None:
            self.handle_chat_completions = script.play

    module = ModuleType("xllamacpp")
    vars(module).update(
        Server=Server,
        get_device_info=list,
        CommonParams=lambda: SimpleNamespace(
            model=SimpleNamespace(),
            mmproj=SimpleNamespace(),
            cpuparams=SimpleNamespace(),
            cpuparams_batch=SimpleNamespace(),
        ),
    )
    monkeypatch.setitem(sys.modules, "xllamacpp", module)
    with loopback:
        yield script


@pytest.fixture
def scripted(tiny_model: Path) -> dict[str, Any]:
    table = {"kind": "gguf", "model_path": str(tiny_model), "n_ctx": 512}
    providers = {"gguf": table, "other": table}
    return {"default_model": "gguf/default", "providers": providers, "routing": {"retries": 0}}


@pytest.fixture(params=MODES)
def ask(request: pytest.FixtureRequest, scripted: dict[str, Any], script: Script) -> Asker:
    return Asker(request.param, scripted, [])


def test_tool_calls_in_pieces_become_whole(ask: Asker, script: Script) -> None:
    script.steps = [
        PREAMBLE,
        tool_call(0, id="a", type="function", function={"name": "weather", "arguments": ""}),
        tool_call(0, function={"arguments": '{"city": '}),
        tool_call(1, id="b", type="function", function={"name": "weather", "arguments": "{}"}),
        tool_call(0, function={"arguments": '"Paris"}'}),
        chunk(finish="tool_calls"),
    ]
    reply = ask("What is the weather in Paris?", tools=[WEATHER], tool_choice="auto", parallel_tool_calls=True)
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.arguments) for call in calls] == [("a", '{"city": "Paris"}'), ("b", "{}")]
    assert reply.choices[0].message.content is None
    assert script.asked[0]["tools"] == [WEATHER]
    assert OpenAICompletion.model_validate(reply.to_openai()).choices[0].message.tool_calls
    assert all(OpenAIChunk.model_validate(piece.to_openai()) for piece in ask.chunks)


WEATHER_TWICE = [
    PREAMBLE,
    tool_call(0, id="a", type="function", function={"name": "weather", "arguments": '{"city": '}),
    tool_call(0, function={"arguments": '"{Paris}"}'}),
    tool_call(1, id="b", type="function", function={"name": "weather", "arguments": "{}"}),
    chunk(finish="tool_calls"),
]


@pytest.mark.parametrize(
    ("field", "rules"),
    [
        ({"type": "string", "pattern": "^a"}, "pattern"),
        ({"type": "number", "multipleOf": 5, "exclusiveMaximum": 9}, "exclusiveMaximum, multipleOf"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"type": "string"}, "minContains": 2}, "contains, minContains"),
        ({"type": "object", "properties": {"format": {"type": "string"}}, "required": ["format"]}, None),
        ({"const": {"pattern": "^a", "format": "b"}, "minimum": 0}, "minimum"),
    ],
)
def test_rules_of_a_schema_that_the_engine_may_leave_out_beside_tools_are_told(
    field: dict[str, Any], rules: str | None, scripted: dict[str, Any], script: Script
) -> None:
    script.steps = [PREAMBLE, chunk({"content": "{}"}), chunk(finish="stop")]
    schema = {"type": "object", "properties": {"pattern": field}, "required": ["pattern"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = Asker("call-sync", scripted, [])("Go", tools=[WEATHER], response_format=wanted)
    told = [warning for warning in reply.warnings if "beside tools" in warning]
    assert [f"({rules})" in warning for warning in told] == ([] if rules is None else [True])
    sent = script.asked[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert sent["pattern"] == {name: value for name, value in field.items() if name != "pattern"}


def test_without_parallel_calls_the_first_one_counts(ask: Asker, script: Script) -> None:
    script.steps = [*WEATHER_TWICE]
    reply = ask("What is the weather in Paris?", tools=[WEATHER], parallel_tool_calls=False)
    calls = reply.choices[0].message.tool_calls or []
    assert [(call.id, call.function.arguments) for call in calls] == [("a", '{"city": "{Paris}"}')]
    assert [warning.startswith("the model called more than one tool") for warning in reply.warnings] == [True]


def test_a_call_is_passed_on_when_it_is_complete(scripted: dict[str, Any], script: Script) -> None:
    script.steps = [*WEATHER_TWICE]
    ask = Asker("stream-sync", scripted, [])
    ask("What is the weather in Paris?", tools=[WEATHER])
    calls = [call for piece in ask.chunks for call in piece.choices[0].delta.tool_calls or ()]
    assert [len(piece.choices[0].delta.tool_calls or ()) for piece in ask.chunks] == [0, 2, 1, 0]
    assert "".join(call.function.arguments or "" for call in calls[:2] if call.function) == '{"city": "{Paris}"}'


def test_a_demanded_call_that_is_cut_off_within_a_shown_answer_is_told(ask: Asker, script: Script) -> None:
    begun = tool_call(0, id="a", type="function", function={"name": "weather", "arguments": '{"city": "Pa'})
    script.steps = [PREAMBLE, chunk({"content": "Let me see."}), begun, chunk(finish="length")]
    what = "tool_choice demands a call, and the model completed none within max_tokens=9 (finish reason 'length')"
    if not ask.streams:
        with pytest.raises(GenerationFailedError, match=re.escape(what)) as told:
            ask("What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=9)
        assert told.value.failed_generation == 'Let me see.weather{"city": "Pa'
        return
    reply = ask("What is the weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=9)
    assert (reply.text, reply.choices[0].finish_reason, reply.warnings) == ("Let me see.", "length", [what])


NO_FORM = "The model produced output that does not match the expected peg-native format"
UNPARSED = {"error": {"code": 500, "message": NO_FORM, "type": "server_error"}}
NO_GRAMMAR = {"error": {"code": 400, "message": "Failed to initialize samplers: x", "type": "invalid_request_error"}}


def test_an_answer_of_another_form_whose_text_is_unknown_is_a_failed_generation(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, UNPARSED]
    with pytest.raises(GenerationFailedError, match="expected peg-native") as told:
        ask("Tell me a story.", tools=[WEATHER])
    assert (told.value.failed_generation, told.value.retryable, told.value.blames_target) == ("", False, False)


def test_of_an_answer_of_another_form_the_part_that_was_shown_is_all(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, chunk({"content": "Once"}), UNPARSED]
    if ask.streams:
        reply = ask("Tell me a story.", tools=[WEATHER])
        assert (reply.text, reply.choices[0].finish_reason) == ("Once", "stop")
        assert reply.warnings == ["the rest of the answer is not of the expected form, and unknown"]
        return
    with pytest.raises(GenerationFailedError) as told:
        ask("Tell me a story.", tools=[WEATHER])
    assert told.value.failed_generation == "Once"


def test_tools_that_llama_cpp_makes_no_grammar_of_are_not_supported(ask: Asker, script: Script) -> None:
    script.steps = [NO_GRAMMAR]
    with pytest.raises(UnsupportedFeatureError, match="no grammar of them") as told:
        ask("What is the weather in Paris?", tools=[WEATHER])
    assert (told.value.param, len(told.value.attempts)) == ("tools", 1)


@pytest.mark.parametrize(
    "said",
    [
        "Unable to generate parser for this template.\n-----\nError: Jinja Exception: roles must alternate",
        "Cannot have 2 or more assistant messages at the end of the list.",
    ],
    ids=["template", "server"],
)
def test_messages_that_a_template_refuses_go_to_the_next_target(ask: Asker, script: Script, said: str) -> None:
    script.steps = [ValueError(said)]
    with pytest.raises(AllTargetsFailedError) as told:
        ask("hi", model=["gguf/default", "other/default"])
    assert [(type(error), getattr(error, "param", None)) for error in told.value.errors] == [
        (UnsupportedFeatureError, "messages")
    ] * 2
    assert said.rpartition("Exception: ")[2] in str(told.value)


def test_thinking_is_kept_apart_from_the_answer(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, chunk({"reasoning_content": "Two and "}), chunk({"reasoning_content": "two."})]
    script.steps += [chunk({"content": "4"}), chunk(finish="stop")]
    message = ask("What is 2+2?", reasoning_effort="low", reasoning_format="parsed").choices[0].message
    assert (message.reasoning, message.content) == ("Two and two.", "4")
    assert script.asked[0]["reasoning_format"] == "deepseek"


def test_an_empty_answer_is_an_empty_text(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, chunk(finish="stop")]
    reply = ask("Say nothing.")
    assert (reply.text, reply.choices[0].message.content, reply.choices[0].finish_reason) == ("", "", "stop")
    assert reply.usage.completion_tokens is None


def test_a_failure_before_any_content_moves_on_to_the_next_target(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, BROKE]
    with pytest.raises(AllTargetsFailedError) as caught:
        ask("hi", model=["gguf/default", "other/default"])
    assert [type(error) for error in caught.value.errors] == [ServerError, ServerError]
    assert [(attempt.outcome, attempt.sent) for attempt in caught.value.attempts] == [("error", True)] * 2


@pytest.mark.parametrize("end", [BROKE, RuntimeError("out of memory")], ids=["error object", "exception"])
def test_a_call_that_breaks_off_after_text_is_a_plain_failure(ask: Asker, script: Script, end: Step) -> None:
    script.steps = [PREAMBLE, chunk({"content": "Once"}), end]
    kind = StreamInterruptedError if ask.streams else ServerError
    with pytest.raises(kind) as caught:
        ask("Tell me a story.")
    assert [attempt.outcome for attempt in caught.value.attempts] == ["interrupted" if ask.streams else "error"]
    assert (caught.value.target, caught.value.provider) == ("gguf/default", "gguf")


@pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
def test_a_stream_that_breaks_off_holds_what_had_arrived(mode: str, scripted: dict[str, Any], script: Script) -> None:
    script.steps = [PREAMBLE, chunk({"content": "Once "}), chunk({"content": "upon"}), BROKE]
    with pytest.raises(StreamInterruptedError) as caught:
        Asker(mode, scripted, [])("Tell me a story.")
    error = caught.value
    assert error.partial is not None
    assert (error.partial.text, error.partial.choices[0].finish_reason) == ("Once upon", None)
    assert [attempt.outcome for attempt in error.partial.attempts] == ["interrupted"]
    assert isinstance(error.__cause__, ServerError)
    assert (error.provider_code, error.retryable, error.failover) == ("server_error", False, False)


def test_an_end_without_a_finish_reason_is_an_interruption(ask: Asker, script: Script) -> None:
    script.steps = [PREAMBLE, chunk({"content": "Once"})]
    with pytest.raises(
        StreamInterruptedError if ask.streams else InvalidResponseError, match="without a finish reason"
    ):
        ask("Tell me a story.")


def test_a_stream_that_fails_before_its_first_content_fails_at_the_call(
    scripted: dict[str, Any], script: Script
) -> None:
    too_long = {"type": "exceed_context_size_error", "code": 400, "message": "", "n_prompt_tokens": 9, "n_ctx": 5}
    script.steps = [{"error": too_long}]
    with LlamaClient(scripted) as client, pytest.raises(ContextLengthError):
        client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True)


def test_an_image_goes_to_a_model_that_sees(ask: Asker, script: Script) -> None:
    script.steps = [chunk({"content": "A llama."}), chunk(finish="stop")]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    prompt = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    assert ask(prompt).text == "A llama."
    assert script.asked[0]["messages"] == prompt


@pytest.mark.parametrize("url", ["http://example.com/llama.png", "https://example.com/llama.png"])
def test_llama_cpp_is_never_told_to_fetch_an_image(scripted: dict[str, Any], script: Script, url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    with LlamaClient(scripted) as client, pytest.raises(Exception, match="must be data: URIs"):
        client.ask([{"role": "user", "content": [image]}])
    assert script.asked == []


def test_a_closed_stream_stops_the_library(scripted: dict[str, Any], script: Script) -> None:
    script.steps = [PREAMBLE, *[chunk({"content": "x"})] * 200_000, chunk(finish="stop")]
    with LlamaClient(scripted) as client:
        stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], stream=True)
        stream.close()
        assert script.stopped.wait(20)


MESSAGES: Any = [{"role": "user", "content": "Count."}]
MANY = [chunk({"content": f"{number} "}) for number in range(500)]


def test_quick_chunks_wake_an_event_loop_together(
    scripted: dict[str, Any], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.steps = [PREAMBLE, *MANY, chunk(finish="stop")]
    wakes: list[object] = []

    async def read() -> str:
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def counted(*args: Any, **more: Any) -> object:
            wakes.append(args)
            return wake(*args, **more)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        async with AsyncLlamaClient(scripted) as client:
            stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
            return "".join([piece.text async for piece in stream])

    assert asyncio.run(read()) == "".join(f"{number} " for number in range(500))
    assert len(wakes) < 100


def reached(event: threading.Event) -> None:
    assert event.wait(20.0), "the reader does not have the chunk"


@pytest.mark.parametrize("is_async", [False, True])
def test_each_chunk_comes_also_where_the_next_takes_long(
    is_async: bool, scripted: dict[str, Any], script: Script
) -> None:
    """The engine goes on only after the reader has the chunks so far: the first, a slow one, a few quick ones."""
    parts, read = ["one", "two", "three", "four", "five"], [threading.Event() for _ in range(5)]
    awaited = [partial(reached, each) for each in read]
    first, second, *quick = [chunk({"content": part}) for part in parts]
    script.steps = [PREAMBLE, first, awaited[0], second, awaited[1], *quick, awaited[4], chunk(finish="stop")]

    def note(piece: ChatCompletionChunk) -> None:
        if piece.text:
            read[parts.index(piece.text)].set()

    async def read_async() -> None:
        async with AsyncLlamaClient(scripted) as client:
            async for piece in await client.chat.completions.create(messages=MESSAGES, stream=True):
                note(piece)

    if is_async:
        asyncio.run(read_async())
        return
    with LlamaClient(scripted) as client:
        for piece in client.chat.completions.create(messages=MESSAGES, stream=True):
            note(piece)


def test_a_slow_reader_leaves_turns_to_other_tasks(scripted: dict[str, Any], script: Script) -> None:
    script.steps = [PREAMBLE, *MANY, chunk(finish="stop")]
    turns: list[int] = []

    async def read() -> None:
        async def tick() -> None:
            while True:
                turns.append(len(read_so_far))
                await asyncio.sleep(0)

        read_so_far: list[str] = []
        ticking = asyncio.create_task(tick())
        async with AsyncLlamaClient(scripted) as client:
            async for piece in await client.chat.completions.create(messages=MESSAGES, stream=True):
                read_so_far.append(piece.text)
                time.sleep(0.02)  # noqa: ASYNC251 - the reader's own work
                if len(read_so_far) == 40:
                    break
        ticking.cancel()

    asyncio.run(read())
    # Also while all chunks are there already.
    assert {number for number in turns if 10 <= number <= 30}


@pytest.mark.parametrize("read_before", [0, 1, 5])
def test_a_closed_clients_stream_gives_nothing_that_had_gathered(
    scripted: dict[str, Any], script: Script, read_before: int
) -> None:
    gathered = threading.Event()
    script.steps = [PREAMBLE, *MANY, chunk(finish="stop"), gathered.set]
    client = LlamaClient(scripted)
    stream = client.chat.completions.create(messages=MESSAGES, stream=True)
    for _ in range(read_before):
        next(stream)
    assert gathered.wait(20)
    client.close()
    with pytest.raises(StreamInterruptedError, match="closed"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("read_before", [0, 1, 5])
def test_a_closed_async_clients_stream_gives_nothing_that_had_gathered(
    scripted: dict[str, Any], script: Script, read_before: int
) -> None:
    gathered = threading.Event()
    script.steps = [PREAMBLE, *MANY, chunk(finish="stop"), gathered.set]

    async def read() -> None:
        client = AsyncLlamaClient(scripted)
        stream = await client.chat.completions.create(messages=MESSAGES, stream=True)
        for _ in range(read_before):
            await anext(stream)
        assert await asyncio.to_thread(gathered.wait, 20)
        await client.aclose()
        with pytest.raises(StreamInterruptedError, match="closed"):
            await anext(stream)
        assert [piece async for piece in stream] == []

    asyncio.run(read())
