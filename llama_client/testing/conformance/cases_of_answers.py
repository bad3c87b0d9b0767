"""Cases about good answers: text, tools, reasoning, counts, and however their bytes are cut."""

from __future__ import annotations

import json
import random
from typing import Any

from llama_client.testing.conformance.bench import MODES, Bench
from llama_client.testing.conformance.case import STREAMS, Case, case
from llama_client.testing.conformance.expectations import Outcome, demand, expect
from llama_client.testing.conformance.said import Counts, Said, SaidCall
from llama_client.testing.loopback import Answer, cut, streamed, whole

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "a tool of the conformance suite",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "clock")
]
_COUNTS = Counts(11, 7)
_HUM = Said(("Llamas ", "hum ", "when ", "they are ", "content."), counts=_COUNTS)
_WIDE = Said(("Grüße, ", "ламы ", "🦙🦙 ", "駱馬."), counts=_COUNTS)
_WEATHER = SaidCall("call_w", "weather", ('{"ci', 'ty": "Cus', 'co"}'))
_CLOCK = SaidCall("call_c", "clock", ('{"city"', ': "Quito"}'))
_CUTS = 12
_LONG = 100_000


@case("It is what every caller wants.", engine=MODES)
def plain_reply(bench: Bench) -> None:
    reply = bench.ask(_HUM if "streams" in bench.wire.can else Said((_HUM.text,), counts=_COUNTS)).answered()
    expect("the text", _HUM.text, reply.text)
    expect("the finish reason", "stop", reply.choices[0].finish_reason)
    expect("the number of choices", 1, len(reply.choices))
    expect("the target", f"{bench.name}/{bench.wire.model}", reply.target)


@case("A part with only the role has nothing to show, and takes nothing away.", needs=["streams"], engine=STREAMS)
def role_only_preamble(bench: Bench) -> None:
    outcome = bench.ask(Said(("Hello",), has_preamble=True))
    expect("the text", "Hello", outcome.answered().text)


@case("A lost, doubled or swapped part changes what the model said.", needs=["streams"], modes=STREAMS, engine=STREAMS)
def many_pieces(bench: Bench) -> None:
    texts = tuple(f"{number} " for number in range(60))
    outcome = bench.ask(Said(texts))
    expect("the text", "".join(texts), outcome.answered().text)
    contents = [choice.delta.content for chunk in outcome.chunks for choice in chunk.choices if choice.delta.content]
    demand(len(contents) > 1, "the parts to come as several chunks", f"{len(contents)}")


@case(
    "Every id that a caller keeps of a stream comes from its chunks.", needs=["streams"], modes=STREAMS, engine=STREAMS
)
def one_id_in_all_chunks(bench: Bench) -> None:
    outcome = bench.ask(_HUM)
    outcome.answered()
    expect("the number of ids in the chunks", 1, len({chunk.id for chunk in outcome.chunks}))


@case("The bytes of a character arrive apart; a character that is torn is lost.")
def utf8_cut_at_every_byte(bench: Bench) -> None:
    said = _WIDE if "streams" in bench.wire.can else Said((_WIDE.text,))
    outcome = bench.ask(_cut(bench, said, 1), in_memory=True)
    expect("the text", _WIDE.text, outcome.answered().text)


@case("How a network cuts bytes is chance, and must change nothing.")
def cut_anywhere(bench: Bench) -> None:
    said = _WIDE if "streams" in bench.wire.can else Said((_WIDE.text,), counts=_COUNTS)
    dice = random.Random(20)  # noqa: S311 - the same cuts each time
    sizes = [dice.choice((2, 3, 5, 17, 64, 300)) for _ in range(_CUTS)]
    bench.says(*(_cut(bench, said, size, dice) for size in sizes), bench.answer(said))
    for size, outcome in zip(sizes, bench.ask_times(_CUTS, in_memory=True), strict=True):
        reply = outcome.answered()
        expect(f"the text of pieces of about {size} bytes", _WIDE.text, reply.text)
        expect("the finish reason", "stop", reply.choices[0].finish_reason)
        if "usage" in bench.wire.can:
            expect("the tokens", (11, 7), (reply.usage.prompt_tokens, reply.usage.completion_tokens))


