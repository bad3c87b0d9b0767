"""Deterministic automata over the characters of a text: of patterns, their products, and bounded lengths.

Each has at most `MAX_STATES` states; `TooLargeError` says that more would be needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from llama_client.providers.gguf.schemas.characters import (
    NOT_WORD,
    UNICODE_WORD,
    WORD,
    WRITABLE,
    Chars,
    complement,
    difference,
    intersection,
    union,
)
from llama_client.providers.gguf.schemas.patterns import ANY, Alt, Assertion, Node, Repeat, Seq, Set

# A grammar of so many rules is read by the engine in 10 ms.
MAX_STATES = 4000
_MAX_NFA_STATES = 6000
# Of the sum of all subsets that are looked at, so that none takes longer than 30 ms.
_MAX_STEPS = 20_000


class TooLargeError(Exception):
    """The automaton has too many states."""


class Automaton(NamedTuple):
    """State 0 is the start. `moves[state]`: disjoint sets of characters, each with the state that follows."""

    moves: tuple[tuple[tuple[Chars, int], ...], ...]
    final: frozenset[int]

    @property
    def is_empty(self) -> bool:
        """Whether no text is accepted."""
        return not self.final


NOTHING = Automaton(((),), frozenset())


class _Nfa:
    def __init__(self) -> None:
        self.empty: list[list[int]] = []
        self.asserts: list[list[tuple[str, int]]] = []
        self.chars: list[tuple[Chars, int] | None] = []

    def state(self) -> int:
        if len(self.empty) >= _MAX_NFA_STATES:
            raise TooLargeError
        self.empty.append([])
        self.asserts.append([])
        self.chars.append(None)
        return len(self.empty) - 1

    def add(self, node: Node, start: int) -> int:
        """Adds what matches from a state on; returns the state behind it."""
        match node:
            case Set(chars):
                end = self.state()
                # The start may have a move already: an empty step leads to one of its own.
                middle = self.state()
                self.empty[start].append(middle)
                self.chars[middle] = (chars, end)
                return end
            case Seq(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case Alt(options):
                end = self.state()
                for option in options:
                    first = self.state()
                    self.empty[start].append(first)
                    self.empty[self.add(option, first)].append(end)
                return end
            case Assertion(kind):
                end = self.state()
                self.asserts[start].append((kind, end))
                return end
            case Repeat(inner, least, most):
                for _ in range(least):
                    start = self.add(inner, start)
                if most is None:
                    loop, end = self.state(), self.state()
                    self.empty[start].append(loop)
                    self.empty[self.add(inner, loop)].append(loop)
                    self.empty[loop].append(end)
                    return end
                end = self.state()
                self.empty[start].append(end)
                for _ in range(most - least):
                    start = self.add(inner, start)
                    self.empty[start].append(end)
                return end


# What must follow a state of a subset: nothing in particular, a part of a word, none (or the end), the end.
_ANY, _WORD, _NO_WORD, _END = range(4)
_Item = tuple[int, int]
_START, _AFTER_WORD, _AFTER_OTHER = range(3)


def automaton_of(node: Node, *, searches: bool = False, unicode: bool = False) -> Automaton:
    """The texts that match as a whole; with `searches`, those of which some part matches."""
    nfa = _Nfa()
    start = nfa.state()
    begin = start
    if searches:
        begin = nfa.add(Repeat(ANY, 0, None), start)
    end = nfa.add(node, begin)
    return trimmed(_Subsets(nfa, end, rest_is_free=searches, word=UNICODE_WORD if unicode else WORD).automaton(start))


class _Subsets:
    def __init__(self, nfa: _Nfa, end: int, *, rest_is_free: bool, word: Chars) -> None:
        self._nfa = nfa
        self._end = end
        self._rest_is_free = rest_is_free
        self._word = word
        self._tracks_words = any(kind in "bB" for each in nfa.asserts for kind, _ in each)
        sets = {move[0] for move in nfa.chars if move is not None and move[0]}
        atoms = _atoms([*sets, *((word,) if self._tracks_words else ()), *((WRITABLE,) if rest_is_free else ())])
        # What is a part of a word in one dialect and none in another is not written beside `\\b`.
        clear = union(word, NOT_WORD)
        self._atoms = [intersection(atom, clear) for atom in atoms] if self._tracks_words else atoms
        self._members = {
            each: frozenset(i for i, atom in enumerate(self._atoms) if intersection(atom, each)) for each in sets
        }
        self._word_atoms = frozenset(i for i, atom in enumerate(self._atoms) if intersection(atom, word))
        self._steps = 0

    def automaton(self, start: int) -> Automaton:
        first = self._closure([(start, _ANY)], _START)
        numbers: dict[tuple[frozenset[_Item], int], int] = {}
        queue: list[frozenset[_Item]] = []
        moves: list[tuple[tuple[Chars, int], ...]] = []
        final: set[int] = set()

        def number(items: frozenset[_Item], before: int) -> int:
            # What has been found stays found.
            if self._rest_is_free and (self._end, _ANY) in items:
                items = frozenset({(self._end, _ANY)})
            key = (items, before if self._tracks_words else 0)
            if key not in numbers:
                if len(numbers) >= MAX_STATES:
                    raise TooLargeError
                numbers[key] = len(numbers)
                queue.append(items)
            return numbers[key]

        number(first, _START)
        at = 0
        while at < len(queue):
            items = queue[at]
            if any(state == self._end and need != _WORD for state, need in items):
                final.add(at)
            at += 1
            by_target: dict[int, list[Chars]] = {}
            for atom, targets in self._targets(items).items():
                after = _AFTER_WORD if atom in self._word_atoms else _AFTER_OTHER
                following = self._closure(targets, after)
                if following:
                    by_target.setdefault(number(following, after), []).append(self._atoms[atom])
            moves.append(tuple((union(*parts), target) for target, parts in by_target.items()))
        return Automaton(tuple(moves), frozenset(final))

    def _targets(self, items: frozenset[_Item]) -> Mapping[int, list[_Item]]:
        by_atom: dict[int, list[_Item]] = {}
        for state, need in items:
            if need == _END:
                continue
            if state == self._end and self._rest_is_free:
                move: tuple[Iterable[int], int] | None = (range(len(self._atoms)), state)
            else:
                edge = self._nfa.chars[state]
                move = (self._members.get(edge[0], ()), edge[1]) if edge is not None else None
            if move is None:
                continue
            for atom in move[0]:
                if need == _ANY or (need == _WORD) == (atom in self._word_atoms):
                    by_atom.setdefault(atom, []).append((move[1], _ANY))
        return by_atom

    def _closure(self, items: Iterable[_Item], before: int) -> frozenset[_Item]:
        nfa, seen, stack = self._nfa, set(items), list(items)
        while stack:
            state, need = stack.pop()
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise TooLargeError
            following = [(each, need) for each in nfa.empty[state]]
            for kind, target in nfa.asserts[state]:
                following += [(target, each) for each in _allowed(kind, need, before)]
            for item in following:
                if item not in seen:
                    seen.add(item)
                    stack.append(item)
        # Only those that read a character, or are the end, make a difference.
        return frozenset(item for item in seen if nfa.chars[item[0]] is not None or item[0] == self._end)


def _allowed(kind: str, need: int, before: int) -> list[int]:
    """What must follow where an assertion holds; empty: it does not."""
    if kind == "^":
        return [need] if before == _START else []
    if kind == "$":
        wanted = [_END]
    else:
        follows_word = before == _AFTER_WORD
        wanted = [_NO_WORD if follows_word == (kind == "b") else _WORD]
    return [both for each in wanted if (both := _both(need, each)) is not None]


def _both(one: int, other: int) -> int | None:
    if one in (_ANY, other):
        return other
    if other == _ANY:
        return one
    return _END if {one, other} == {_NO_WORD, _END} else None


def _atoms(sets: Iterable[Chars]) -> list[Chars]:
    """The largest sets of characters that lie each within or without every given one."""
    atoms: list[Chars] = []
    for each in sets:
        rest, parts = each, []
        for atom in atoms:
            shared = intersection(atom, rest)
            if not shared:
                parts.append(atom)
                continue
            parts.append(shared)
            remaining = difference(atom, shared)
            if remaining:
                parts.append(remaining)
            rest = difference(rest, shared)
        if rest:
            parts.append(rest)
        atoms = parts
    return atoms


def trimmed(automaton: Automaton) -> Automaton:
    """Without the states from which no text can be finished."""
    before: list[list[int]] = [[] for _ in automaton.moves]
    for state, moves in enumerate(automaton.moves):
        for _, target in moves:
            before[target].append(state)
    alive, stack = set(automaton.final), list(automaton.final)
    while stack:
        for state in before[stack.pop()]:
            if state not in alive:
                alive.add(state)
                stack.append(state)
    if 0 not in alive:
        return NOTHING
    if len(alive) == len(automaton.moves):
        return automaton
    numbers = {state: number for number, state in enumerate(sorted(alive))}
    moves_ = tuple(
        tuple((chars, numbers[target]) for chars, target in automaton.moves[state] if target in alive)
        for state in sorted(alive)
    )
    return Automaton(moves_, frozenset(numbers[state] for state in automaton.final))


def product(one: Automaton, other: Automaton) -> Automaton:
    """The texts that both accept."""
    numbers: dict[tuple[int, int], int] = {(0, 0): 0}
    queue, moves = [(0, 0)], []
    for left, right in queue:
        found = []
        for chars, target in one.moves[left]:
            for others, other_target in other.moves[right]:
                shared = intersection(chars, others)
                if shared:
                    pair = (target, other_target)
                    if pair not in numbers:
                        if len(numbers) >= MAX_STATES:
                            raise TooLargeError
                        numbers[pair] = len(numbers)
                        queue.append(pair)
                    found.append((shared, numbers[pair]))
        moves.append(tuple(found))
    final = frozenset(n for (left, right), n in numbers.items() if left in one.final and right in other.final)
    return trimmed(Automaton(tuple(moves), final))


def opposite(automaton: Automaton) -> Automaton:
    """The texts that it does not accept."""
    sink = len(automaton.moves)
    moves = []
    for each in automaton.moves:
        rest = intersection(complement(union(*(chars for chars, _ in each))), WRITABLE)
        moves.append((*each, *(((rest, sink),) if rest else ())))
    final = frozenset(range(sink + 1)) - automaton.final
    return trimmed(Automaton((*moves, ((WRITABLE, sink),)), final))


def bounded(automaton: Automaton, least: int, most: int | None) -> Automaton:
    """The texts of so many characters."""
    shortest = distances(automaton)

    def counted(_: int, count: int, target: int) -> int | None:
        if most is None:
            return min(count + 1, least)
        return None if count + 1 + shortest[target] > most else count + 1

    return _counting(automaton, counted, least)


def _counting(automaton: Automaton, counted: Callable[[int, int, int], int | None], least: int) -> Automaton:
    """With a count beside each state, which begins at 0 and is at least so much at the end.

    `counted`: the count behind a move, by the state, the count and the target of the move; None: it is left out.
    """
    numbers: dict[tuple[int, int], int] = {(0, 0): 0}
    queue, moves = [(0, 0)], []
    for state, count in queue:
        moved = []
        for chars, target in automaton.moves[state]:
            following = counted(state, count, target)
            if following is None:
                continue
            pair = (target, following)
            if pair not in numbers:
                if len(numbers) >= MAX_STATES:
                    raise TooLargeError
                numbers[pair] = len(numbers)
                queue.append(pair)
            moved.append((chars, numbers[pair]))
        moves.append(tuple(moved))
    final = frozenset(
        number for (state, count), number in numbers.items() if state in automaton.final and count >= least
    )
    return trimmed(Automaton(tuple(moves), final))


def distances(automaton: Automaton) -> list[int]:
    """From each state the fewest characters to an end."""
    far = len(automaton.moves) + 1
    distance = [0 if state in automaton.final else far for state in range(len(automaton.moves))]
    before: list[list[int]] = [[] for _ in automaton.moves]
    for state, moves in enumerate(automaton.moves):
        for _, target in moves:
            before[target].append(state)
    queue = list(automaton.final)
    for state in queue:
        for previous in before[state]:
            if distance[previous] == far:
                distance[previous] = distance[state] + 1
                queue.append(previous)
    return distance


def found_within(automaton: Automaton, before: int, after: int | None) -> Automaton:
    """Of an automaton that searches, the texts with at most so many characters before, and after, what is found;
    None: any number.

    A state that is final and leads only to itself is where it has been found.
    """
    found = {
        state for state in automaton.final if len(automaton.moves[state]) == 1 and automaton.moves[state][0][1] == state
    }
    shortest = distances(automaton)

    def counted(state: int, count: int, target: int) -> int | None:
        if target not in found:
            return None if count + 1 + shortest[target] > before + shortest[0] else count + 1
        if after is None:
            return 1
        following = count + 1 if state in found else 1
        return None if following > after + 1 else following

    return _counting(automaton, counted, 0)
