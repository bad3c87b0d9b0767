"""The texts that come bit by bit in the events of a stream, wherever the network has cut it."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from llama_client.testing.cassettes.bodies import Piece, is_deep, json_bytes

# The JSON of an event of one line, or of a line of a stream of JSON.
_PAYLOAD = re.compile(rb"(?:^|(?<=[\r\n]))(?:data:[ \t]*)?([{\[][^\r\n]*[}\]])")
# A list of choices, tool calls or parts may hold any of them: the item says itself which it is.
_INDEX = re.compile(r"(?:.*_)?index")

# A text in a value: what holds it, and under which name or number.
Leaf = tuple[Any, str | int]


class Payload(NamedTuple):
    """An event's JSON in the bytes of a stream.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        value: What it says.
    """

    start: int
    end: int
    value: Any


def payloads_of(stream: bytes) -> list[Payload]:
    """The events with JSON in a whole stream; what is no JSON is in none."""
    found = []
    for match in _PAYLOAD.finditer(stream):
        try:
            value = json.loads(match[1])
        except (ValueError, RecursionError):
            continue
        if not is_deep(value):
            found.append(Payload(*match.span(1), value))
    return found


def rewritten(pieces: Sequence[Piece], changes: Sequence[Payload]) -> list[Piece]:
    """The pieces of a stream with other events, each in the piece that completes it.

    Args:
        pieces: As they came.
        changes: In order: where an event is, and what it is to say.
    """
    ends = list(accumulate(len(data) for _, data in pieces))
    joined = b"".join(data for _, data in pieces)
    rows: list[list[bytes]] = [[] for _ in pieces]
    at = 0

    def keep(until: int) -> None:
        nonlocal at
        while at < until:
            number = bisect_left(ends, at + 1)
            stop = min(until, ends[number])
            rows[number].append(joined[at:stop])
            at = stop

    for change in changes:
        keep(change.start)
        rows[bisect_left(ends, change.end)].append(json_bytes(change.value))
        at = change.end
    keep(len(joined))
    return [(at_s, b"".join(row)) for (at_s, _), row in zip(pieces, rows, strict=True) if row]


def texts_in(events: Sequence[Any]) -> list[list[Leaf]]:
    """The texts of events that continue each other: in the same field, of the same choice and the same tool call."""
    found: dict[tuple[Any, ...], list[Leaf]] = {}
    for event in events:
        for path, holder, key in _leaves(event, ()):
            found.setdefault(path, []).append((holder, key))
    return list(found.values())


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, str | int]]:
    pairs: Any = ()
    if isinstance(value, dict):
        numbers = tuple(
            (name, each) for name, each in value.items() if isinstance(each, int) and _INDEX.fullmatch(name)
        )
        # Instead of the place in a list.
        path = (*(path[:-1] if numbers and path and isinstance(path[-1], int) else path), *numbers)
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, below in pairs:
        if isinstance(below, str):
            yield (*path, key), value, key
        else:
            yield from _leaves(below, (*path, key))