@case("A program calls what the model asked for, or nothing at all.", needs=["tools"], engine=MODES)
def tool_call(bench: Bench) -> None:
    call = SaidCall("call_w", "weather", ('{"city": "Cusco"}',))
    outcome = bench.ask(Said(calls=(call,), finish_reason="tool_calls"), tools=TOOLS[:1])
    _expect_calls(outcome, call)


@case(
    "Each part of the arguments counts: JSON without one is broken.",
    needs=["split tools"],
    modes=STREAMS,
    engine=STREAMS,
)
def tool_call_split_over_deltas(bench: Bench) -> None:
    outcome = bench.ask(Said(calls=(_WEATHER,), finish_reason="tool_calls"), tools=TOOLS[:1])
    _expect_calls(outcome, _WEATHER)


@case(
    "The parts of two calls come in turns, and belong to the call whose number they have.",
    needs=["tools"],
    engine=MODES,
)
def two_tool_calls(bench: Bench) -> None:
    calls = (_WEATHER, _CLOCK)
    outcome = bench.ask(Said(calls=calls, finish_reason="tool_calls"), tools=TOOLS)
    _expect_calls(outcome, *calls)


@case("A model may say why it calls a tool.", needs=["tools"], engine=MODES)
def text_with_a_call(bench: Bench) -> None:
    call = SaidCall("call_w", "weather", ('{"city": "San Pedro de Atacama"}',))
    outcome = bench.ask(Said(("Let me see.",), calls=(call,), finish_reason="tool_calls"), tools=TOOLS[:1])
    expect("the text", "Let me see.", outcome.answered().text)
    _expect_calls(outcome, call)


@case("A tool may take no arguments.", needs=["tools"], engine=MODES)
def call_without_arguments(bench: Bench) -> None:
    call = SaidCall("call_c", "clock", ("{}",))
    _expect_calls(bench.ask(Said(calls=(call,), finish_reason="tool_calls"), tools=TOOLS), call)


@case("Spaces, ends of lines and long texts are the model's, and are part of code and verse.")
def text_is_kept_as_it_is(bench: Bench) -> None:
    texts = ("  indented", " a\u2028b\u2029c\u0085d\x0be\x0cf", "\r\n\ttab", "x" * _LONG, " end \n")
    text = "".join(texts)
    reply = bench.ask(Said(texts if "streams" in bench.wire.can else (text,))).answered()
    got = reply.text or ""
    differs = next((at for at, pair in enumerate(zip(text, got, strict=False)) if pair[0] != pair[1]), len(got))
    demand(
        got == text, f"the text {text[differs : differs + 20]!r} at character {differs}", got[differs : differs + 20]
    )


@case("Reasoning is no part of the answer's text, and is not lost.", needs=["reasoning"], engine=MODES)
def reasoning(bench: Bench) -> None:
    reply = bench.ask(Said(("Yes.",), reasoning=("Do they? ", "They do."))).answered()
    expect("the text", "Yes.", reply.text)
    expect("the reasoning", "Do they? They do.", reply.choices[0].message.reasoning)


@case("Counts come at the end, and costs and budgets are made of them.", needs=["usage"], engine=MODES)
def usage(bench: Bench) -> None:
    reply = bench.ask(Said(("Hello",), counts=Counts(1234, 56))).answered()
    counts = (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens)
    expect("the tokens", (1234, 56, 1290), counts)


@case("Each answer is charged for its own tokens.", needs=["usage"])
def usage_of_its_own_answer(bench: Bench) -> None:
    wanted = (Counts(1234, 56), Counts(77, 5), None)
    bench.says(*(Said(("Hello",), counts=counts) for counts in wanted))
    for counts, outcome in zip(wanted, bench.ask_times(len(wanted)), strict=True):
        usage = outcome.answered().usage
        tokens = (None, None) if counts is None else (counts.prompt, counts.completion)
        expect("the tokens", tokens, (usage.prompt_tokens, usage.completion_tokens))


