"""What a string may hold: patterns, a format and lengths together, as one tree or one automaton."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from llama_client.providers.gguf.schemas.automata import (
    MAX_STATES,
    Automaton,
    TooLargeError,
    automaton_of,
    bounded,
    distances,
    found_within,
    opposite,
    product,
    trimmed,
)
from llama_client.providers.gguf.schemas.characters import NOT_SPACE, WRITABLE, Chars, intersection
from llama_client.providers.gguf.schemas.patterns import (
    EMPTY,
    Alt,
    Assertion,
    Look,
    Node,
    Pattern,
    Repeat,
    Seq,
    Set,
    UnsupportedPatternError,
    lengths,
    parse,
)

# A pattern without an anchor may stand amid other text: so much of it, that a small model finds its way to the pattern,
# and ends. One character that must be somewhere (`\S`) is the mark of a text that may be as long as it likes.
_AROUND = 40
_BEFORE_ONE = 200
# A pattern of so many characters with classes among them describes a value, and not what a text must have somewhere.
_VALUE_CHARS = 4
_NEARLY_ALL = 0x20000
# A text with a most length of this is short enough by itself.
_SHORT = 200
# Of the choices of a tree, nested ones multiplied: the engine follows each that is open.
_MAX_OPEN = 3000


class TextRules(NamedTuple):
    patterns: tuple[str, ...] = ()
    # Patterns of the whole text: those of formats.
    forms: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None
    # Neither begins nor ends with white space.
    is_stripped: bool = False
    unicode: bool = False
    alphabet: Chars = WRITABLE


class Texts(NamedTuple):
    """Either a tree or an automaton; neither: there is no such text."""

    node: Node | None = None
    automaton: Automaton | None = None
    # Keywords that the grammar does not hold, each with the reason.
    not_held: tuple[tuple[str, str], ...] = ()


@lru_cache(maxsize=1024)
def texts(rules: TextRules) -> Texts:
    if rules.most is not None and rules.least > rules.most:
        return Texts()
    patterns: list[Pattern] = []
    not_held: list[tuple[str, str]] = []
    for pattern in rules.patterns:
        try:
            patterns.append(parse(pattern, unicode=rules.unicode))
        except UnsupportedPatternError as error:
            not_held.append(("pattern", str(error)))
    forms = [parse(form, unicode=False).node for form in rules.forms]
    node = _tree(patterns, forms, rules)
    if node is not None:
        made = _within(node, rules.alphabet)
        return Texts(made, None, tuple(not_held))
    try:
        automaton = _automaton(patterns, forms, rules)
    except TooLargeError:
        node = _amid_text(patterns, rules) if not forms else None
        if node is not None:
            return Texts(_within(node, rules.alphabet), None, tuple(not_held))
        return _without_the_largest(rules, patterns, tuple(not_held))
    return Texts(None, None if automaton.is_empty else automaton, tuple(not_held))


def _without_the_largest(rules: TextRules, patterns: list[Pattern], not_held: tuple[tuple[str, str], ...]) -> Texts:
    """Lengths are left out first, then patterns, then the format."""
    why = "it needs too many rules"
    if (rules.least or rules.most is not None) and (patterns or rules.forms):
        names = [name for name, given in (("minLength", rules.least), ("maxLength", rules.most is not None)) if given]
        found = texts(rules._replace(least=0, most=None))
        added = tuple((name, why) for name in names)
        return found._replace(not_held=(*found.not_held, *added))
    if rules.patterns and patterns:
        found = texts(rules._replace(patterns=()))
        return found._replace(not_held=(*not_held, ("pattern", why), *found.not_held))
    if rules.forms:
        found = texts(rules._replace(forms=()))
        return found._replace(not_held=(*not_held, ("format", why), *found.not_held))
    return Texts(Repeat(Set(rules.alphabet), 0, None), None, (*not_held, ("minLength", why)))


def _tree(patterns: list[Pattern], forms: list[Node], rules: TextRules) -> Node | None:
    """Where one thing alone is asked for, a tree will do. None: not so."""
    whole = [*forms]
    for pattern in patterns:
        core = _whole(pattern.node, rules)
        if core is None or pattern.looks or _has_assertion(core):
            return None
        whole.append(core)
    if len(whole) > 1:
        return None
    if not whole:
        return _of_length(rules)
    node = whole[0]
    if rules.is_stripped:
        return None
    if _is_within(node, rules):
        # Those of formats are made for the engine.
        return node if forms or _is_plain(node) else None
    match node:
        case Repeat(Set() as inner, least, most):
            least = max(least, rules.least)
            most = rules.most if most is None else min(most, rules.most) if rules.most is not None else most
            return Repeat(inner, least, most) if most is None or least <= most else None
    return None


def _is_within(node: Node, rules: TextRules) -> bool:
    """Whether all that matches has a length that is allowed."""
    low, high = lengths(node)
    return low >= rules.least and (rules.most is None or (high is not None and high <= rules.most))


def _of_length(rules: TextRules) -> Node:
    any_ = Set(rules.alphabet)
    if not rules.is_stripped:
        return Repeat(any_, rules.least, rules.most)
    edge = Set(intersection(NOT_SPACE, rules.alphabet))
    options: list[Node] = []
    if rules.least == 0:
        options.append(EMPTY)
    if rules.least <= 1 and rules.most != 0:
        options.append(edge)
    if rules.most is None or rules.most > 1:
        inner = Repeat(any_, max(rules.least - 2, 0), None if rules.most is None else rules.most - 2)
        options.append(Seq((edge, inner, edge)))
    return options[0] if len(options) == 1 else Alt(tuple(options))


def _amid_text(patterns: list[Pattern], rules: TextRules) -> Node | None:
    """A pattern with other text around it, as a tree: of which the engine follows many ways at once. None: too many."""
    if len(patterns) != 1 or patterns[0].looks or rules.is_stripped:
        return None
    node = patterns[0].node
    begins, ends = _begins(node), _ends(node)
    core = _between(node, begins=begins, ends=ends)
    if _has_assertion(core):
        return None
    low, high = lengths(core)
    around = max(_AROUND, rules.least - low)
    if rules.most is not None:
        sides = 2 - begins - ends
        around = min(around, (rules.most - high) // sides if high is not None and sides else 0)
    if around < 0:
        return None
    text = Repeat(Set(WRITABLE), 0, around)
    made = Seq((*(() if begins else (text,)), core, *(() if ends else (text,))))
    return made if _is_within(made, rules) and _is_plain(made) else None


def _begins(node: Node) -> bool:
    """Whether a text must begin with what matches."""
    match node:
        case Assertion(kind):
            return kind == "^"
        case Seq(parts):
            return bool(parts) and _begins(parts[0])
        case Alt(options):
            return all(map(_begins, options))
    return False


def _ends(node: Node) -> bool:
    match node:
        case Assertion(kind):
            return kind == "$"
        case Seq(parts):
            return bool(parts) and _ends(parts[-1])
        case Alt(options):
            return all(map(_ends, options))
    return False


def _between(node: Node, *, begins: bool, ends: bool) -> Node:
    """Without the anchors at its ends."""
    match node:
        case Assertion(kind) if (kind == "^" and begins) or (kind == "$" and ends):
            return EMPTY
        case Seq(parts) if parts:
            inner = list(parts)
            inner[0] = _between(inner[0], begins=begins, ends=ends and len(inner) == 1)
            if len(inner) > 1:
                inner[-1] = _between(inner[-1], begins=False, ends=ends)
            return Seq(tuple(inner))
        case Alt(options):
            return Alt(tuple(_between(option, begins=begins, ends=ends) for option in options))
    return node


def _whole(node: Node, rules: TextRules) -> Node | None:
    """What a pattern says of a whole text: between both anchors, or where it describes a value, though it has no anchor
    at its beginning. None: other text may be around it."""
    if _begins(node):
        return _anchored(node)
    core = _between(node, begins=True, ends=_ends(node))
    low, high = lengths(core)
    # Where more is asked for, there must be other text.
    has_room = high is None or high >= rules.least
    return core if low >= _VALUE_CHARS and has_room and _has_class(core) else None


def _anchored(node: Node) -> Node | None:
    """What stands between both anchors; None: a part of the text is enough."""
    return _between(node, begins=True, ends=True) if _begins(node) and _ends(node) else None


def _has_assertion(node: Node) -> bool:
    match node:
        case Assertion():
            return True
        case Seq(parts) | Alt(parts):
            return any(map(_has_assertion, parts))
        case Repeat(inner):
            return _has_assertion(inner)
    return False


def _is_plain(node: Node) -> bool:
    """Whether the engine can follow it as it stands: no loop within a loop, and few choices that are open at once."""
    return _open(node, in_loop=False) <= _MAX_OPEN


def _open(node: Node, *, in_loop: bool) -> int:
    match node:
        case Set(chars):
            return 1 if chars else _MAX_OPEN + 1
        case Seq(parts) | Alt(parts):
            return sum(_open(part, in_loop=in_loop) for part in parts)
        case Repeat(inner, least, most):
            is_loop = most is None
            if is_loop and (in_loop or lengths(inner)[0] == 0):
                return _MAX_OPEN + 1
            times = max(least, 1) if most is None else max(most, 1)
            # A run of one set of characters, however long, is followed at one place.
            return 1 if isinstance(inner, Set) else times * _open(inner, in_loop=in_loop or is_loop)
    return 1


def _within(node: Node, alphabet: Chars) -> Node | None:
    """With these characters alone; None: there is no such text."""
    if alphabet == WRITABLE:
        return node
    match node:
        case Set(chars):
            shared = intersection(chars, alphabet)
            return Set(shared) if shared else None
        case Seq(parts):
            kept = _all_within(parts, alphabet)
            return Seq(kept) if len(kept) == len(parts) else None
        case Alt(options):
            kept = _all_within(options, alphabet)
            return Alt(kept) if kept else None
        case Repeat(inner, least, most):
            part = _within(inner, alphabet)
            if part is None:
                return EMPTY if least == 0 else None
            return Repeat(part, least, most)
    return node


def _all_within(nodes: tuple[Node, ...], alphabet: Chars) -> tuple[Node, ...]:
    return tuple(made for node in nodes if (made := _within(node, alphabet)) is not None)


def _automaton(patterns: list[Pattern], forms: list[Node], rules: TextRules) -> Automaton:
    parts: list[Automaton] = [automaton_of(form) for form in forms]
    for pattern in patterns:
        core = _whole(pattern.node, rules)
        if core is not None and not _has_assertion(core):
            found = automaton_of(core)
        else:
            found = automaton_of(pattern.node, searches=True, unicode=rules.unicode)
            if len(patterns) == 1 and not forms:
                found = _around(found, pattern.node, rules)
        parts.append(found)
        parts += [_looked(look, unicode=rules.unicode) for look in pattern.looks]
    if rules.is_stripped:
        parts.append(automaton_of(_of_length(TextRules(is_stripped=True))))
    made = parts[0]
    for part in parts[1:]:
        made = product(made, part)
    if rules.alphabet != WRITABLE:
        made = _limited(made, rules.alphabet)
    if made.is_empty or (not rules.least and rules.most is None):
        return made
    most = rules.most
    if most is not None and most * len(made.moves) > MAX_STATES:
        # Not so long as it might be: a text of this length has room enough.
        try:
            return bounded(made, rules.least, most)
        except TooLargeError:
            most = max(MAX_STATES // len(made.moves), _SHORT)
    if most is not None and most < rules.least:
        raise TooLargeError
    return bounded(made, rules.least, most)


def _looked(look: Look, *, unicode: bool) -> Automaton:
    anywhere = Repeat(Set(WRITABLE), 0, None)
    found = automaton_of(Seq((look.node, anywhere)), unicode=unicode)
    return opposite(found) if look.is_negative else found


def _limited(automaton: Automaton, alphabet: Chars) -> Automaton:
    moves = tuple(
        tuple((shared, target) for chars, target in each if (shared := intersection(chars, alphabet)))
        for each in automaton.moves
    )
    return trimmed(Automaton(moves, automaton.final))


def _around(automaton: Automaton, node: Node, rules: TextRules) -> Automaton:
    """Bounds the text around a pattern, where nothing else does."""
    if automaton.is_empty or (rules.most is not None and rules.most <= _SHORT):
        return automaton
    shortest = distances(automaton)[0]
    is_value = shortest >= _VALUE_CHARS and _has_class(node)
    begins, ends = _begins(node), _ends(node)
    if begins:
        return found_within(automaton, MAX_STATES, max(_AROUND, rules.least)) if is_value and not ends else automaton
    if ends:
        return automaton if shortest <= 1 else bounded(automaton, 0, max(_BEFORE_ONE, rules.least) + shortest)
    if shortest <= 1:
        return found_within(automaton, max(_BEFORE_ONE, rules.least), None)
    around = max(_AROUND, rules.least)
    return found_within(automaton, around, around)


def _has_class(node: Node) -> bool:
    """Whether a part of it is one of some characters, but not of nearly all."""
    match node:
        case Set(chars):
            size = sum(high - low + 1 for low, high in chars)
            return 2 < size < _NEARLY_ALL
        case Seq(parts) | Alt(parts):
            return any(map(_has_class, parts))
        case Repeat(inner):
            return _has_class(inner)
    return False
