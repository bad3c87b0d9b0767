"""Reasoning, wherever a server puts it: in a field, in parts of the content, or in tags before the answer's text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

# Servers use either name; those that send both send the same text.
_FIELDS = ("reasoning", "reasoning_content", "thinking")
# Of OpenRouter's `reasoning_details`.
_DETAILS = ("text", "summary")
# The tags of models behind servers that do not read them: DeepSeek's and Qwen's, Gemini's, Mistral's, Kimi's.
_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_BEGIN = re.compile("|".join(re.escape(tag) for tag in _TAGS))
BEGINS_WITH_TAG = re.compile(rf"\s*+(?:{_BEGIN.pattern})")
# So much of a reasoning tells whether another text is the same.
_MAX_COMPARED_CHARS = 4096
# Space that may be the end of a text; models write no more of it.
_MAX_SPACE_CHARS = 64


class Said(NamedTuple):
    reasoning: str
    content: str


_NOTHING = Said("", "")


class TagReader:
    """Takes the reasoning in tags out of one choice's text, cut anywhere. Only a text that begins with a tag has it."""

    __slots__ = ("_end", "_has_begun", "_held", "is_settled")

    def __init__(self) -> None:
        # What may be a part of a tag, or space at the end of the reasoning.
        self._held = ""
        # The tag that ends the reasoning: none before it begins, empty after it.
        self._end: str | None = None
        # Whether some of the reasoning has been passed on.
        self._has_begun = False
        # Whether all that follows is the answer's text.
        self.is_settled = False

    def read(self, text: str) -> Said:
        if self.is_settled:
            return Said("", text)
        text = self._held + text
        self._held = ""
        if self._end is None:
            return self._before(text)
        return self._after(text) if not self._end else self._within(text, self._end)

    def end(self) -> Said:
        """What is held at the end of the text."""
        held, self._held = self._held, ""
        is_reasoning = bool(self._end) and not self.is_settled
        self.is_settled = True
        return Said(held.rstrip(), "") if is_reasoning else Said("", "" if self._end == "" else held)

    def _before(self, text: str) -> Said:
        rest = text.lstrip()
        found = _BEGIN.match(rest)
        if found is not None:
            self._end = _TAGS[found.group()]
            return self._within(rest[found.end() :], self._end)
        if len(text) - len(rest) <= _MAX_SPACE_CHARS and any(tag.startswith(rest) for tag in _TAGS):
            self._held = text
            return _NOTHING
        self.is_settled = True
        return Said("", text)

    def _within(self, text: str, end: str) -> Said:
        if not self._has_begun:
            text = text.lstrip()
        at = text.find(end)
        if at >= 0:
            self._end = ""
            return Said(text[:at].rstrip(), self._after(text[at + len(end) :]).content)
        kept = len(text)
        for size in range(min(len(end) - 1, len(text)), 0, -1):
            if text.endswith(end[:size]):
                kept -= size
                break
        spaced = len(text[:kept].rstrip())
        kept = spaced if kept - spaced <= _MAX_SPACE_CHARS else kept
        self._held, self._has_begun = text[kept:], self._has_begun or kept > 0
        return Said(text[:kept], "")

    def _after(self, text: str) -> Said:
        rest = text.lstrip()
        self.is_settled = bool(rest)
        return Said("", rest)


class Reasoning:
    """The reasoning of one choice, which may be told in several places: what one of them repeats is left out."""

    __slots__ = ("_begin", "_repeats")

    def __init__(self) -> None:
        self._begin = ""
        # By place: whether it repeats what another one tells.
        self._repeats: dict[str, bool] = {}

    def is_only(self, place: str) -> bool:
        return self._repeats.keys() == {place}

    def new(self, place: str, text: str) -> str | None:
        """What of a text is not told yet."""
        if place not in self._repeats:
            compared = min(len(text), len(self._begin))
            self._repeats[place] = bool(compared) and text[:compared] == self._begin[:compared]
        if self._repeats[place]:
            return None
        if len(self._begin) < _MAX_COMPARED_CHARS:
            self._begin += text[:_MAX_COMPARED_CHARS]
        return text


def reasoning_in(said: Mapping[str, Any]) -> tuple[str, str | None]:
    """Where a message or a part of one has its reasoning, and the reasoning; None: it has none, outside of tags."""
    for name in _FIELDS:
        value = said.get(name)
        if isinstance(value, str) and value:
            return name, value
    details = said.get("reasoning_details")
    if isinstance(details, list):
        told = [part.get(name) for part in details if isinstance(part, dict) for name in _DETAILS]
        text = "".join(each for each in told if isinstance(each, str))
        if text:
            return "reasoning_details", text
    content = said.get("content")
    return "content", ("".join(map(_thinking, content)) or None) if isinstance(content, list) else None


def _thinking(part: object) -> str:
    """What a part of the content says, where it is reasoning: Mistral's parts."""
    if not isinstance(part, dict):
        return ""
    kind = part.get("type")
    if kind not in ("thinking", "reasoning"):
        return ""
    value = part.get("thinking", part.get("reasoning", part.get("text")))
    if isinstance(value, list):
        value = "".join(text for each in value if isinstance(each, dict) and isinstance(text := each.get("text"), str))
    return value if isinstance(value, str) else ""


def is_thought(said: Mapping[str, Any]) -> bool:
    """Whether the content is reasoning, as Gemini's compatible endpoint marks it."""
    extra = said.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return isinstance(google, dict) and google.get("thought") is True
