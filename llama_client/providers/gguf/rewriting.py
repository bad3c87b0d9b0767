"""Other ways to write a conversation, for templates that have no place for a message or refuse its order.

One rule is behind all of them: no text is lost or moved past another; what a template has no turn for becomes part of
the nearest turn that it has, behind a blank line.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

Message = dict[str, Any]
Messages = list[Message]


class Rewrite(NamedTuple):
    """One way.

    Attributes:
        apply: Gives new messages, or the same where there is nothing to rewrite.
        weight: How far the result is from what the caller wrote.
        warning: What is told of it; None: the model reads the same.
    """

    apply: Callable[[Messages], Messages]
    weight: int
    warning: str | None = None


def _in_parts(messages: Messages) -> Messages:
    """Texts as lists of parts, the only form that some templates for images read."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message.get("content"), str)
        else message
        for message in messages
    ]


def _with_short_ids(messages: Messages) -> Messages:
    """The ids of calls as nine characters, which Mistral's templates demand."""
    ids: dict[str, str] = {}

    def short(identity: str) -> str:
        return ids.setdefault(identity, f"call{len(ids):05d}")

    written = []
    for message in messages:
        new = dict(message)
        if new.get("tool_calls"):
            new["tool_calls"] = [{**call, "id": short(call["id"])} for call in new["tool_calls"]]
        if new["role"] == "tool":
            new["tool_call_id"] = short(new["tool_call_id"])
        written.append(new)
    return written


def _leading_systems_joined(messages: Messages) -> Messages:
    leading = list(itertools.takewhile(_is_system, messages))
    return [_joined(leading), *messages[len(leading) :]] if len(leading) > 1 else messages


def _later_systems_as_user(messages: Messages) -> Messages:
    leading = len(list(itertools.takewhile(_is_system, messages)))
    return messages[:leading] + _systems_as_user(messages[leading:])


def _systems_as_user(messages: Messages) -> Messages:
    """Each system message as the beginning of the user message that follows, or as one of its own."""
    written: Messages = []
    for is_system, group in itertools.groupby(messages, _is_system):
        if is_system:
            written.append({**_joined(list(group)), "role": "user"})
            continue
        first, *rest = group
        if written and first["role"] == "user":
            # What precedes this group is the system message.
            first = _joined([written.pop(), first])
        written += [first, *rest]
    return written


def _neighbours_joined(messages: Messages) -> Messages:
    """Neighbours of one role as one message."""
    written: Messages = []
    for message in messages:
        before = written[-1] if written else None
        if (
            before is not None
            and before["role"] == message["role"] != "tool"
            and not before.get("tool_calls")
            and not message.get("tool_calls")
        ):
            written[-1] = _joined([before, message])
        else:
            written.append(message)
    return written


def _calls_one_by_one(messages: Messages) -> Messages:
    """Several calls of a turn as turns of one call each, every one followed by its own result."""
    written: Messages = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        calls = message.get("tool_calls") or ()
        if len(calls) < 2:
            written.append(message)
            continue
        results = list(itertools.takewhile(_is_result, rest))
        del rest[: len(results)]
        for number, call in enumerate(calls):
            alone = {**message, "tool_calls": [call]}
            written.append(alone if number == 0 else {**alone, "content": None})
            own = [each for each in results if each["tool_call_id"] == call["id"]]
            written += own
            results = [each for each in results if each not in own]
        written += results
    return written


def _text_before_calls(messages: Messages) -> Messages:
    """The text beside calls as a message of its own before them."""
    written: Messages = []
    for message in messages:
        if message.get("tool_calls") and message.get("content"):
            text = {name: value for name, value in message.items() if name != "tool_calls"}
            written += [text, {**message, "content": None}]
        else:
            written.append(message)
    return written


