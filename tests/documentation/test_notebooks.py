"""Notebooks print what stands below their cells, and their pages show them as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation.notebooks import PAGES, cells_of, page_of, printed
from tests.documentation.pages import DOCS, ROOT

each = pytest.mark.parametrize("page", sorted(PAGES))


@each
def test_each_cell_prints_what_stands_below_it(page: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples")
    cells = cells_of(PAGES[page])
    assert list(printed(cells)) == [cell.printed for cell in cells if cell.is_code]


@each
def test_the_page_shows_the_notebook(page: str) -> None:
    told = "run: python -m tests.documentation.notebooks"
    assert (DOCS / page).read_text(encoding="utf-8") == page_of(PAGES[page]), told


def test_every_notebook_has_a_page() -> None:
    assert set(PAGES.values()) == set((ROOT / "examples").glob("*.ipynb"))