@case("Unknown is not 0: a call without counts would look free.", engine=MODES)
def usage_absent(bench: Bench) -> None:
    reply = bench.ask(Said(("Hello",))).answered()
    expect("the tokens", (None, None), (reply.usage.prompt_tokens, reply.usage.completion_tokens))


@case("Cached tokens cost less, and are a part of the prompt.", needs=["cached tokens"], engine=MODES)
def cached_tokens(bench: Bench) -> None:
    reply = bench.ask(Said(("Hello",), counts=Counts(900, 5, cached=800))).answered()
    expect("the tokens", (900, 800), (reply.usage.prompt_tokens, reply.usage.cached_tokens))


@case("Reasoning tokens are a part of the answer that is not shown.", needs=["reasoning tokens"], engine=MODES)
def reasoning_tokens(bench: Bench) -> None:
    reply = bench.ask(Said(("Hello",), counts=Counts(9, 50, reasoning=40))).answered()
    expect("the tokens", (50, 40), (reply.usage.completion_tokens, reply.usage.reasoning_tokens))


@case("A caller must see that an answer was cut at max_tokens.", needs=["length"], engine=MODES)
def finish_reason_length(bench: Bench) -> None:
    reply = bench.ask(Said(("Once upon",), finish_reason="length")).answered()
    expect("the finish reason", "length", reply.choices[0].finish_reason)


@case("A caller must see that an answer was filtered.", needs=["content filter"], engine=MODES)
def finish_reason_content_filter(bench: Bench) -> None:
    reply = bench.ask(Said(("Once",), finish_reason="content_filter")).answered()
    expect("the finish reason", "content_filter", reply.choices[0].finish_reason)


@case("Each choice is an answer of its own.", needs=["n"], engine=MODES)
def several_choices(bench: Bench) -> None:
    reply = bench.ask(Said(("One",), more_choices=("Two", "Three")), n=3).answered()
    expect("the texts", ["One", "Two", "Three"], [choice.message.content for choice in reply.choices])
    expect("the finish reasons", ["stop"] * 3, [choice.finish_reason for choice in reply.choices])


def _expect_calls(outcome: Outcome, *wanted: SaidCall) -> None:
    reply = outcome.answered()
    calls = reply.choices[0].message.tool_calls or []
    plain = [(call.function.name, _parsed(call.function.arguments)) for call in calls]
    expect("the calls", [(call.name, json.loads(call.whole_arguments)) for call in wanted], plain)
    expect("the number of ids", len(wanted), len({call.id for call in calls if call.id}))
    expect("the finish reason", "tool_calls", reply.choices[0].finish_reason)


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _cut(bench: Bench, said: Said, size: int, dice: random.Random | None = None) -> Answer:
    """The answer in pieces of about that size."""
    if bench.streams:
        body = b"".join(bench.spoken.pieces(said))
        return streamed(_pieces(body, size, dice), headers=bench.spoken.stream_headers)
    answer = whole(bench.spoken.whole(said), headers=bench.spoken.headers)
    head, _, body = answer.content.partition(b"\r\n\r\n")
    return Answer([head + b"\r\n\r\n", *_pieces(body, size, dice)])


def _pieces(data: bytes, size: int, dice: random.Random | None) -> list[bytes]:
    if dice is None:
        return cut(data, size)
    pieces = []
    while data:
        length = dice.randint(1, 2 * size)
        pieces.append(data[:length])
        data = data[length:]
    return pieces


CASES: tuple[Case, ...] = (
    plain_reply, role_only_preamble, many_pieces, one_id_in_all_chunks, utf8_cut_at_every_byte, cut_anywhere, tool_call,
    tool_call_split_over_deltas, two_tool_calls, text_with_a_call, call_without_arguments, text_is_kept_as_it_is,
    reasoning, usage, usage_of_its_own_answer, usage_absent, cached_tokens, reasoning_tokens,
    finish_reason_length, finish_reason_content_filter, several_choices,
)  # fmt: skip
