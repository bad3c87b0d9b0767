"""The engine's grammars as text: rules, repetitions beyond its bounds, trees and automata."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from llama_client.providers.gguf.schemas.automata import Automaton
from llama_client.providers.gguf.schemas.characters import alternatives, in_string, literal, term
from llama_client.providers.gguf.schemas.patterns import Alt, Node, Repeat, Seq, Set

# llama.cpp repeats at most 2000 times.
_MAX_REPEAT = 1000
_CHUNK = 100
_LONG = 40


class Grammar:
    """Rules by their names; the same rule is there once."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def rule(self, body: str) -> str:
        """The name of a rule."""
        name = self._names.get(body)
        if name is None:
            name = self._names[body] = f"r{len(self._rules)}"
            self._rules[name] = body
        return name

    def reserve(self) -> str:
        """A name whose rule is defined later, since it refers to itself."""
        name = f"r{len(self._rules)}"
        self._rules[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        self._rules[name] = body

    def automaton(self, automaton: Automaton, end: str) -> str:
        """The name of a rule for the texts that it accepts, each followed by `end`."""
        names = [self.reserve() for _ in automaton.moves]
        for state, moves in enumerate(automaton.moves):
            ways = [end] if state in automaton.final else []
            for chars, target in moves:
                ways += [f"{self._short(way)} {names[target]}" for way in alternatives(chars)]
            self._rules[names[state]] = " | ".join(ways) or '""'
        return names[0]

    def _short(self, term_: str) -> str:
        """A term, or the name of a rule where it is long: automata repeat the same sets of characters."""
        return term_ if len(term_) <= _LONG else self.rule(term_)

    def rules(self) -> str:
        return "".join(f"{name} ::= {body}\n" for name, body in self._rules.items())


@lru_cache(maxsize=2048)
def tree(node: Node) -> str:
    """A tree as one term; an empty one as an empty literal."""
    match node:
        case Set(chars):
            return term(chars)
        case Seq(parts):
            return f"({sequence(parts)})" if len(parts) > 1 else tree(parts[0]) if parts else '""'
        case Alt(options):
            return "(" + " | ".join(map(_inner, options)) + ")"
        case Repeat(inner, least, most):
            return repeat(tree(inner), least, most)
    raise AssertionError(node)


def _inner(node: Node) -> str:
    return sequence(node.parts) if isinstance(node, Seq) else tree(node)


def sequence(parts: Sequence[Node]) -> str:
    terms: list[str] = []
    run = ""
    for part in parts:
        char = _one(part)
        if char is not None:
            run += char
            continue
        if run:
            terms.append(literal(in_string(run)))
            run = ""
        if part != Seq(()):
            terms.append(tree(part))
    if run:
        terms.append(literal(in_string(run)))
    return " ".join(terms) or '""'


def _one(node: Node) -> str | None:
    """A character that alone fits here."""
    if isinstance(node, Set) and len(node.chars) == 1 and node.chars[0][0] == node.chars[0][1]:
        return chr(node.chars[0][0])
    return None


def repeat(term_: str, least: int, most: int | None) -> str:
    """A term so many times; the engine repeats no term more than 2000 times, so more are chunks of chunks."""
    if most == 0:
        return '""'
    if (least, most) == (1, 1):
        return term_
    if most is None:
        if least <= _MAX_REPEAT:
            return term_ + {0: "*", 1: "+"}.get(least, f"{{{least},}}")
        return f"({_exactly(term_, least)} {term_}*)"
    if most <= _MAX_REPEAT:
        bounds = "?" if (least, most) == (0, 1) else f"{{{least}}}" if least == most else f"{{{least},{most}}}"
        return term_ + bounds
    first = _exactly(term_, least) if least else ""
    return f"({first} {_at_most(term_, most - least)})" if most > least else f"({first})"


def _exactly(term_: str, times: int) -> str:
    if times <= _MAX_REPEAT:
        return f"{term_}{{{times}}}"
    chunks, rest = divmod(times, _CHUNK)
    made = _exactly(f"({term_}{{{_CHUNK}}})", chunks)
    return f"{made} {term_}{{{rest}}}" if rest else made


def _at_most(term_: str, times: int) -> str:
    if times <= _MAX_REPEAT:
        return f"{term_}{{0,{times}}}"
    # Whole chunks, then less than two: any number up to this is a way of writing it, and few are open at once.
    chunks = (times - (_CHUNK - 1)) // _CHUNK
    made = _at_most(f"({term_}{{{_CHUNK}}})", chunks)
    return f"{made} {term_}{{0,{times - chunks * _CHUNK}}}"


def choices(texts: Sequence[str]) -> str:
    """One of these texts, as a term: what several begin with is written once, so that few ways are open at once."""
    return _choices(sorted(set(texts)), 0)


def _choices(texts: list[str], start: int) -> str:
    if len(texts) == 1:
        return literal(texts[0][start:])
    ways = []
    at = 0
    if len(texts[0]) == start:
        ways.append('""')
        at = 1
    while at < len(texts):
        first = texts[at][start]
        end = at
        while end < len(texts) and texts[end][start] == first:
            end += 1
        group = texts[at:end]
        shared = _shared(group[0], group[-1])
        if len(group) == 1:
            ways.append(literal(group[0][start:]))
        else:
            ways.append(f"{literal(group[0][start:shared])} {_choices(group, shared)}")
        at = end
    return "(" + " | ".join(ways) + ")"


def _shared(first: str, last: str) -> int:
    """How many characters both begin with, and so all between them in their order."""
    at = 0
    while at < min(len(first), len(last)) and first[at] == last[at]:
        at += 1
    return at
