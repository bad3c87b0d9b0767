"""Pictures of a crossover: what is in them, and that none is there by half."""

from __future__ import annotations

import math
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llama_client.crossover.crossings import Crossings
from llama_client.crossover.headline import where_cheaper
from llama_client.crossover.plots.costs import curves, shades
from llama_client.crossover.plots.plots import Plot, page_plots, save_sheet
from llama_client.errors import MissingExtraError
from tests import fresh
from tests.crossover.picture_scenarios import EVIL, NAMES, crossover

_NO_WINDOWS = """
import sys
from pathlib import Path
from llama_client.crossover.plots.plots import save_sheet
from tests.crossover.picture_scenarios import crossover
save_sheet(crossover("no-api"), Path(sys.argv[1]), title="t")
print(sorted(name for name in sys.modules if "pyplot" in name or "tkinter" in name or "backend_tk" in name))
"""


def texts(svg: str) -> list[str]:
    """All texts of a picture, in their order."""
    return [
        "".join(each.itertext()).strip() for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every crossover's sheet."""
    folder = tmp_path_factory.mktemp("sheets")
    for name in NAMES:
        save_sheet(crossover(name), folder / f"{name}.svg", title=f"About {name}")
    return folder


@pytest.fixture(scope="module")
def sheets(files: Path) -> dict[str, list[str]]:
    """The texts of every crossover's sheet."""
    return {name: texts((files / f"{name}.svg").read_text(encoding="utf-8")) for name in NAMES}


@pytest.fixture(scope="module")
def depends() -> list[Plot]:
    """The pictures of one crossover's page."""
    return page_plots(crossover("depends"))


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("never", r"Never: self-hosting costs at least [\d.]+ times the cheapest API, at any volume"),
        ("free", r"Never: the API is free, at any volume"),
        ("no-api", r"No API is given: there is nothing to compare with"),
        ("depends", r"Too close to call at 300 M tokens a day: self-hosting is cheaper in [\d.]+% of the draws"),
        ("self-host", r"Self-hosting is cheaper at 3 G tokens a day \(in [\d.]+% of the draws\)"),
        (
            "purchase that never pays",
            r"The API is cheaper at 20 M tokens a day \(self-hosting in [\d.]+% of the draws\)",
        ),
        ("flips", r"It depends: your own is cheaper from 7\.41 G tokens a day, for good from 21\.8 G; the"),
    ],
)
def test_a_sheet_says_the_verdict(sheets: dict[str, list[str]], name: str, verdict: str) -> None:
    assert any(re.match(verdict, text) for text in sheets[name]), sheets[name]


def test_a_sheet_has_each_picture_that_there_is_something_for(sheets: dict[str, list[str]]) -> None:
    always = {"Cost of a month by volume", "Cost of a million tokens by volume", "What each figure changes on its own"}
    only = {
        "How likely self-hosting is cheaper": {"never", "depends", "self-host", "seven apis", "evil names"},
        "What the purchase has brought": {"purchase", "purchase that never pays"},
        "The winner by volume and peak": set(NAMES) - {"no-api", "free"},
    }
    for name, found in sheets.items():
        assert always - {"What each figure changes on its own"} <= set(found)
        assert f"About {name}" in found
        for heading, names in only.items():
            assert (heading in found) == (name in names), (name, heading)
    assert always <= set(sheets["never"])


def test_the_cheapest_apis_are_named_with_their_prices_and_the_others_counted(sheets: dict[str, list[str]]) -> None:
    found = sheets["seven apis"]
    sellers = [text.partition(" ")[0] for text in found if text.endswith("/M")]
    assert sellers[:4] == ["deepinfra", "nebius", "novita", "4"]
    assert "4 dearer APIs, up to $0.90/M" in found
    assert any(text.endswith(": $0.122/M") for text in found)


def test_fees_and_free_apis_are_told(sheets: dict[str, list[str]]) -> None:
    assert "flat llama: $9k a month" in sheets["evil names"]
    assert any(text.endswith("…: $0.50/M and $500 a month") for text in sheets["evil names"])
    assert "together llama: free" in sheets["free"]


def test_what_is_marked_is_told_in_the_legend(sheets: dict[str, list[str]]) -> None:
    assert "your volume: 300 M tokens a day" in sheets["depends"]
    for told in (r"open from [\d.]+ M tokens a day", r"self-hosting is cheaper from [\d.]+ [MG] tokens a day"):
        assert any(re.fullmatch(told, text) for text in sheets["depends"]), told
    assert any(re.match(r"as likely as not at [\d.]+ M tokens a day", text) for text in sheets["depends"])
    assert {"first cheaper from 7.41 G tokens a day", "for good from 21.8 G tokens a day"} <= set(sheets["flips"])
    assert "where 8 in 10 draws of its cost lie" in sheets["depends"]
    assert "where 8 in 10 draws of its cost lie" not in sheets["flips"], "nothing was drawn"
    assert "what it costs more, at any volume" in sheets["never"]
    assert not any(text == "self-hosting is cheaper" for text in sheets["never"])


def test_a_purchase_tells_when_it_has_paid_for_itself(sheets: dict[str, list[str]]) -> None:
    bought = crossover("purchase").investment()
    assert bought is not None
    assert bought.payback_months is not None
    assert f"paid for in month {bought.payback_months:.1f}" in sheets["purchase"]
    assert "It never pays for itself" in sheets["purchase that never pays"]


def test_each_swing_has_its_bounds(sheets: dict[str, list[str]]) -> None:
    assert "peak to mean: 1.3 to 5" in sheets["never"]
    assert "staff a month: $0 to $3k" in sheets["never"]
    assert "rate left by the limits of waiting: 40% to 80%" in sheets["never"]


