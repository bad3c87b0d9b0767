"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# A fence may stand indented: in a list, a note or a tab.
_OPENING = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w.+-]*) *(?P<rest>.*)")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page's name: `guides/streaming.md`, or `README.md`.
        line: Where its fence opens, counted from 1.
        language: What stands behind the fence; empty where nothing does.
        source: What is in it, without the indentation of the fence.
        title: The name of the file that it is, if it has one: the file lies in the folder of all later blocks.
        follows: The line at which the block above closes, if nothing but empty lines is between; else None.
    """

    page: str
    line: int
    language: str
    source: str
    title: str | None = None
    follows: int | None = None

    @property
    def place(self) -> str:
        """`guides/streaming.md:12`."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README.md, and all pages of docs/."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """What a page is called in the tests' names."""
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


def blocks() -> list[Block]:
    """All blocks of all pages, in order."""
    return [block for page in pages() for block in blocks_of(page.read_text(encoding="utf-8"), name_of(page))]


def blocks_of(text: str, page: str) -> Iterator[Block]:
    """The blocks of a page.

    Raises:
        ValueError: A fence is not closed.
    """
    lines = text.splitlines()
    at, closed, is_adjacent = 0, 0, False
    while at < len(lines):
        opening = _OPENING.fullmatch(lines[at])
        if opening is None:
            is_adjacent = is_adjacent and not lines[at].strip()
            at += 1
            continue
        closing = re.compile(rf" *{re.escape(opening['fence'][0])}{{{len(opening['fence'])},}} *")
        end = next((end for end in range(at + 1, len(lines)) if closing.fullmatch(lines[end])), None)
        if end is None:
            raise ValueError(f"{page}:{at + 1}: this fence is not closed")
        title = _TITLE.search(opening["rest"])
        yield Block(
            page=page,
            line=at + 1,
            language=opening["language"],
            source=textwrap.dedent("\n".join(lines[at + 1 : end]) + "\n"),
            title=title["title"] if title else None,
            follows=closed if is_adjacent else None,
        )
        at, closed, is_adjacent = end + 1, at + 1, True
