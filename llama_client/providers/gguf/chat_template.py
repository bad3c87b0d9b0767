"""What a model's chat template does with a conversation, and how to write it so that all of it is in the prompt.

A template may leave out messages without a word, or refuse an order of roles. So a conversation of a new form is
rendered once with short marks in the place of its texts: each mark must be in the prompt. Where one is missing, the
messages are rewritten by the rules of `rewriting`, the mildest first, until all are there. What was found is kept by
the form of the conversation, so that a conversation that goes on is not rendered again.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from llama_client.providers.gguf.rewriting import REWRITES, Message, Rewrite

Body = dict[str, Any]
Render = Callable[[Body], Any]

# Fields of a body, beside the messages, that decide what a template makes of them.
SHAPING_FIELDS = (
    "tools",
    "reasoning_effort",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "response_format",
)
# As many forms of conversations are kept; a program has a few.
_MAX_FORMS = 256
# In llama.cpp's message where a template, or the server before it, refuses an order of messages.
_REFUSALS = ("Jinja Exception", "While executing", "Cannot have 2 or more assistant messages")
_SAID = re.compile(r"Error: (?:Jinja Exception: )?(?P<said>[^\n]*)\s*\Z")
_MAX_SAID_CHARS = 200
# Mistral's templates take no other ids of calls.
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")


class Plan(NamedTuple):
    """How conversations of one form are written.

    Attributes:
        rewrites: Applied in order.
        refusal: Why no way of writing it shows all of it; None: these rewrites do.
    """

    rewrites: tuple[Rewrite, ...] = ()
    refusal: str | None = None

    def apply(self, messages: list[Message]) -> list[Message]:
        for rewrite in self.rewrites:
            messages = rewrite.apply(messages)
        return messages


class ChatTemplate:
    """The template of one loaded model."""

    def __init__(self, render: Render, abilities: Mapping[str, bool]) -> None:
        """`render`: gives the prompt of a body as llama.cpp's server does, or its error."""
        self._render = render
        # Without it, llama.cpp itself puts the first system message before the message that follows.
        self._has_systems = abilities.get("supports_system_role", True)
        self._lock = threading.Lock()
        self._plans: dict[object, Plan] = {}
        self._beginnings: dict[object, str | None] = {}

    def plan(self, messages: list[Message], shaping: Body) -> Plan | None:
        """What is known for conversations of this form; None: `learn` first."""
        return self._plans.get(_form(messages, shaping))

    def learn(self, messages: list[Message], shaping: Body) -> Plan:
        """Renders a conversation as often as it takes to find how it is written. Blocks for some milliseconds."""
        try:
            plan = self._found(messages, shaping)
        except (OSError, ValueError, http.client.HTTPException):
            # The prompt cannot be looked at now; the engine itself still says what it refuses.
            return Plan()
        _keep(self._plans, _form(messages, shaping), plan, self._lock)
        return plan

    def call_beginning(self, shaping: Body) -> str | None:
        """The text with which this model's tool calls begin, up to the name; None: an answer cannot begin with it."""
        return self._beginnings.get(_of(shaping))

    def knows_beginning(self, shaping: Body) -> bool:
        return _of(shaping) in self._beginnings

    def learn_beginning(self, shaping: Body) -> None:
        """Finds how a call begins: what stands between the prompt and the name in a conversation that has a call."""
        try:
            beginning = self._found_beginning({**shaping, "tools": [_PROBE_TOOL]})
        except (OSError, ValueError, http.client.HTTPException):
            return
        _keep(self._beginnings, _of(shaping), beginning, self._lock)

    def forget_beginning(self, shaping: Body) -> None:
        """Keeps that an answer cannot begin with it."""
        _keep(self._beginnings, _of(shaping), None, self._lock)

    def _found(self, messages: list[Message], shaping: Body) -> Plan:
        marked, marks = _marked(messages)
        seen: set[str] = set()
        refusal: str | None = None
        for rewrites in REWRITES:
            written = marked
            changing: list[Rewrite] = []
            for rewrite in rewrites:
                before, written = written, rewrite.apply(written)
                if written != before:
                    changing.append(rewrite)
            if len(changing) < len(rewrites):
                # The same as a shorter way of writing it.
                continue
            as_text = json.dumps(written)
            if as_text in seen:
                continue
            seen.add(as_text)
            if not self._has_systems and any(message["role"] == "system" for message in written):
                continue
            problem = self._problem({**shaping, "messages": written}, marks)
            if problem is None:
                return Plan(tuple(changing))
            refusal = refusal or problem
        return Plan(refusal=refusal or "the model's chat template has no place for system messages")

    def _problem(self, body: Body, marks: list[tuple[str, str]]) -> str | None:
        """What is wrong with the prompt of a body; None: nothing."""
        rendered = self._render(body)
        if "error" in rendered:
            said = str(rendered["error"].get("message", ""))
            # What has nothing to do with the messages is for the engine to say.
            return f"the model's chat template refuses them: {said_by(said)}" if is_refusal(said) else None
        prompt = rendered["prompt"]
        missing = next((place for place, mark in marks if mark not in prompt), None)
        return None if missing is None else f"the model's chat template leaves out {missing}"

    def _found_beginning(self, shaping: Body) -> str | None:
        question = {"role": "user", "content": "hi"}
        prompt = self._render({**shaping, "messages": [question]}).get("prompt")
        with_call = self._render({**shaping, "messages": [question, *_PROBE_CALL]}).get("prompt")
        if not (isinstance(prompt, str) and isinstance(with_call, str) and with_call.startswith(prompt)):
            return None
        rest = with_call[len(prompt) :]
        ends = [rest.index(mark) for mark in (_PROBE_ID, _PROBE_NAME, _PROBE_VALUE) if mark in rest]
        beginning = rest[: min(ends, default=0)]
        if not beginning.strip():
            return None
        begun = {"role": "assistant", "content": beginning}
        # Where the model may think first, llama.cpp would end its thinking before the text.
        again = self._render({**shaping, "messages": [question, begun], "tool_choice": "required"}).get("prompt")
        return beginning if again == prompt + beginning else None


