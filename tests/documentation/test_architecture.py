"""Each name in the table "Where to look" of docs/architecture.md is where the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
PACKAGE = _ROOT / "llama_client"
_TABLE = (
    (_ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Where to look")[2].partition("\n## ")[0]
)
_PLACE = re.compile(r"`([\w/]+\.py)`(?: \(((?:`[\w.]+`[^`)]*)+)\))?")
PLACES = [(path, name) for path, names in _PLACE.findall(_TABLE) for name in re.findall(r"`([\w.]+)`", names) or [""]]


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_a_place_is_where_the_table_says(path: str, name: str) -> None:
    text = (PACKAGE / path).read_text(encoding="utf-8")
    for part in filter(None, name.split(".")):
        assert re.search(rf"^ *(?:async def|def|class) {part}\b|^{part}\b.* = ", text, re.MULTILINE)


def test_the_table_has_places() -> None:
    assert len(PLACES) > 30
