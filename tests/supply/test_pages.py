"""What SECURITY.md and docs/portability.md name is there."""

from __future__ import annotations

import re

import pytest

from tests.supply.bounds import ROOT


def _named(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w/]+\.py)`", text)


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/portability.md"])
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    names = _named(page)
    assert len(names) > 20
    missing = [name for name in names if not (ROOT / name).exists() and not (ROOT / "llama_client" / name).exists()]
    assert missing == []


def test_every_promise_names_its_code_and_its_tests() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## What is promised")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!against|-).*\|$", page, re.MULTILINE)
    assert len(rows) >= 15
    for row in rows:
        *_, code, tests, _ = row.split("|")
        assert "`llama_client/" in code
        assert "`tests/" in tests
