"""Writes the tables of keywords in docs/guides/structured-output.md: `python -m tests.providers.gguf.keywords_page`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from llama_client.schema_keywords import FORMATS, KEYWORDS, Keyword

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "structured-output.md"
_KEYWORDS = re.compile(r"(<!-- keywords -->\n).*?(<!-- end of keywords -->)", re.DOTALL)
_FORMATS = re.compile(r"(<!-- formats -->\n).*?(<!-- end of formats -->)", re.DOTALL)
_STRICT = {"kept": "sent", "left out": "left out", "looser": "sent without `strict`"}


def filled(page: str) -> str:
    """The page with the tables as the rows have them."""
    page = _KEYWORDS.sub(lambda found: f"{found[1]}\n{_table('keyword', KEYWORDS.values())}\n{found[2]}", page)
    return _FORMATS.sub(lambda found: f"{found[1]}\n{_table('format', FORMATS.values())}\n{found[2]}", page)


def _table(title: str, rows: Iterable[Keyword]) -> str:
    lines = [f"| {title} | in this process | how | strict servers |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: Keyword) -> str:
    strict = _STRICT.get(row.strict, f"sent as {row.strict}")
    return f"| `{row.name}` | {row.outcome} | {row.how} | {strict} |"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
