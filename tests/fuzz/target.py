"""What a fuzz target is: a function of bytes that raises where the package breaks a promise."""

from __future__ import annotations

import random
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from hypothesis import strategies as st

# Planted where the package holds a secret. No text that leaves the package may show it, nor a telling part of it.
KEY = "sk-planted-0a1b2c3d4e5f6a7b"
_TELLING_CHARS = 12
_KEY_AS_A_WORD = re.compile(rf"(?<![A-Za-z0-9]){re.escape(KEY)}(?![A-Za-z0-9.=_-])")
_MAX_CHAIN = 20
# One input in so many is run with its lines of Python counted, which makes it some ten times slower.
_COUNTED_ONE_IN = 64


class BrokenPromiseError(Exception):
    """A promise does not hold; the message names it, and is the same for all inputs that break it."""


def require(is_so: object, promise: str) -> None:
    if not is_so:
        raise BrokenPromiseError(promise)


@dataclass(frozen=True)
class Target:
    """One kind of input from outside.

    Attributes:
        name: Its name on the command line.
        check: Hands an input to the package. Whatever it raises is a fault.
        seeds: Invented inputs, near which others are tried.
        cases: Inputs that are made with their grammar in mind.
        tokens: What a fuzzer may put into an input.
        lines: The lines of Python that an input may take, and for each of its bytes: more than linear work shows here.
        max_bytes: The longest input.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    cases: st.SearchStrategy[bytes] = field(default_factory=st.nothing)
    tokens: tuple[bytes, ...] = ()
    lines: tuple[int, int] = (20_000, 100)
    max_bytes: int = 2048

    def inputs(self) -> st.SearchStrategy[bytes]:
        """All that hypothesis tries: seeds, seeds with edits, cases, and any bytes."""
        parts = [st.sampled_from(self.seeds), edited(self.seeds, self.tokens), st.binary(max_size=64)]
        return st.one_of(*parts, *([] if self.cases.is_empty else [self.cases] * 3)).map(self._cut)

    def run(self, data: bytes) -> None:
        """Checks one input; of some, also that the work grows no faster than the input."""
        if zlib.crc32(data) % _COUNTED_ONE_IN:
            self.check(data)
            return
        allowed = self.lines[0] + self.lines[1] * len(data)
        # The first time something may have been imported.
        is_linear = any(lines_of(lambda: self.check(data)) <= allowed for _ in range(2))
        require(is_linear, "the work is linear in the input")

    def _cut(self, data: bytes) -> bytes:
        return data[: self.max_bytes]


Opener = Callable[[], AbstractContextManager[Target]]


@st.composite
def edited(draw: st.DrawFn, seeds: tuple[bytes, ...], tokens: tuple[bytes, ...]) -> bytes:
    """A seed with a few edits: bytes left out, repeated, replaced, put in, or taken from another seed."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(start + 40, len(data))))
        match draw(st.integers(0, 4)):
            case 0:
                put = b""
            case 1:
                put = data[start:end] * draw(st.integers(2, 5))
            case 2:
                put = draw(st.binary(max_size=4))
            case 3 if tokens:
                put = draw(st.sampled_from(tokens))
            case _:
                other = draw(st.sampled_from(seeds))
                put = other[draw(st.integers(0, len(other))) :]
        data = data[:start] + put + data[end:]
    return data


class Choices:
    """Values chosen by the bytes of an input; zeros and empty values at its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_spent(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def number(self, below: int) -> int:
        """From 0 up to `below`, which is at most 256."""
        return int.from_bytes(self.take(1), "little") % below

    def among(self, values: Any) -> Any:
        return values[self.number(len(values))]

    def signed(self) -> int:
        """64 bits."""
        return int.from_bytes(self.take(8), "little", signed=True)


def pieces_of(data: bytes, seed: int) -> list[bytes]:
    """The bytes, cut in a way that the seed decides; with seed 0 each on its own."""
    if seed == 0:
        return [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(seed)
    longest = chance.choice((2, 7, 40, 400))
    pieces = []
    at = 0
    while at < len(data):
        size = chance.randint(1, longest)
        pieces.append(data[at : at + size])
        at += size
    return pieces


def lines_of(work: Callable[[], object]) -> int:
    """The lines of Python that something executes."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def texts_of(error: BaseException, *, with_hidden: bool = False) -> Iterator[str]:
    """What an error and its causes show, with the traceback as it is printed; also causes that are hidden there."""
    link: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if link is None:
            return
        yield str(link)
        yield repr(link)
        for name, value in vars(link).items():
            yield f"{name}={value!r}"
        link = link.__cause__ or (None if link.__suppress_context__ and not with_hidden else link.__context__)
    yield "".join(traceback.format_exception(error))


def require_no_secret(texts: Iterator[str], said: bytes = b"") -> None:
    """No text shows the planted key. `said`: what the other side sent, which may itself hold parts of it."""
    telling = KEY[:_TELLING_CHARS]
    wanted = KEY if telling.encode() in said.replace(KEY.encode(), b"") else telling
    require(not any(wanted in text for text in texts), "no text shows the key")


def require_nothing_like_a_key(texts: Iterator[str]) -> None:
    """No text shows the planted key, where nothing but its form tells that it is one."""
    require(not any(_KEY_AS_A_WORD.search(text) for text in texts), "no text shows what looks like a key")
