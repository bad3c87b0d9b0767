"""Answers that are good, and differ from the usual one: other fields, other forms of events, calls of tools. No I/O.

Each function makes a function from a request to an `Answer`; `everyday` gives these their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from llama_client.testing.faults.answers import Answering, Asked
from llama_client.testing.loopback import Answer, as_json
from llama_client.testing.wire_format import OllamaFormat, OpenAIFormat

_MODEL = "some/model"
_OPENAI = OpenAIFormat(_MODEL, "c1")
_OLLAMA = OllamaFormat(_MODEL)
_USAGE = OpenAIFormat.usage(3, 2)
# What fills a parameter of a tool, by its type.
_VALUES: Mapping[str, Any] = {"string": "llamas", "integer": 1, "number": 1.5, "boolean": True, "array": []}
WRITTEN_CALL = '<tool_call>{"name": "hum", "arguments": {}}</tool_call>'


def closed_idle(asked: Asked) -> Answer:
    """The good answer; then the connection is closed, which nothing announced."""
    return Answer(asked.good().pieces, "close")


def says(text: str) -> Answering:
    """That text."""

    def answer(asked: Asked) -> Answer:
        if not asked.streams:
            return as_json(asked.dialect.whole(text))
        return asked.stream([asked.dialect.preamble(), *([asked.dialect.text(text)] if text else []), *asked.ending()])

    return answer


written_call = says(WRITTEN_CALL)


def loaded(asked: Asked) -> Answer:
    """What Ollama says where it only loaded the model."""
    line = {**_OLLAMA.line(""), "done": True, "done_reason": "load"}
    return asked.stream([asked.dialect.event(line)]) if asked.streams else as_json(line)


def refusing(text: str) -> Answering:
    """A refusal in the field that OpenAI has for it."""

    def answer(asked: Asked) -> Answer:
        if not asked.streams:
            message = {"role": "assistant", "content": None, "refusal": text}
            return as_json(_OPENAI.body([_OPENAI.choice(0, message, "stop")], _USAGE))
        chunk = _OPENAI.chunk(0, {"role": "assistant", "content": None, "refusal": text})
        return asked.stream([_OPENAI.event(chunk), *asked.ending()])

    return answer


def calling(change: Callable[[str], str] = str, *, finish: str = "tool_calls") -> Answering:
    """A call of the first tool that is asked for; `change` makes other arguments of the right ones."""

    def answer(asked: Asked) -> Answer:
        name, right = _call(asked)
        arguments = change(right)
        if asked.dialect.is_ndjson:
            line = _OLLAMA.line("", calls=[_OLLAMA.call(name, arguments)])
            end = _OLLAMA.end("length" if finish == "length" else "stop", 3, 2)
            if not asked.streams:
                return as_json({**line, **end})
            return asked.stream([_OLLAMA.event(line), _OLLAMA.event({**_OLLAMA.line(""), **end})])
        if not asked.streams:
            message = {"role": "assistant", "content": None, "tool_calls": [_OPENAI.call("call_1", name, arguments)]}
            return as_json(_OPENAI.body([_OPENAI.choice(0, message, finish)], _USAGE))
        half = len(arguments) // 2
        calls = [
            _OPENAI.call_chunk(0, arguments[:half], identity="call_1", name=name),
            _OPENAI.call_chunk(0, arguments[half:]),
        ]
        end_of_calls = _OPENAI.chunk(0, {}, finish)
        return asked.stream([*map(_OPENAI.event, [*calls, end_of_calls]), *asked.ending()[1:]])

    return answer


def _call(asked: Asked) -> tuple[str, str]:
    """The tool that is called, and its arguments."""
    tool = asked.tools[0] if asked.tools else {"name": "hum"}
    schema = tool.get("parameters")
    fields = schema.get("properties") if isinstance(schema, dict) else None
    values = {name: _value(field) for name, field in fields.items()} if isinstance(fields, dict) else {}
    return tool["name"], json.dumps(values or {"why": "llamas"})


def _value(field: object) -> Any:
    if not isinstance(field, dict):
        return "llamas"
    choices = field.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = field.get("type")
    return _VALUES.get(kind, {}) if isinstance(kind, str) else "llamas"


def usage_thrice(asked: Asked) -> Answer:
    """A stream as Groq may send it: its tokens in `x_groq`, beside the finish reason, and at the end."""
    finish = {**_OPENAI.chunk(0, {}, "stop"), "usage": _USAGE, "x_groq": {"id": "req_1", "usage": _USAGE}}
    return asked.stream([*asked.events(), asked.dialect.event(finish), asked.dialect.counted(_USAGE), _OPENAI.done])


def running_usage(asked: Asked) -> Answer:
    """A stream whose every event counts the tokens up to there."""
    events = [json.loads(event.removeprefix(b"data:")) for event in [*asked.events(), asked.dialect.ending()[0]]]
    counted = [{**event, "usage": OpenAIFormat.usage(3, number)} for number, event in enumerate(events)]
    return asked.stream([*map(_OPENAI.event, counted), asked.dialect.counted(_USAGE), _OPENAI.done])


def without_spaces(asked: Asked) -> Answer:
    """Events without a space after `data:`."""
    events = [*asked.events(), *asked.ending()]
    return asked.stream([b"data:" + event.removeprefix(b"data: ") for event in events])


def of_many_lines(asked: Asked) -> Answer:
    """Events whose JSON goes over several lines of `data:`."""
    events = [json.loads(event.removeprefix(b"data:")) for event in [*asked.events(), *asked.ending()[:-1]]]
    lines = [json.dumps(event, indent=1, ensure_ascii=False).splitlines() for event in events]
    return asked.stream(
        ["".join([*(f"data: {line}\n" for line in each), "\n"]).encode() for each in lines] + [_OPENAI.done]
    )


def unterminated(asked: Asked) -> Answer:
    """A stream whose last event has no line end."""
    *before, last = [*asked.events(), *asked.ending()]
    return asked.stream([*before, last.rstrip()])


def with_choices(choices: list[Any] | None) -> Answering:
    """A stream with events, first and in between, that have no choice."""

    def answer(asked: Asked) -> Answer:
        event = _OPENAI.event({**_OPENAI.chunk(0, {}), "choices": choices})
        first, *more = asked.events()
        return asked.stream([event, first, event, *more, *asked.ending()])

    return answer
