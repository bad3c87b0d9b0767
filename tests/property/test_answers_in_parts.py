"""Answers in parts, as servers cut and label them: one answer, whatever the form."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.wire.openai_codec import CompatibleCodec
from llama_client.routing.accumulator import Accumulator
from llama_client.types.completion import Message
from llama_client.types.request import check_request

quick = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = ("look", "look_up", "bash", "bas")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in NAMES]


def message_of(deltas: list[dict[str, Any]], reason: str) -> Message:
    messages = [{"role": "user", "content": "go"}]
    given: dict[str, Any] = {"messages": messages, "tools": TOOLS, "timeout": None}
    request = check_request(given, stream=True)
    call = ProviderCall(
        request=request, provider="p", model="m", request_id="r", timeout_s=None, facts=AttemptFacts(sent=True)
    )
    stream = CompatibleCodec().stream(HttpAnswer(200, {}, b"", 0.0), call)
    answer = Accumulator()
    for delta, ended in [*((delta, None) for delta in deltas), ({}, reason)]:
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": ended}]}
        for part in stream.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n"):
            answer.add(part)
    assert answer.is_complete
    return answer.choices()[0].message


def parts(draw: Any, text: str) -> list[str]:
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def tool_calls(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
    """The parts of some calls in one of the forms that servers have, and the calls."""
    values = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 99) | st.text(max_size=8), max_size=2)
    calls = draw(st.lists(st.tuples(st.sampled_from(NAMES), values), min_size=1, max_size=4))
    index = draw(st.sampled_from(["own", "from 1", "always 0", "none", "null"]))
    ids = draw(
        st.sampled_from(["first", "each", "empty later"] + (["none", "late"] if index in ("own", "from 1") else []))
    )
    form = draw(st.sampled_from(["first", "each", "late", "split", "grows", "behind the arguments"]))
    deltas: list[dict[str, Any]] = []
    for place, (name, arguments) in enumerate(calls):
        pieces = parts(draw, json.dumps(arguments))
        cut = draw(st.integers(1, len(name) - 1))
        rest: list[tuple[str | None, str]] = [(None, piece) for piece in pieces]
        forms: dict[str, list[tuple[str | None, str]]] = {
            "first": [(name, ""), *rest],
            "each": [(name, piece) for piece in ["", *pieces]],
            "late": [(None, ""), (name, pieces[0]), *rest[1:]],
            "split": [(name[:cut], ""), (name[cut:], ""), *(("", piece) for piece in pieces)],
            "grows": [(name[:cut], ""), (name, ""), *rest],
            "behind the arguments": [("", pieces[0]), (name, ""), *rest[1:]],
        }
        for nth, (said, piece) in enumerate(forms[form]):
            function = {"arguments": piece} | ({} if said is None else {"name": said})
            delta: dict[str, Any] = {"function": function}
            if index != "none":
                delta["index"] = {"own": place, "from 1": place + 1, "always 0": 0, "null": None}[index]
            if ids == "each" or (ids not in ("none", "late") and not nth) or (ids == "late" and nth == 1):
                delta |= {"id": f"call_{place}", "type": "function"}
            elif ids == "empty later":
                delta["id"] = ""
            deltas.append({"tool_calls": [delta]})
    return deltas, calls


@quick
@given(tool_calls())
def test_a_call_is_one_call_whatever_its_parts_are(case: tuple[list[dict[str, Any]], list[Any]]) -> None:
    deltas, calls = case
    read = message_of(deltas, "tool_calls").tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in read] == calls
    assert len({call.id for call in read}) == len(calls)


@st.composite
def thoughts(draw: st.DrawFn) -> tuple[list[str], str, str]:
    begin, end = draw(st.sampled_from([("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<thought>", "</thought>")]))
    words = st.text(st.sampled_from("ab <>/[]\n"), max_size=12).filter(lambda text: end not in text)
    reasoning, text = draw(words), draw(words)
    space = draw(st.sampled_from(["", "\n", "\n\n "]))
    whole = f"{space}{begin}{reasoning}{end}{text}"
    return parts(draw, whole), reasoning.strip(), text.lstrip()


@quick
@given(thoughts())
def test_reasoning_in_tags_is_the_same_however_it_is_cut(case: tuple[list[str], str, str]) -> None:
    pieces, reasoning, text = case
    message = message_of([{"content": piece} for piece in pieces], "stop")
    assert (message.reasoning or "", message.content) == (reasoning, text)


@quick
@given(st.text(st.sampled_from("<think>/[] \na"), max_size=20), st.data())
def test_a_text_without_tags_at_its_beginning_stays_as_it_is(text: str, data: st.DataObject) -> None:
    if text.lstrip().startswith(("<think>", "[THINK]", "<thought>", "<thinking>")):
        return
    message = message_of([{"content": piece} for piece in parts(data.draw, text)], "stop")
    assert (message.reasoning, message.content) == (None, text)
