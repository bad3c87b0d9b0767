"""JSON values that come in pieces, as the fields that servers add to the parts of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llama_client.types.server_fields import CONTENT_PARTS, REASONING_NAMES

# Texts that come whole, and maybe again with each piece: the last one counts. All others are joined.
_LABELS = frozenset(
    {
        "type", "id", "format", "role", "name", "object", "channel", "status", "url", "model", "mime_type",
        "media_type", "signature", "thought_signature",
    }
)  # fmt: skip
# Lists of reasoning and of content. Their items come in pieces too, also without an index that says so.
_LISTS_OF_PIECES = frozenset({"reasoning_details", "thinking_blocks", "thinking", CONTENT_PARTS})
# Where `data` is an encrypted whole.
_DETAILS = frozenset({"reasoning_details", "thinking_blocks"})
# What comes in pieces of such an item, and what comes last of it.
_PIECES, _LAST = ("text", "thinking", "summary"), "signature"
# Known to come in pieces, which may be the same one after the other: a sound's silence.
_STREAMED = frozenset({*REASONING_NAMES, *_PIECES, "data", "b64_json", "transcript", "arguments", "input", "output"})
# Shorter ones may well be pieces that are the same by chance.
_MIN_WHOLE_CHARS = 4
# Deeper values are kept as they came last. No server is known to nest pieces deeper than four times.
_MAX_DEPTH = 32


def put_together(name: str, pieces: Sequence[Any], labels: frozenset[str] = _LABELS, depth: int = 0) -> Any:
    """The value of a field: texts joined, lists concatenated or merged by index, objects merged, else the last one."""
    known = [piece for piece in pieces if piece is not None]
    if len(known) < 2 or depth > _MAX_DEPTH:
        return known[-1] if known else None
    kinds = {*map(type, known)}
    if kinds == {str}:
        if name in labels or _is_said_again(name, known):
            return next((text for text in reversed(known) if text), "")
        return "".join(known)
    if kinds == {dict}:
        return merged(known, labels, depth)
    if kinds == {list}:
        return _joined(name, known, labels | {"data"} if name in _DETAILS else labels, depth)
    return known[-1]


def _is_said_again(name: str, texts: Sequence[str]) -> bool:
    """Whether it is one whole text under a name that we do not know, and comes with each piece of the answer."""
    return name not in _STREAMED and len(texts[0]) >= _MIN_WHOLE_CHARS and all(text == texts[0] for text in texts)


def merged(pieces: Sequence[Mapping[str, Any]], labels: frozenset[str] = _LABELS, depth: int = 0) -> dict[str, Any]:
    fields: dict[str, list[Any]] = {}
    for piece in pieces:
        for name, value in piece.items():
            fields.setdefault(name, []).append(value)
    return {name: put_together(name, values, labels, depth + 1) for name, values in fields.items()}


def _joined(name: str, lists: Sequence[list[Any]], labels: frozenset[str], depth: int) -> list[Any]:
    items: list[list[Any]] = []
    by_index: dict[tuple[Any, int], list[Any]] = {}
    for pieces in lists:
        before = len(items)
        for place, item in enumerate(pieces):
            index = item.get("index") if isinstance(item, dict) else None
            if type(index) is int:
                # OpenRouter numbers the details of each type anew.
                key = (_hashable(item.get("type")), index)
                held = by_index.get(key)
                if held is None:
                    by_index[key] = held = []
                    items.append(held)
                held.append(item)
            elif place == 0 and before and name in _LISTS_OF_PIECES and _goes_on(items[-1], item):
                items[-1].append(item)
            else:
                items.append([item])
    return [put_together("", pieces, labels, depth + 1) for pieces in items]


def _goes_on(held: list[Any], item: Any) -> bool:
    """Whether an item without an index is the next piece of the one before it."""
    first, last = held[0], held[-1]
    if not isinstance(item, dict) or not isinstance(first, dict) or "index" in first:
        return False
    is_same = all(item.get(name) in (None, first.get(name)) for name in ("type", "id"))
    return is_same and not last.get(_LAST) and any(item.get(name) is not None for name in (*_PIECES, _LAST))


def _hashable(value: object) -> object:
    return value if isinstance(value, str) else None


class Kept(NamedTuple):
    """Fields that a server has added to a piece of a message, and how many pieces of text came before and with it."""

    fields: Mapping[str, Any]
    texts_before: int
    texts_after: int


def content_of(kept: Sequence[Kept], texts: Sequence[str]) -> list[Any] | None:
    """The content as a list of parts, where any piece of it was one; None: it was all text."""
    pieces: list[list[Any]] = []
    done = 0
    for fields, before, after in kept:
        parts = fields.get(CONTENT_PARTS)
        if isinstance(parts, list):
            if before > done:
                pieces.append([{"type": "text", "text": "".join(texts[done:before])}])
            pieces.append(parts)
            done = after
    if not pieces:
        return None
    if len(texts) > done:
        pieces.append([{"type": "text", "text": "".join(texts[done:])}])
    whole: list[Any] = put_together(CONTENT_PARTS, pieces)
    return whole
