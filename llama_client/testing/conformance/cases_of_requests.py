"""Cases about what is sent, what is refused before, and what must never be shown."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_client.errors import LlamaClientError, UnsupportedFeatureError
from llama_client.testing.conformance.bench import KEY, MODES, PROMPT, Bench
from llama_client.testing.conformance.case import Case, case
from llama_client.testing.conformance.cases_of_answers import TOOLS
from llama_client.testing.conformance.expectations import NotAskedError, Outcome, UnmetError, demand, expect
from llama_client.testing.conformance.said import Refusal, Said, SaidCall
from llama_client.testing.conformance.wires import Engine
from llama_client.testing.loopback import Answer, Received

# Each with values that stand nowhere else in a request.
_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "temperature": (0.4375,),
    "top_p": (0.8125,),
    "top_k": (37123,),
    "min_p": (0.0625,),
    "max_tokens": (4321,),
    "seed": (90210,),
    "stop": (["end-of-the-suite"],),
    "frequency_penalty": (0.3125,),
    "presence_penalty": (0.1875,),
    "repetition_penalty": (1.1875,),
    "logit_bias": ({"98765": 3.0},),
}
_SETTINGS: dict[str, Any] = {
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "logprobs": True,
    "service_tier": "flex",
    "reasoning_effort": "low",
    "extra_body": {"setting_of_the_suite": "as-it-is"},
}
_CALL = Said(calls=(SaidCall("call_1", "weather", ('{"city": "Tokyo"}',)),), finish_reason="tool_calls")
_OF_TOOLS = ("tool_choice", "parallel_tool_calls")
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "suite", "schema": {"type": "object", "properties": {"of_the_suite": {"type": "string"}}}},
}


@case("A parameter that is dropped in silence makes another answer than the one that was asked for.", engine=MODES)
def parameters_are_sent_or_refused(bench: Bench) -> None:
    for name, (value,) in _PARAMETERS.items():
        outcome = bench.ask(Said(("Hello",)), **{name: value})
        _expect_sent_or_refused(bench, outcome, name, value=value)


@case("A setting that is dropped in silence makes another answer, or another price.", engine=MODES)
def settings_are_sent_or_refused(bench: Bench) -> None:
    for name, value in _SETTINGS.items():
        params: dict[str, Any] = {name: value, **({"tools": TOOLS[:1]} if name in _OF_TOOLS else {})}
        # A call that is demanded is said.
        calls_tool = name == "tool_choice" and "tools" in bench.wire.can
        outcome = bench.ask(_CALL if calls_tool else Said(("Hello",)), **params)
        if isinstance(outcome.error, UnsupportedFeatureError) and outcome.error.param in {"tools", "logprobs"}:
            continue
        _expect_sent_or_refused(bench, outcome, name, value=value)


@case("A program that gave tools or a schema waits for calls and objects.", engine=MODES)
def tools_and_schemas_are_sent_or_refused(bench: Bench) -> None:
    outcome = bench.ask(Said(("Hello",)), tools=TOOLS[:1])
    _expect_sent_or_refused(bench, outcome, "tools", "a tool of the conformance suite")
    _expect_sent_or_refused(
        bench, bench.ask(Said(("Hello",)), response_format=_SCHEMA), "response_format", "of_the_suite"
    )


@case("What a provider cannot do, it refuses before anything is sent.", engine=MODES)
def what_it_cannot_is_refused(bench: Bench) -> None:
    asked: dict[str, dict[str, Any]] = {"tools": {"tools": TOOLS[:1]}, "n": {"n": 2}}
    for feature, params in asked.items():
        if feature in bench.wire.can or (isinstance(bench.wire, Engine) and feature in bench.wire.takes):
            continue
        outcome = bench.ask(Said(("Hello",)), **params)
        error = outcome.refused(UnsupportedFeatureError)
        expect("the parameter of the error", feature, getattr(error, "param", None))
        expect("the number of requests", 0, len(bench.received))


@case("The model is the one that was asked for.")
def model_and_messages_are_sent(bench: Bench) -> None:
    messages = [{"role": "user", "content": f"{PROMPT}: why do llamas hum?"}]
    bench.ask(Said(("Hello",)), messages=messages).answered()
    sent = _text_of(bench, bench.received)
    for mark in (bench.wire.model, "why do llamas hum?"):
        demand(mark in sent, f"{mark!r} in the request", sent)


@case("Without what was said before, the model answers another question.")
def every_message_is_sent(bench: Bench) -> None:
    system, *turns = ("be-terse-2f81", "first-question-9c04", "first-answer-71de", "second-question-e35b")
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": turns[0]},
        {"role": "assistant", "content": turns[1]},
        {"role": "user", "content": f"{PROMPT} {turns[2]}"},
    ]
    _expect_messages(bench, bench.ask(Said(("Hello",)), messages=messages), [system], turns)


@case("A model that gets no result of a tool asks for it again, or invents it.")
def calls_and_results_of_tools_are_sent(bench: Bench) -> None:
    turns = ("third-question-4b7a", "city-of-the-suite-08cd", "it-rains-d6f2")
    function = {"name": "weather", "arguments": json.dumps({"city": turns[1]})}
    messages = [
        {"role": "user", "content": f"{PROMPT} {turns[0]}"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_w", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_w", "content": turns[2]},
    ]
    _expect_messages(bench, bench.ask(Said(("Hello",)), messages=messages), [], turns)


@case("A question is one request, which is charged once.")
def one_request_an_answer(bench: Bench) -> None:
    bench.ask(Said(("Hello",))).answered()
    expect("the number of requests", 1, len(bench.received))


@case("Keys end up in logs, bug reports and screenshots.")
def the_key_is_not_shown(bench: Bench) -> None:
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with _logged() as log:
        bench.says(Said(("Hello",)))
        outcomes = bench.ask_times(1)
        sent = [part for each in bench.received for part in (each.path, *each.headers.values())]
        if "errors" in bench.wire.can:
            outcomes.append(bench.ask(Refusal(401, f"Incorrect API key provided: {KEY}")))
        outcomes.append(
            bench.ask(
                Answer(
                    [f"HTTP/1.1 200 OK\r\ncontent-length: {len(echo)}\r\n\r\n{echo}"[:-3].encode()],
                    "close",
                )
            )
        )
    outcomes[0].answered()
    shown = [text for outcome in outcomes for text in _shown(outcome)] + [log.getvalue(), bench.clients_shown]
    leaks = [text for text in shown if KEY in text]
    demand(not leaks, "no key in errors, representations, answers and logs", (leaks or [""])[0][:160])
    if not any(KEY in part for part in sent):
        raise NotAskedError("the provider sends no key from its table, so none can be looked for")


def _expect_messages(bench: Bench, outcome: Outcome, anywhere: Sequence[str], in_order: Sequence[str]) -> None:
    """All of these texts are in the request, or it was refused before anything was sent."""
    if isinstance(outcome.error, UnsupportedFeatureError):
        expect("the number of requests where messages are refused", 0, len(bench.received))
        return
    outcome.answered()
    sent = _text_of(bench, bench.received)
    for mark in (*anywhere, *in_order):
        demand(mark in sent, f"the message {mark!r} in the request, or an UnsupportedFeatureError", sent)
    expect("the order of the messages", list(in_order), sorted(in_order, key=sent.index))


def _expect_sent_or_refused(bench: Bench, outcome: Outcome, name: str, mark: str = "", *, value: Any = None) -> None:
    error = outcome.error
    if isinstance(error, UnsupportedFeatureError):
        expect("the parameter of the error", name, error.param)
        expect(f"the number of requests where {name} is refused", 0, len(bench.received))
        expect("facts.sent", [], [True for attempt in outcome.attempts if attempt.sent])
        return
    if isinstance(bench.wire, Engine) and name not in bench.wire.takes:
        raise UnmetError(f"expected an UnsupportedFeatureError for {name}, got {outcome.shown}")
    reply = outcome.answered()
    if isinstance(bench.wire, Engine) or any(name in warning for warning in reply.warnings):
        return
    body = _text_of(bench, bench.received)
    if mark not in body if value is None else not _is_written(bench, name, value):
        raise UnmetError(f"expected {name} in the request or an UnsupportedFeatureError, got neither: {body[:160]}")


def _is_written(bench: Bench, name: str, value: Any) -> bool:
    """Whether a request has the parameter under a key that says so; a body that is no JSON need only hold the value."""
    written = bench.spoken.written(name, value)
    for received in bench.received:
        body = bench.spoken.body_of(received)
        try:
            parsed = json.loads(body)
        except ValueError:
            return any(str(each) in body.decode("utf-8", "replace") for each in written.values())
        wanted = {(_plain_key(key), _plain_value(each)) for key, each in written.items()}
        if wanted.intersection(_pairs(parsed)):
            return True
    return False


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Each key of a JSON value with what is under it, at any depth."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield _plain_key(key), _plain_value(each)
            yield from _pairs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _pairs(each)


def _text_of(bench: Bench, received: list[Received]) -> str:
    return "".join(f"{each.path}\n{_without_escapes(bench.spoken.body_of(each))}\n" for each in received)


def _without_escapes(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except ValueError:  # a wire of another kind
        return body.decode("utf-8", "replace")


def _shown(outcome: Outcome) -> Iterator[str]:
    """All that a program could print of what it got."""
    error = outcome.error
    if error is not None:
        yield "".join(traceback.format_exception(error))
        yield repr(error)
        if isinstance(error, LlamaClientError):
            yield repr(vars(error))
    if outcome.reply is not None:
        yield outcome.reply.model_dump_json()
        yield repr(outcome.reply)
        yield repr(outcome.reply.raw)
    yield repr(outcome.chunks)


def _plain_value(value: Any) -> str:
    """As JSON; some services write 1 for true."""
    return json.dumps(int(value) if isinstance(value, bool) else value)


def _plain_key(key: str) -> str:
    return key.replace("_", "").replace("-", "").lower()


@contextmanager
def _logged() -> Iterator[io.StringIO]:
    log, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


CASES: tuple[Case, ...] = (
    parameters_are_sent_or_refused, settings_are_sent_or_refused,
    tools_and_schemas_are_sent_or_refused, what_it_cannot_is_refused,
    model_and_messages_are_sent, every_message_is_sent,
    calls_and_results_of_tools_are_sent, one_request_an_answer, the_key_is_not_shown,
)  # fmt: skip