_PROBE_ID, _PROBE_NAME, _PROBE_VALUE = "cq7zkx0w1", "fq7zkx", "vq7zkx"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE_NAME,
        "description": "d",
        "parameters": {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]},
    },
}
_PROBE_FUNCTION = {"name": _PROBE_NAME, "arguments": json.dumps({"k": _PROBE_VALUE})}
_PROBE_CALL = (
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": _PROBE_ID, "type": "function", "function": _PROBE_FUNCTION}],
    },
    {"role": "tool", "tool_call_id": _PROBE_ID, "content": "r"},
)


def is_refusal(message: str) -> bool:
    """Whether llama.cpp's message tells that a template refuses the messages."""
    return any(words in message for words in _REFUSALS)


def said_by(message: str) -> str:
    """What the template itself says in llama.cpp's message."""
    found = _SAID.search(message)
    said = found["said"] if found else message.strip().rpartition("\n")[2]
    return said if len(said) <= _MAX_SAID_CHARS else f"{said[:_MAX_SAID_CHARS]}…"


def _keep(kept: dict[object, Any], key: object, value: object, lock: threading.Lock) -> None:
    with lock:
        while len(kept) >= _MAX_FORMS:
            del kept[next(iter(kept))]
        kept[key] = value


def _form(messages: list[Message], shaping: Body) -> object:
    """The form of a conversation: which kinds of messages follow one another in it, and about how many there are.

    Templates look at a message and its neighbours, so a conversation that goes on in the same way has the same form.
    """
    kinds = ["^", *map(_kind, messages), "$"]
    pairs = frozenset(itertools.pairwise(kinds))
    return pairs, len(messages).bit_length(), _of(shaping)


def _of(shaping: Body) -> object:
    rest = {name: value for name, value in shaping.items() if name != "tools"}
    return bool(shaping.get("tools")), json.dumps(rest, sort_keys=True) if rest else ""


def _kind(message: Message) -> str:
    content, calls = message.get("content"), message.get("tool_calls") or ()
    kind = str(message["role"])
    if isinstance(content, list):
        kind += "/" + ",".join(sorted({str(part.get("type")) for part in content}))
    elif not content or content.isspace():
        kind += "/empty"
    if calls:
        are_short = all(_SHORT_ID.fullmatch(call["id"]) for call in calls)
        kind += f"/{'one call' if len(calls) == 1 else 'calls'}{'' if are_short else ' with long ids'}"
    if "reasoning_content" in message:
        kind += "/reasoning"
    return kind


def _marked(messages: list[Message]) -> tuple[list[Message], list[tuple[str, str]]]:
    """The messages with marks in the place of their texts, and each mark with the place that it stands for."""
    marks: list[tuple[str, str]] = []
    # Letters that no template changes, and that are in no other text.
    numbers = iter(range(1, 1 << 30))

    def mark(place: str) -> str:
        marks.append((place, f"mq{next(numbers)}zkx"))
        return marks[-1][1]

    return [_marked_message(message, f"messages[{index}]", mark) for index, message in enumerate(messages)], marks


def _marked_message(message: Message, place: str, mark: Callable[[str], str]) -> Message:
    written, content = dict(message), message.get("content")
    if isinstance(content, str) and content.strip():
        written["content"] = mark(f"{place} ({message['role']})")
    elif isinstance(content, list):
        # Images take no part in the order of messages.
        texts = [part for part in content if part.get("type") == "text" and str(part.get("text", "")).strip()]
        written["content"] = [{"type": "text", "text": mark(f"{place} ({message['role']})")} for _ in texts or [None]]
    if message.get("tool_calls"):
        written["tool_calls"] = list(_marked_calls(message["tool_calls"], place, mark))
    return written


def _marked_calls(calls: Iterable[Message], place: str, mark: Callable[[str], str]) -> Iterable[Message]:
    for index, call in enumerate(calls):
        arguments = json.dumps({"k": mark(f"{place}.tool_calls[{index}]")})
        yield {**call, "function": {**call["function"], "arguments": arguments}}
