"""The page of a crossover: what it holds, and how Chromium shows it on a phone, on a screen and in the dark."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from llama_client.crossover.plots.plots import Page, Plot, page_plots, render, save_sheet, write_page
from llama_client.crossover.report_tables import Table
from tests.crossover.chromium import PROBE, Measured, contrast, measure, program
from tests.crossover.picture_scenarios import EVIL, crossover

SIZES = {"phone": (360, 740), "screen": (1280, 800)}
SHOWN = ("never", "no-api", "purchase", "seven apis", "evil names", "flips")
SHEETS = ("depends", "purchase that never pays", "seven apis", "flips")
_VOID = {"meta", "path", "use", "rect", "circle"}
needs_chromium = pytest.mark.skipif(program() is None, reason="Chromium is not installed: apt-get install chromium")


def page(name: str) -> Page:
    """A page as a report fills it: with a sentence, notes, pictures, a wide table and a long one."""
    answer = crossover(name)
    rows = [[each.name, str(each.value), each.unit, each.source, "12 days"] for each in answer.assumptions]
    wide = [[f"scenario {row}", *(f"{row * column:,} USD a month" for column in range(12))] for row in range(3)]
    return Page(
        title=f"Llama 3.3 70B: {name}",
        sentence="Self-hosting is cheaper from 440 M tokens a day on, and for good from 806 M.",
        notes=["What binds: memory bandwidth.", "https://example.org/" + "a-long-address" * 20, EVIL],
        tables=[
            Table("Assumptions", ["figure", "value", "unit", "source", "age"], rows, "Judgement first."),
            Table("Scenarios", ["which", *(f"column {number}" for number in range(12))], wide),
        ],
        plots=page_plots(answer),
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages, and sheets that stand alone."""
    found = {name: render(page(name)) for name in SHOWN}
    folder = tmp_path_factory.mktemp("sheets")
    for name in SHEETS:
        save_sheet(crossover(name), folder / "sheet.svg", title=f"About {name}")
        found[f"sheet of {name}"] = (folder / "sheet.svg").read_text(encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def seen(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """All of them by day, in one start of Chromium."""
    return measure(pages, SIZES, tmp_path_factory.mktemp("day"))


@pytest.fixture(scope="module")
def dark(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Some of them by night, in another."""
    some = {name: pages[name] for name in ("never", "purchase", "seven apis")}
    return measure(some, {"phone": SIZES["phone"]}, tmp_path_factory.mktemp("night"), is_dark=True)


def frames(measured: Measured, size: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The pages' measures; those of sheets apart."""
    found = [(name, each) for name, each in measured.frames.items() if name.endswith(size) and "sheet" not in name]
    assert found
    yield from found


@needs_chromium
def test_no_page_is_wider_than_its_screen(seen: Measured) -> None:
    for name, each in frames(seen):
        assert each["width"] == SIZES[name.rpartition(" ")[2]][0], name
        assert each["scrollWidth"] <= each["width"], name


@needs_chromium
def test_every_picture_is_seen_whole(seen: Measured) -> None:
    for name, each in frames(seen):
        assert len(each["pictures"]) >= 3, name
        for picture in each["pictures"]:
            left, top, right, bottom = picture["box"]
            assert 0 <= left < right <= each["width"], name
            assert right - left >= 300, name
            assert bottom - top >= 200, name


@needs_chromium
def test_words_in_pictures_are_large_enough_and_within_them(seen: Measured) -> None:
    for name, each in seen.frames.items():
        for picture in each["pictures"]:
            left, top, right, bottom = picture["box"]
            assert len(picture["texts"]) > 8, name
            for text in picture["texts"]:
                assert text["px"] >= 9 or "sheet" in name, (name, text)
                assert left - 1 <= text["box"][0] < text["box"][2] <= right + 1, (name, text)
                assert top - 1 <= text["box"][1] < text["box"][3] <= bottom + 1, (name, text)


@needs_chromium
def test_no_words_of_a_picture_overlap(seen: Measured) -> None:
    for name, each in seen.frames.items():
        for picture in each["pictures"]:
            for one, other in combinations(picture["texts"], 2):
                (left, top, right, bottom), box = one["box"], other["box"]
                wide, high = min(right, box[2]) - max(left, box[0]), min(bottom, box[3]) - max(top, box[1])
                # Lines stand closer than their boxes, which have room for any letter.
                assert wide <= 1 or high <= 0.35 * min(bottom - top, box[3] - box[1]), (name, one, other)


@needs_chromium
def test_a_table_that_is_too_wide_scrolls_in_its_own_box(seen: Measured) -> None:
    for name, each in frames(seen, "phone"):
        assert len(each["tables"]) == 2, name
        for table in each["tables"]:
            assert 0 <= table["box"][0] < table["box"][2] <= each["width"], name
            assert table["scrollWidth"] > table["width"], name
            # So words stay whole, and nobody scrolls along one cell.
            assert all(90 <= right - left <= 0.9 * each["width"] for left, _, right, _ in table["cells"]), name


@needs_chromium
def test_nothing_is_loaded_or_run_and_nobody_complains(seen: Measured, dark: Measured) -> None:
    for measured in (seen, dark):
        for name, each in frames(measured):
            assert each["loaded"] == [], name
            assert each["scripts"] == 0, name
        [only] = measured.console
        assert PROBE in only


@needs_chromium
def test_by_day_and_by_night_all_words_can_be_read(seen: Measured, dark: Measured) -> None:
    for measured in (seen, dark):
        for name, each in frames(measured, "phone"):
            for text in [*each["words"], *(text for picture in each["pictures"] for text in picture["texts"])]:
                assert contrast(text["colour"], each["background"]) >= 4.5, (name, text, each["background"])
    [night] = {each["background"] for _, each in frames(dark)}
    [day] = {each["background"] for _, each in frames(seen)}
    assert contrast(day, "rgb(255, 255, 255)") < 1.2
    assert contrast(night, "rgb(0, 0, 0)") < 1.5


class _Checked(HTMLParser):
    """Sees that each element ends where it should, and keeps what may load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"src", "href", "srcset", "action"}]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def test_a_page_is_one_small_file_that_names_no_address_to_load(pages: dict[str, str]) -> None:
    for name in SHOWN:
        html = pages[name]
        checked = _Checked()
        checked.feed(html)
        assert checked.open == []
        assert not {"script", "link", "img", "iframe", "object", "image", "base", "form"} & set(checked.seen)
        assert all(address.startswith("#") for address in checked.addresses)
        assert not re.search(r"url\((?!#)|@import|xmlns", html)
        assert len(html.encode()) < 500_000
        names = re.findall(r'\sid="([^"]+)"', html)
        assert len(names) == len(set(names))


def test_a_page_says_what_it_is(pages: dict[str, str]) -> None:
    html, plots = pages["never"], page_plots(crossover("never"))
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "<title>Llama 3.3 70B: never</title>" in html
    assert html.count("<h1>") == 1
    for picture in plots:
        assert f">{picture.heading}</h2>" in html
    assert html.count('role="img" aria-labelledby="figure') == html.count("<figure>") == len(plots)
    assert {"prefers-color-scheme: dark", "@media print"} <= set(
        re.findall(r"prefers-color-scheme: dark|@media print", html)
    )


def test_words_of_others_stay_words() -> None:
    """Whatever a provider calls its model, it is shown and not run; nor does it turn the line around."""
    table = Table(EVIL, [EVIL], [[EVIL, "a" * 50]], EVIL)
    picture = Plot("<svg viewBox='0 0 1 1'></svg>", EVIL, EVIL)
    html = render(Page(title=EVIL, sentence=EVIL, notes=[EVIL], tables=[table], plots=[picture]))
    checked = _Checked()
    checked.feed(html)
    assert "script" not in checked.seen
    assert html.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; $x^2$") == 10
    assert "\u202e" not in html
    assert "$title" in render(Page(title="$title ${notes}", sentence="$")), "what looks like a place is none"


def test_a_row_is_named_by_its_first_cell_unless_that_is_all_of_it() -> None:
    html = render(Page("t", "s", tables=[Table("two", ["a", "b"], [["x", "1"]]), Table("one", ["a"], [["alone"]])]))
    assert '<tr><th scope="row">x</th><td>1</td></tr>' in html
    assert "<tr><td>alone</td></tr>" in html


def test_what_is_absent_leaves_nothing() -> None:
    html = render(Page(title="t", sentence=""))
    for part in ("<ul", "<figure", "<table", '<p class="verdict"'):
        assert part not in html


def test_the_same_page_is_the_same_text(pages: dict[str, str]) -> None:
    assert render(page("purchase")) == pages["purchase"]


def test_a_page_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(Page(title="日本", sentence="s"), tmp_path / "page.html")
    assert "<h1>日本</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        write_page(Page(title="t", sentence="s"), tmp_path / "nowhere" / "page.html")
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there that not everybody has")
def test_a_link_to_a_page_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "page.html").symlink_to("folder/real.html")
    write_page(Page(title="t", sentence="s"), tmp_path / "page.html")
    assert (tmp_path / "page.html").is_symlink()
    assert "<h1>t</h1>" in (tmp_path / "folder" / "real.html").read_text(encoding="utf-8")
