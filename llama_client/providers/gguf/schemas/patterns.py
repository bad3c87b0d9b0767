"""Regular expressions as trees: the syntax that JSON Schema's (JavaScript's), Rust's and Python's have in common, and
what is particular to one of them and clear in its meaning."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from llama_client.providers.gguf.schemas.characters import (
    DIGITS,
    LETTERS,
    LINE_ENDS,
    NOT_DIGITS,
    NOT_SPACE,
    NOT_WORD,
    SPACE,
    UNICODE_WORD,
    WORD,
    WRITABLE,
    Chars,
    complement,
    difference,
    intersection,
    of_ranges,
    of_text,
    union,
)


class UnsupportedPatternError(Exception):
    """A part of a pattern that no grammar can hold, or that is none; says which."""


class Set(NamedTuple):
    chars: Chars


class Seq(NamedTuple):
    parts: tuple[Node, ...]


class Alt(NamedTuple):
    options: tuple[Node, ...]


class Repeat(NamedTuple):
    node: Node
    least: int
    # None: without end.
    most: int | None


class Assertion(NamedTuple):
    """`^`, `$`: the text's ends; `b`: the border of a word; `B`: none."""

    kind: Literal["^", "$", "b", "B"]


Node = Set | Seq | Alt | Repeat | Assertion


class Look(NamedTuple):
    """What the text must, or must not, begin with: a look-ahead at the beginning of a pattern."""

    node: Node
    is_negative: bool


class Pattern(NamedTuple):
    node: Node
    looks: tuple[Look, ...]


EMPTY = Seq(())
ANY = Set(WRITABLE)
_MAX_PATTERN_CHARS = 2000
_MAX_REPEATS = 100_000
_MAX_DEPTH = 60
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0", "a": "\a", "e": "\x1b"}
_POSIX = {
    "alnum": of_ranges([(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)]), "alpha": of_ranges([(0x41, 0x5A), (0x61, 0x7A)]),
    "digit": DIGITS, "lower": of_ranges([(0x61, 0x7A)]), "upper": of_ranges([(0x41, 0x5A)]), "space": SPACE,
    "punct": of_ranges([(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)]), "word": WORD,
    "xdigit": of_ranges([(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)]),
}  # fmt: skip
_UPPER = of_ranges([(0x41, 0x5A), (0xC0, 0xD6), (0xD8, 0xDE), (0x391, 0x3A1), (0x410, 0x42F)])
_LOWER = of_ranges([(0x61, 0x7A), (0xDF, 0xF6), (0xF8, 0xFF), (0x3B1, 0x3C9), (0x430, 0x44F)])
# Of each property some characters, which is enough to write what fits.
_PROPERTIES = {
    "L": LETTERS, "Letter": LETTERS, "Alphabetic": LETTERS, "Lu": _UPPER, "Uppercase": _UPPER, "Ll": _LOWER,
    "Lowercase": _LOWER, "N": DIGITS, "Nd": DIGITS, "P": _POSIX["punct"], "Zs": of_text(" "), "White_Space": SPACE,
    "Latin": of_ranges([(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F)]),
    "Greek": of_ranges([(0x391, 0x3A1), (0x3A3, 0x3C9)]), "Cyrillic": of_ranges([(0x410, 0x44F)]),
    "Han": of_ranges([(0x4E00, 0x9FEF)]),
}  # fmt: skip
_PROPERTIES["P"] = difference(_PROPERTIES["P"], of_text("$+<=>^`|~"))


@lru_cache(maxsize=1024)
def parse(pattern: str, *, unicode: bool) -> Pattern:
    """The tree of a pattern; with `unicode`, `\\w` has the letters of all scripts, as in Rust and Python."""
    if len(pattern) > _MAX_PATTERN_CHARS:
        raise UnsupportedPatternError("it is too long")
    return _Parser(pattern, unicode=unicode).parsed()