def test_a_png_is_one(tmp_path: Path) -> None:
    path = tmp_path / "crossover.PNG"
    save_sheet(crossover("depends"), path, title="Crossover")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1800
    assert 1500 < height < 2500


def test_the_staircase_is_drawn_where_it_is() -> None:
    """Between two points of the curve nothing is hidden: the cost there is that at one of its ends, or between."""
    for name in ("depends", "purchase", "self-host"):
        found = curves(crossover(name))
        costs = [crossover(name).self_host_usd_per_month(volume) for volume in found.steps]
        for place in range(len(found.steps) - 1):
            between = crossover(name).self_host_usd_per_month(math.sqrt(found.steps[place] * found.steps[place + 1]))
            assert costs[place] * (1 - 1e-9) <= between <= costs[place + 1] * (1 + 1e-9)


def test_all_of_what_is_won_is_shaded_and_nothing_else() -> None:
    answer = crossover("flips")
    assert answer.crossings.flips is not None
    assert answer.crossings.flips > 100
    low, high = 1e9, 4e10
    won = sum(max(0.0, min(high, high if end is None else end) - max(low, start)) for start, end in answer.intervals)
    found = shades(answer, low, high)
    assert sum((end - start) * part for start, end, part in found) == pytest.approx(won, rel=1e-6)
    assert all(low * (1 - 1e-9) <= start < end <= high * 1.02 and 0 < part <= 1 for start, end, part in found)
    assert all(part < 1 for start, end, part in found if end < 1e10), "there both win in turns"


def test_where_not_all_intervals_are_listed_the_rest_is_half_shaded() -> None:
    answer = crossover("flips")
    few = replace(answer, crossings=Crossings([(1e9, 2e9), (8e9, None)], is_complete=False))
    assert (2e9, 8e9, 0.5) in shades(few, 1e8, 1e10)
    assert where_cheaper(few).endswith("the winner changes too often to list")


def test_pictures_of_a_page_load_nothing_and_share_no_names() -> None:
    found = page_plots(crossover("seven apis"))
    assert found[0].heading == "Cost of a month by volume"
    names: list[str] = []
    for picture in found:
        assert picture.svg.startswith("<svg viewBox=")
        assert picture.svg.endswith("</svg>")
        assert not re.search(r"https?:|<script|<image|<style[^>]*src|@import|xlink", picture.svg)
        mine = re.findall(r'\bid="([^"]+)"', picture.svg)
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', picture.svg)) <= set(mine)
        names += mine
    assert len(names) == len(set(names))


def test_pictures_of_a_page_take_its_colours_and_fonts(depends: list[Plot]) -> None:
    for picture in depends:
        assert "var(--ink)" in picture.svg
        assert "#1b1b1b" not in picture.svg
        assert "DejaVu" not in picture.svg


# Each takes a second; the same texts are drawn in the plots of costs.
@pytest.mark.long
@pytest.mark.parametrize("name", [EVIL, "_hidden", "\x1b[2J\x00a\r\nb", "日本/モデル", "\ud800", "#1b1b1b", "%s{}", ""])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    answer = crossover("depends")
    plan = replace(answer.plan, apis=(replace(answer.plan.apis[0], provider=name),))
    other = replace(answer, resolved=replace(answer.resolved, plan=plan))
    save_sheet(other, tmp_path / "crossover.svg", title=name)
    found = texts((tmp_path / "crossover.svg").read_text(encoding="utf-8"))
    assert any(text.endswith(": $0.88/M") for text in found)
    if not name.isascii():
        # Letters that no font has are a matter of pixels alone.
        save_sheet(other, tmp_path / "crossover.png", title=name)


def test_a_name_that_looks_like_a_colour_or_a_tag_stays_a_name_on_a_page() -> None:
    answer = crossover("depends")
    apis = tuple(replace(answer.plan.apis[0], provider=name) for name in ("#1b1b1b", "<script>", "font-family: x;"))
    other = replace(answer, resolved=replace(answer.resolved, plan=replace(answer.plan, apis=apis)))
    svg = page_plots(other)[0].svg
    assert {f"{api.provider} llama: $0.88/M" for api in apis} <= set(texts(svg))
    assert "<script" not in svg


def test_the_same_crossover_gives_the_same_file(tmp_path: Path, files: Path) -> None:
    save_sheet(crossover("purchase"), tmp_path / "again.svg", title="About purchase")
    assert (tmp_path / "again.svg").read_bytes() == (files / "purchase.svg").read_bytes()
    for name in ("one", "two"):
        save_sheet(crossover("purchase"), tmp_path / f"{name}.png", title="Crossover")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_user_s_own_settings_of_matplotlib_neither_count_nor_change(depends: list[Plot]) -> None:
    # In functions: all workers collect this file, and one draws.
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        assert page_plots(crossover("depends")) == depends
        assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_a_window_is_loaded(tmp_path: Path) -> None:
    ran = fresh.run(_NO_WINDOWS, tmp_path / "crossover.png")
    assert (ran.out.strip(), ran.code) == ("[]", 0), ran.err


def test_a_picture_that_fails_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    path = tmp_path / "crossover.svg"
    path.write_text("the old one")

    def fail(self: Figure, file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        save_sheet(crossover("depends"), path, title="Crossover")
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg, got 'crossover\.pdf'"):
        save_sheet(crossover("depends"), tmp_path / "crossover.pdf", title="Crossover")


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = crossover("depends")
    for draw in (lambda: save_sheet(answer, tmp_path / "crossover.png", title="t"), lambda: page_plots(answer)):
        with pytest.raises(MissingExtraError, match=r'pip install "llama-client\[plot\]"') as raised:
            draw()
        assert raised.value.extra == "plot"
    assert list(tmp_path.iterdir()) == []
