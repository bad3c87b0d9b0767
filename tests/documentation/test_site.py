"""The site is built without a warning, has every page in its navigation, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mkdocs.utils.yaml import yaml_load

from tests.crossover import chromium
from tests.documentation.pages import DOCS, ROOT, blocks_of, name_of

TIMEOUT_S = 180
# What a page loads by itself, and where it says so; a link is followed by its reader.
_LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
# The command, which leaves nothing to collect: looking for it takes a sixth of the time.
_MKDOCS = "import gc; gc.disable(); from mkdocs.__main__ import cli; cli()"
_ELSEWHERE = re.compile(r"(?:https?:)?//")


@dataclass(frozen=True)
class Site:
    """The built site, and what was said while it was built."""

    folder: Path
    said: str


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Built once, with warnings told and not yet an error, so that each test can say what is wrong."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", _MKDOCS, "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert built.returncode == 0, built.stderr
    return Site(folder, built.stderr)


def configuration() -> dict[str, Any]:
    return yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def in_navigation(entries: list[Any]) -> Iterator[str]:
    """The pages of a navigation, in order."""
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from in_navigation(value)


def test_every_page_of_the_navigation_is_there() -> None:
    missing = [page for page in in_navigation(configuration()["nav"]) if not (DOCS / page).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation_once() -> None:
    pages = sorted(name_of(page) for page in DOCS.rglob("*.md"))
    named = [page for page in in_navigation(configuration()["nav"]) if (DOCS / page).exists()]
    assert sorted(named) == pages


def test_the_site_is_built_without_a_warning(site: Site) -> None:
    """Also of links and anchors that lead nowhere, which `mkdocs build --strict` refuses."""
    validation = configuration()["validation"]
    assert set(validation) == {"omitted_files", "absolute_links", "unrecognized_links", "not_found", "anchors"}
    assert set(validation.values()) == {"warn"}
    assert [line for line in site.said.splitlines() if "WARNING" in line or "ERROR" in line] == []


def test_no_page_loads_anything_from_elsewhere(site: Site) -> None:
    found = {page.relative_to(site.folder).as_posix(): elsewhere(page) for page in site.folder.rglob("*.html")}
    assert len(found) > 20
    assert {page: loads for page, loads in found.items() if loads} == {}


def test_no_style_loads_anything_from_elsewhere(site: Site) -> None:
    for style in site.folder.rglob("*.css"):
        assert re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*|@import[^;]*//[^;]*", style.read_text("utf-8")) == []


def test_everything_that_a_page_loads_is_there(site: Site) -> None:
    missing = set()
    for page in site.folder.rglob("*.html"):
        if page.name != "404.html":  # it is served for any address, so it names everything from the root
            missing |= {load for load in loads(page) if not (page.parent / re.split("[?#]", load)[0]).exists()}
    assert missing == set()


def test_no_code_stands_in_a_page_without_a_fence(site: Site) -> None:
    """Indented code would be shown like any other, and nobody would run it."""
    for page in DOCS.rglob("*.md"):
        name = name_of(page)
        if not name.startswith(("reference/", "changes")):
            html = (site.folder / name).with_suffix(".html").read_text(encoding="utf-8")
            assert html.count("<pre") == len(list(blocks_of(page.read_text(encoding="utf-8"), name))), name


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(_LOADS.get(tag, ""))
        # Links to the page before and after are for the reader as well.
        if address and not (tag == "link" and given.get("rel") in ("prev", "next", "canonical")):
            self.found.append(address)


def loads(page: Path) -> list[str]:
    parser = _Loads()
    parser.feed(page.read_text(encoding="utf-8"))
    return [load for load in parser.found if not load.startswith("data:")]


def elsewhere(page: Path) -> list[str]:
    return [load for load in loads(page) if _ELSEWHERE.match(load)]


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', ["//fonts.example/x.css"]),
        ('<img src="http://example.org/pixel.gif">', ["http://example.org/pixel.gif"]),
        ('<a href="https://example.org">a link</a><script src="../x.js"></script>', []),
    ],
)
def test_what_would_be_loaded_from_elsewhere_is_seen(html: str, found: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(html, encoding="utf-8")
    assert elsewhere(page) == found


def test_the_search_works_where_the_site_is_read_from_a_folder(site: Site, tmp_path: Path) -> None:
    program = chromium.program()
    if program is None:
        pytest.skip("there is no Chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
    command += ["--dump-dom", f"{(site.folder / 'index.html').as_uri()}?q=budget"]
    seen = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True, encoding="utf-8").stdout
    assert re.search(r"\d+ matching documents", seen)
