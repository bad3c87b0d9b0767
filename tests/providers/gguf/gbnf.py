"""Grammars of llama.cpp, read anew: whether one lets a text through, and texts that it does, by chance."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<name>[a-z0-9]+)\s*(?P<defines>::=)?|(?P<literal>\"(?:\\.|[^\"\\])*\")|(?P<set>\[(?:\\.|[^\]\\])*\])"
    r"|(?P<repeat>\{(\d+)(,(\d*))?\})|(?P<sign>[()|*+?]))"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


@lru_cache(maxsize=8)
def read(text: str) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, body = line.partition(" ::= ")
        rules[name] = _Reader(body).alternatives()
    return rules


class _Reader:
    """A body as tuples: ("alt", ...), ("seq", ...), ("set", ranges), ("rule", name), ("repeat", part, low, high)."""

    def __init__(self, text: str) -> None:
        self._tokens = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            assert found is not None, text[at : at + 40]
            self._tokens.append(found)
            at = found.end()
        self._at = 0

    def alternatives(self) -> Any:
        options = [self._sequence()]
        while self._sign() == "|":
            self._at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else ("alt", *options)

    def _sign(self) -> str | None:
        return self._tokens[self._at]["sign"] if self._at < len(self._tokens) else None

    def _sequence(self) -> Any:
        parts: list[Any] = []
        while self._at < len(self._tokens) and self._sign() not in ("|", ")"):
            token = self._tokens[self._at]
            self._at += 1
            if token["name"]:
                parts.append(("rule", token["name"]))
            elif token["literal"]:
                chars = _characters(token["literal"][1:-1])
                parts.append(("seq", *(("set", ((ord(char), ord(char)),)) for char, _ in chars)))
            elif token["set"]:
                parts.append(("set", _ranges(token["set"][1:-1])))
            elif token["sign"] == "(":
                parts.append(self.alternatives())
                self._at += 1
            else:
                low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(token["sign"] or "", (0, None))
                if token["repeat"]:
                    low = int(token[6])
                    high = low if token[7] is None else int(token[8]) if token[8] else None
                    assert max(low, high or 0) <= 2000
                parts[-1] = ("repeat", parts[-1], low, high)
        return ("seq", *parts)


def _characters(text: str) -> list[tuple[str, bool]]:
    found, at = [], 0
    while at < len(text):
        if text[at] != "\\":
            found.append((text[at], False))
            at += 1
            continue
        kind = text[at + 1]
        digits = {"x": 2, "u": 4, "U": 8}.get(kind, 0)
        found.append((chr(int(text[at + 2 : at + 2 + digits], 16)) if digits else _ESCAPES[kind], True))
        at += 2 + digits
    return found


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    chars, ranges, at = _characters(text), [], 0
    if chars[0] == ("^", False):
        others, low = sorted(_ranges(text[1:])), 0
        for first, last in others:
            ranges.append((low, first - 1))
            low = last + 1
        return tuple(pair for pair in (*ranges, (low, 0x10FFFF)) if pair[0] <= pair[1])
    while at < len(chars):
        if at + 2 < len(chars) and chars[at + 1] == ("-", False):
            ranges.append((ord(chars[at][0]), ord(chars[at + 2][0])))
            at += 3
        else:
            ranges.append((ord(chars[at][0]),) * 2)
            at += 1
    return tuple(ranges)


def allows(text: str, grammar: str) -> bool:
    """Whether the whole text can be written."""
    rules = read(grammar)
    # What is still to come, as chains: (part, rest); each way of reading is one of them.
    open_: set[Any] = set()
    _expand((("rule", "root"), None), rules, open_, set())
    for char in text:
        following: set[Any] = set()
        seen: set[Any] = set()
        for part, rest in [each for each in open_ if each is not None]:
            if any(low <= ord(char) <= high for low, high in part[1]):
                _expand(rest, rules, following, seen)
        open_ = following
        if not open_:
            return False
    return None in open_


def _expand(chain: Any, rules: dict[str, Any], found: set[Any], seen: set[Any]) -> None:
    stack = [chain]
    while stack:
        chain = stack.pop()
        if chain in seen:
            continue
        seen.add(chain)
        if chain is None or chain[0][0] == "set":
            found.add(chain)
            continue
        part, rest = chain
        match part[0]:
            case "rule":
                stack.append((rules[part[1]], rest))
            case "alt":
                stack += [(option, rest) for option in part[1:]]
            case "seq":
                for each in reversed(part[1:]):
                    rest = (each, rest)
                stack.append(rest)
            case "repeat":
                _, inner, low, high = part
                if low == 0:
                    stack.append(rest)
                if high is None or high > 0:
                    left = ("repeat", inner, max(low - 1, 0), None if high is None else high - 1)
                    stack.append((inner, (left, rest)))


def a_text(grammar: str, rng: random.Random, most: int = 400) -> str:
    """A text that the grammar lets through; beyond `most` characters it ends as soon as it can."""
    rules, costs = read(grammar), _costs(grammar)
    written: list[str] = []
    stack: list[Any] = [("rule", "root")]
    while stack:
        part = stack.pop()
        is_late = len(written) > most
        match part[0]:
            case "rule":
                stack.append(rules[part[1]])
            case "seq":
                stack += reversed(part[1:])
            case "alt":
                options = [each for each in part[1:] if _cost(each, costs) < _NEVER]
                chosen = min(options, key=lambda each: _cost(each, costs)) if is_late else rng.choice(options)
                stack.append(chosen)
            case "repeat":
                _, inner, low, high = part
                more = 0 if is_late else rng.choice((0, 0, 1, 2, 3, 8, 40, 200))
                stack += [inner] * (low + (more if high is None else min(more, high - low)))
            case "set":
                # Ends of ranges, and what is written most, come more often.
                low, high = rng.choice(part[1])
                plain = [c for c in (rng.randint(0x61, 0x7A), rng.randint(0x30, 0x39)) if low <= c <= high]
                written.append(chr(rng.choice([low, high, rng.randint(low, high), *plain])))
    return "".join(written)


_NEVER = 1 << 30


@lru_cache(maxsize=8)
def _costs(grammar: str) -> dict[str, int]:
    """The fewest characters of each rule."""
    rules = read(grammar)
    costs = dict.fromkeys(rules, _NEVER)
    is_done = False
    while not is_done:
        is_done = True
        # Rules refer to those before them, mostly, and the states of an automaton to those behind.
        for name in (*rules, *reversed(rules)):
            found = _cost(rules[name], costs)
            if found != costs[name]:
                costs[name] = found
                is_done = False
    return costs


def _cost(part: Any, costs: dict[str, int]) -> int:
    match part[0]:
        case "set":
            return 1 if part[1] else _NEVER
        case "rule":
            return costs[part[1]]
        case "alt":
            return min(_cost(each, costs) for each in part[1:])
        case "seq":
            return min(sum(_cost(each, costs) for each in part[1:]), _NEVER)
    return min(_cost(part[1], costs) * part[2], _NEVER) if part[2] else 0