def lengths(node: Node) -> tuple[int, int | None]:
    """The fewest and the most characters of what matches; None: without end."""
    match node:
        case Set():
            return 1, 1
        case Seq(parts):
            each = [lengths(part) for part in parts]
            most = [high for _, high in each]
            return sum(low for low, _ in each), _sum(most)
        case Alt(options):
            each = [lengths(option) for option in options]
            highs = [high for _, high in each]
            top = [high for high in highs if high is not None]
            return min(low for low, _ in each), max(top) if len(top) == len(highs) else None
        case Repeat(inner, least, most):
            low, high = lengths(inner)
            if high == 0 or most == 0:
                return 0, 0
            return low * least, None if most is None or high is None else high * most
    return 0, 0


def _sum(lengths_: Iterable[int | None]) -> int | None:
    total = 0
    for each in lengths_:
        if each is None:
            return None
        total += each
    return total


class _Parser:
    def __init__(self, pattern: str, *, unicode: bool) -> None:
        self._text = pattern
        self._at = 0
        self._word = UNICODE_WORD if unicode else WORD
        self._ignores_case = False
        self._dot_is_all = False
        self._depth = 0
        self._looks: list[Look] = []

    def parsed(self) -> Pattern:
        node = self._alternatives(at_start=True)
        if self._at < len(self._text):
            raise UnsupportedPatternError("unbalanced ')'")
        return Pattern(node, tuple(self._looks))

    def _alternatives(self, *, at_start: bool = False) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedPatternError("it is nested too deeply")
        flags = self._ignores_case, self._dot_is_all
        options = [self._sequence(at_start=at_start)]
        while self._peek() == "|":
            if self._looks:
                raise UnsupportedPatternError("look-around in one of several alternatives")
            self._at += 1
            options.append(self._sequence(at_start=False))
        self._ignores_case, self._dot_is_all = flags
        self._depth -= 1
        return options[0] if len(options) == 1 else Alt(tuple(options))

    def _sequence(self, *, at_start: bool) -> Node:
        parts: list[Node] = []
        while (char := self._peek()) not in ("", "|", ")"):
            is_first = at_start and all(part == Assertion("^") for part in parts)
            node = self._atom(char, is_first=is_first)
            if node is not None:
                parts.append(self._repeated(node))
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _atom(self, char: str, *, is_first: bool) -> Node | None:
        """None: a flag or a look-ahead, which is no part of the sequence."""
        self._at += 1
        match char:
            case "^":
                return Assertion("^")
            case "$":
                return Assertion("$")
            case ".":
                return ANY if self._dot_is_all else Set(difference(WRITABLE, LINE_ENDS))
            case "[":
                return self._set(self._class())
            case "(":
                return self._group(is_first=is_first)
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise UnsupportedPatternError(f"nothing is repeated by {char!r}")
        return self._set(of_text(char))

    def _set(self, chars: Chars) -> Set:
        return Set(intersection(_any_case(chars) if self._ignores_case else chars, WRITABLE))

    def _repeated(self, node: Node) -> Node:
        while True:
            match self._peek():
                case "*":
                    bounds: tuple[int, int | None] = (0, None)
                    self._at += 1
                case "+":
                    bounds = (1, None)
                    self._at += 1
                case "?":
                    bounds = (0, 1)
                    self._at += 1
                case "{":
                    read = self._bounds()
                    if read is None:
                        return node
                    bounds = read
                case _:
                    return node
            # Lazy: the same texts match. Possessive: not.
            if self._peek() == "?":
                self._at += 1
            elif self._peek() == "+":
                raise UnsupportedPatternError("a possessive quantifier")
            if not isinstance(node, Assertion):
                node = Repeat(node, *bounds)
            elif bounds[0] == 0:
                node = EMPTY

    def _bounds(self) -> tuple[int, int | None] | None:
        """None: the brace stands for itself."""
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
        if end < 0 or not (low.isdecimal() or (not low and high)) or (high and not high.isdecimal()):
            return None
        least = int(low or 0)
        most = int(high) if high else None if comma else least
        if max(least, most or 0) > _MAX_REPEATS or (most is not None and most < least):
            raise UnsupportedPatternError(f"the repetition {self._text[self._at : end + 1]}")
        self._at = end + 1
        return least, most

    def _group(self, *, is_first: bool) -> Node | None:
        rest = self._text[self._at :]
        if not rest.startswith("?"):
            return self._inner()
        for opening in ("?=", "?!"):
            if rest.startswith(opening):
                self._look(is_first=is_first, is_negative=opening == "?!")
                return None
        if rest.startswith(("?<=", "?<!", "?>", "?(", "?P=", "?P>", "?&", "?R", "?|")):
            raise UnsupportedPatternError("look-around and references" if rest.startswith("?<") else "(" + rest[:3])
        if rest.startswith(("?<", "?P<", "?'")):
            end = rest.find(">" if "<" in rest[:3] else "'", 3)
            if end < 0:
                raise UnsupportedPatternError("a group without an end")
            self._at += end + 1
            return self._inner()
        if rest.startswith("?#"):
            self._at = self._text.find(")", self._at) + 1 or len(self._text)
            return None
        return self._flagged(rest)

    def _flagged(self, rest: str) -> Node | None:
        ends = [at for at in (rest.find(":"), rest.find(")")) if at >= 0]
        if not ends:
            raise UnsupportedPatternError("a group without an end")
        end = min(ends)
        on, _, off = rest[1:end].partition("-")
        if set(on) - set("isuUa") or set(off) - set("ismx"):
            raise UnsupportedPatternError(f"the flags {rest[1:end]}")
        before = self._ignores_case, self._dot_is_all
        self._ignores_case = ("i" in on or self._ignores_case) and "i" not in off
        self._dot_is_all = ("s" in on or self._dot_is_all) and "s" not in off
        self._at += end + (rest[end] == ")")
        if rest[end] == ")":
            return None
        self._at += 1
        node = self._inner()
        self._ignores_case, self._dot_is_all = before
        return node

    def _look(self, *, is_first: bool, is_negative: bool) -> None:
        if not is_first or self._depth > 1:
            raise UnsupportedPatternError("look-around")
        self._at += 2
        looks = self._looks
        self._looks = []
        node = self._inner()
        if self._looks:
            raise UnsupportedPatternError("look-around in look-around")
        self._looks = [*looks, Look(node, is_negative)]

    def _inner(self) -> Node:
        node = self._alternatives()
        if self._peek() != ")":
            raise UnsupportedPatternError("a group without an end")
        self._at += 1
        return node

    def _escape(self) -> Node:
        char = self._next()
        match char:
            case "A":
                return Assertion("^")
            case "z" | "Z":
                return Assertion("$")
            case "b":
                return Assertion("b")
            case "B":
                return Assertion("B")
        if char in "123456789k":
            raise UnsupportedPatternError("a reference to a group")
        return self._set(self._escaped(char))

    def _escaped(self, char: str) -> Chars:
        """What an escape stands for, in a class or out of one."""
        match char:
            case "d":
                return DIGITS
            case "D":
                return NOT_DIGITS
            case "w":
                return self._word
            case "W":
                return NOT_WORD
            case "s":
                return SPACE
            case "S":
                return NOT_SPACE
            case "p":
                return self._property()
            case "x" | "u" | "U":
                return self._code(2 if char == "x" else 4 if char == "u" else 8)
            case "c":
                return of_ranges([(ord(self._next()) % 32,) * 2])
        if char in _CONTROLS:
            return of_text(_CONTROLS[char])
        if char.isalnum():
            raise UnsupportedPatternError(f"the escape \\{char}")
        return of_text(char)

    def _property(self) -> Chars:
        name = self._next()
        if name == "{":
            end = self._text.find("}", self._at)
            name = self._text[self._at : max(end, self._at)]
            self._at = end + 1
        name = name.rpartition("=")[2]
        if name not in _PROPERTIES:
            raise UnsupportedPatternError(f"the property \\p{{{name}}}")
        return _PROPERTIES[name]

    def _code(self, digits: int) -> Chars:
        if self._peek() == "{":
            end = self._text.find("}", self._at)
            text = self._text[self._at + 1 : max(end, 0)]
            self._at = end + 1
        else:
            text = self._text[self._at : self._at + digits]
            self._at += digits
        try:
            code = int(text, 16)
            return of_text(chr(code))
        except (ValueError, OverflowError):
            raise UnsupportedPatternError("an escape that is no code") from None

    def _class(self) -> Chars:
        """What stands between brackets; of Rust also classes in classes, and `&&`, `--`."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedPatternError("it is nested too deeply")
        is_negative = self._peek() == "^"
        self._at += is_negative
        chars: Chars = ()
        left: Chars | None = None
        cut = ""
        is_first = True
        while True:
            char = self._next()
            if char == "]" and not is_first:
                break
            is_first = False
            if self._text.startswith(("&&", "--"), self._at - 1) and chars:
                left, chars, cut = _cut(left, cut, chars), (), char
                self._at += 1
                continue
            chars = union(chars, self._members(char))
        chars = _cut(left, cut, chars)
        self._depth -= 1
        if not is_negative:
            return chars
        # Before the complement: what it leaves out, it leaves out in every case.
        excluded = _any_case(chars) if self._ignores_case else chars
        return _without(excluded)

    def _members(self, char: str) -> Chars:
        if char == "[":
            if self._text.startswith(":", self._at) and (end := self._text.find(":]", self._at)) > 0:
                name = self._text[self._at + 1 : end]
                if name not in _POSIX:
                    raise UnsupportedPatternError(f"the class [:{name}:]")
                self._at = end + 2
                return _POSIX[name]
            return self._class()
        low = self._member(char)
        if (
            not self._text.startswith("-", self._at)
            or self._text.startswith(("-]", "--"), self._at)
            or not _is_one(low)
        ):
            return low
        self._at += 1
        high = self._member(self._next())
        if not _is_one(high) or high[0][0] < low[0][0]:
            raise UnsupportedPatternError("a range of characters without an order")
        return of_ranges([(low[0][0], high[0][0])])

    def _member(self, char: str) -> Chars:
        if char != "\\":
            return of_text(char)
        escaped = self._next()
        return of_text("\b") if escaped == "b" else self._escaped(escaped)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise UnsupportedPatternError("it ends too early")
        self._at += 1
        return char


def _is_one(chars: Chars) -> bool:
    return len(chars) == 1 and chars[0][0] == chars[0][1]


def _cut(left: Chars | None, cut: str, right: Chars) -> Chars:
    if left is None:
        return right
    return intersection(left, right) if cut == "&" else difference(left, right)


# In a complement, what only some of a dialect's `\d`, `\w` and `\s` have must be left out as well.
_WIDER = ((DIGITS, NOT_DIGITS), (WORD, NOT_WORD), (SPACE, NOT_SPACE))


def _without(chars: Chars) -> Chars:
    rest = intersection(complement(chars), WRITABLE)
    for part, others in _WIDER:
        if intersection(part, chars) == part:
            rest = intersection(rest, others)
    return rest


def _any_case(chars: Chars) -> Chars:
    """With the other case of each letter of ASCII; of others, only those that are there."""
    shifted = []
    for low, high, by in ((0x41, 0x5A, 0x20), (0x61, 0x7A, -0x20)):
        shifted += [(a + by, b + by) for a, b in intersection(chars, of_ranges([(low, high)]))]
    return union(chars, of_ranges(shifted))