def _calls_as_text(messages: Messages) -> Messages:
    """Calls as lines of JSON in the answer's text, and their results as texts of the user."""
    names: dict[str, str] = {}
    written: Messages = []
    for message in messages:
        calls = message.get("tool_calls")
        if calls:
            lines = []
            for call in calls:
                function = call["function"]
                names[call["id"]] = function["name"]
                lines.append(f'{{"name": {json.dumps(function["name"])}, "arguments": {function["arguments"]}}}')
            text = {name: value for name, value in message.items() if name != "tool_calls"}
            said = [text] if message.get("content") else []
            written.append(_joined([*said, {**text, "content": "\n".join(lines)}]))
        elif _is_result(message):
            name = names.get(message["tool_call_id"], "tool")
            parts = _parts(message.get("content"))
            told = [{"type": "text", "text": f"The result of {name}:"}, *parts]
            written.append(_joined([{"role": "user", "content": [part]} for part in told], between="\n"))
        else:
            written.append(message)
    return written


def _is_system(message: Message) -> bool:
    return bool(message["role"] == "system")


def _is_result(message: Message) -> bool:
    return bool(message["role"] == "tool")


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _joined(messages: Messages, between: str = "\n\n") -> Message:
    """One message of several, with a blank line between their texts."""
    parts: list[Any] = []
    for part in itertools.chain.from_iterable(_parts(message.get("content")) for message in messages):
        if parts and parts[-1].get("type") == part.get("type") == "text":
            parts[-1] = {**parts[-1], "text": f"{parts[-1]['text']}{between}{part['text']}"}
        else:
            parts.append(part)
    is_plain = all(part.get("type") == "text" for part in parts) and not any(
        isinstance(message.get("content"), list) and len(messages) == 1 for message in messages
    )
    content: Any = "".join(part["text"] for part in parts) if is_plain else parts
    merged: Message = {}
    for message in messages:
        merged |= {name: value for name, value in message.items() if value is not None}
    return {**merged, "role": messages[0]["role"], "content": content}


_NO_SYSTEM = "the model's chat template has no place for {}, so it became the beginning of the user message there"
_PARTS = Rewrite(_in_parts, 1)
_IDS = Rewrite(_with_short_ids, 1)
_LEADING = Rewrite(
    _leading_systems_joined,
    4,
    "the model's chat template takes one system message, so those at the beginning were joined",
)
_LATER = Rewrite(_later_systems_as_user, 8, _NO_SYSTEM.format("a system message after the beginning"))
_SYSTEMS = Rewrite(_systems_as_user, 16, _NO_SYSTEM.format("a system message here"))
_NEIGHBOURS = Rewrite(
    _neighbours_joined,
    5,
    "the model's chat template takes no two messages of one role in a row, so these were joined",
)
_ONE_BY_ONE = Rewrite(
    _calls_one_by_one,
    6,
    "the model's chat template takes one tool call in a turn, so several were written one after the other",
)
_BEFORE = Rewrite(
    _text_before_calls,
    6,
    "the model's chat template has no place for text beside tool calls, so it became a message before them",
)
_AS_TEXT = Rewrite(
    _calls_as_text,
    40,
    "the model's chat template has no place for these tool calls and results, so they were written as text",
)

_OF_SYSTEMS: tuple[tuple[Rewrite, ...], ...] = ((), (_LEADING,), (_LATER,), (_LEADING, _LATER), (_SYSTEMS,))
_OF_CALLS: tuple[tuple[Rewrite, ...], ...] = (
    (),
    (_IDS,),
    (_ONE_BY_ONE,),
    (_BEFORE,),
    (_ONE_BY_ONE, _BEFORE),
    (_IDS, _ONE_BY_ONE),
    (_IDS, _BEFORE),
    (_IDS, _ONE_BY_ONE, _BEFORE),
    (_AS_TEXT,),
)
# All ways, the mildest first.
REWRITES = tuple(
    sorted(
        (
            (*calls, *systems, *neighbours, *form)
            for calls in _OF_CALLS
            for systems in _OF_SYSTEMS
            for neighbours in ((), (_NEIGHBOURS,))
            for form in ((), (_PARTS,))
        ),
        key=lambda rewrites: sum(rewrite.weight for rewrite in rewrites),
    )
)
