"""Sets of characters, as ranges of code points, and how the engine's grammar writes them within a JSON string."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

# Sorted ranges, both ends included, that neither overlap nor touch.
Chars = tuple[tuple[int, int], ...]

_LAST = 0x10FFFF


def of_ranges(ranges: Iterable[tuple[int, int]]) -> Chars:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def of_text(text: str) -> Chars:
    return of_ranges((ord(char), ord(char)) for char in text)


def union(*sets: Chars) -> Chars:
    return of_ranges(pair for each in sets for pair in each)


def complement(chars: Chars) -> Chars:
    ranges, at = [], 0
    for low, high in chars:
        if low > at:
            ranges.append((at, low - 1))
        at = high + 1
    if at <= _LAST:
        ranges.append((at, _LAST))
    return tuple(ranges)


def intersection(one: Chars, other: Chars) -> Chars:
    ranges, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low <= high:
            ranges.append((low, high))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(ranges)


def difference(one: Chars, other: Chars) -> Chars:
    return intersection(one, complement(other))


# What a string may hold: tab, line feed, carriage return, and all but controls and surrogates, which are no text.
WRITABLE = of_ranges([(0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x7E), (0xA0, 0xD7FF), (0xE000, _LAST)])
ASCII = of_ranges([(0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x7E)])
DIGITS = of_text("0123456789")
WORD = of_ranges([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
# Letters of scripts that are written most; Rust's and Python's `\w` has these and more, JavaScript's has none of them.
_LETTERS = (
    (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2AF), (0x386, 0x386), (0x388, 0x38A), (0x38E, 0x3A1), (0x3A3, 0x3CE),
    (0x400, 0x481), (0x48A, 0x52F), (0x531, 0x556), (0x561, 0x587), (0x5D0, 0x5EA), (0x621, 0x63A), (0x641, 0x64A),
    (0x904, 0x939), (0x10D0, 0x10F0), (0x1E00, 0x1EFF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x3400, 0x4DBF),
    (0x4E00, 0x9FEF), (0xAC00, 0xD7A3),
)  # fmt: skip
LETTERS = of_ranges([(0x41, 0x5A), (0x61, 0x7A), *_LETTERS])
UNICODE_WORD = union(WORD, LETTERS)
SPACE = of_text("\t\n\r ")
# All that any dialect calls white space.
_ANY_SPACE = of_ranges(
    (
        (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200A),
        (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
    )
)  # fmt: skip
NOT_SPACE = difference(WRITABLE, _ANY_SPACE)
# Of what lies beyond ASCII, only what is certainly no digit, or no part of a word, in every dialect.
NOT_DIGITS = union(
    difference(ASCII, DIGITS), of_ranges([(0xA1, 0x5FF), (0x2010, 0x2027), (0x3001, 0x9FEF), (0xAC00, 0xD7A3)])
)
NOT_WORD = union(difference(ASCII, WORD), of_ranges([(0x2010, 0x2027), (0x3001, 0x3003)]))
# What ends a line, and so is not matched by `.` in any dialect.
LINE_ENDS = of_text("\n\r\u2028\u2029")

_ESCAPES = {0x22: r"\"", 0x5C: r"\\", 0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t"}
_BARE = difference(WRITABLE, of_ranges((code, code) for code in _ESCAPES))
# Within JSON text that is itself in a string: what needs no escape at either level.
NESTED = difference(WRITABLE, of_text('"\\\n\r\t'))


def literal(text: str) -> str:
    """A literal of the grammar."""
    return '"' + "".join(map(_in_literal, text)) + '"'


def in_string(text: str) -> str:
    """Text as it stands in a JSON string, without the quotes."""
    return "".join(_ESCAPES.get(ord(char), char) for char in text)


@lru_cache(maxsize=4096)
def alternatives(chars: Chars) -> tuple[str, ...]:
    """The ways to write one of these characters in a JSON string, as terms of the grammar."""
    ways = []
    bare = intersection(chars, _BARE)
    if bare:
        ways.append("[" + "".join(map(_range, bare)) + "]")
    ways += [literal(escape) for code, escape in _ESCAPES.items() if any(low <= code <= high for low, high in chars)]
    return tuple(ways)


@lru_cache(maxsize=4096)
def term(chars: Chars) -> str:
    """One of these characters in a JSON string, as one term of the grammar."""
    ways = alternatives(chars)
    return ways[0] if len(ways) == 1 else "(" + " | ".join(ways) + ")"


def _range(pair: tuple[int, int]) -> str:
    low, high = pair
    return _in_class(low) if low == high else f"{_in_class(low)}-{_in_class(high)}"


def _in_class(code: int) -> str:
    if code < 0x80:
        return chr(code) if chr(code).isalnum() else f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _in_literal(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if " " <= char != "\x7f" else f"\\x{ord(char):02X}"
