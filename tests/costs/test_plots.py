"""Pictures of costs: what is in them, and that none is there by half."""

from __future__ import annotations

import struct
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llama_client import LlamaClient
from llama_client.costs.charts import save
from llama_client.errors import MissingExtraError
from llama_client.types.report import CostGroup, DayCosts
from tests import fresh
from tests.costs.filling import Spent, ago, fill

FIRST = date(2026, 11, 1)
DAYS = [
    DayCosts(day=FIRST, groups=[CostGroup(key="groq/m", usd=Decimal("0.0035"), calls=3)]),
    DayCosts(
        day=FIRST + timedelta(days=3),
        groups=[
            CostGroup(key="together/m", usd=Decimal("0.002"), calls=2),
            CostGroup(key="groq/m", usd=Decimal("0.001"), calls=1),
            CostGroup(key="vllm/m", calls=4, unpriced_calls=4),
        ],
    ),
]
PRICED = [DayCosts(day=day.day, groups=[group for group in day.groups if not group.unpriced_calls]) for day in DAYS]
_NO_WINDOWS = """
import sys
from datetime import date
from pathlib import Path
from llama_client.costs.charts import save
from llama_client.types.report import CostGroup, DayCosts
save([DayCosts(day=date(2026, 11, 1), groups=[CostGroup(key="a/m", usd=1, calls=1)])], Path(sys.argv[1]), title="t")
print(sorted(name for name in sys.modules if "pyplot" in name or "tkinter" in name or "backend_tk" in name))
"""


def texts(path: Path) -> list[str]:
    """All texts of a picture, in their order."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


def colours(path: Path) -> set[str]:
    """Each colour that many pixels have."""
    # In functions: all workers collect this file, and one draws.
    import numpy as np
    from matplotlib.image import imread

    red, green, blue = (imread(path)[:, :, :3] * 255).round().astype(int).reshape(-1, 3).T
    found, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    return {f"#{colour:06x}" for colour, count in zip(found.tolist(), counts.tolist(), strict=True) if count > 300}


def test_a_png_is_one_and_shows_each_group_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "costs.PNG"
    save(DAYS, path, title="Costs")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[12:16] == b"IHDR"
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1500
    assert 800 < height < 1500
    assert {"#ffffff", "#0072b2", "#e69f00"} <= colours(path)
    assert "#009e73" not in colours(path), "what is unpriced has no bar among the priced"


def test_an_svg_holds_names_amounts_days_and_what_is_unpriced_as_text(tmp_path: Path) -> None:
    path = tmp_path / "costs.svg"
    save(DAYS, path, title="Costs by target")
    found = texts(path)
    assert "Costs by target" in found
    assert {"groq/m  $0.0045", "together/m  $0.002", "vllm/m  4 unpriced"} <= set(found)
    assert "US dollars a day" in found
    assert [text for text in found if text.endswith("Nov")] == ["1 Nov", "2 Nov", "3 Nov", "4 Nov"]
    assert any(text.startswith("unpriced: calls with a part of unknown cost") for text in found)
    assert "$0.00" in found


def test_without_unpriced_calls_nothing_is_said_of_them(tmp_path: Path) -> None:
    path = tmp_path / "costs.svg"
    save(PRICED, path, title="Costs")
    assert not any("unpriced" in text for text in texts(path))


def test_more_than_eight_groups_are_eight(tmp_path: Path) -> None:
    groups = [CostGroup(key=f"p/{number}", usd=Decimal(number), calls=1) for number in range(1, 12)]
    days = [DayCosts(day=FIRST, groups=groups)]
    save(days, tmp_path / "costs.svg", title="Costs")
    legend = [text for text in texts(tmp_path / "costs.svg") if "  $" in text]
    assert [text.split("  ")[0] for text in legend] == [*(f"p/{number}" for number in range(11, 4, -1)), "4 others"]
    save(days, tmp_path / "costs.png", title="Costs")
    assert "#bbbbbb" in colours(tmp_path / "costs.png")


@pytest.mark.parametrize(
    "name",
    ["$\\frac{$", "<b>&\"'", "_hidden", "\x1b[2J\x00a\r\nb\u202e", "日本/モデル", "\ud800", "x" * 500, "%s{}", ""],
)
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    days = [DayCosts(day=FIRST, groups=[CostGroup(key=name, usd=Decimal(1), calls=1)])]
    for path in (tmp_path / "costs.svg", tmp_path / "costs.png"):
        save(days, path, title=f"Costs by tag:{name}")
    [label] = [text for text in texts(tmp_path / "costs.svg") if text.endswith("  $1.00")]
    plain = {"": "(none)", "\ud800": "(none)", "x" * 500: "x" * 89 + "…", "\x1b[2J\x00a\r\nb\u202e": "[2J a  b"}
    assert label == f"{plain.get(name, name)}  $1.00"


@pytest.mark.parametrize("days", [[], DAYS[:1], [DayCosts(day=FIRST, groups=[CostGroup(key="a/m", calls=1)])]])
def test_little_can_be_drawn_too(tmp_path: Path, days: list[DayCosts]) -> None:
    save(days, tmp_path / "costs.svg", title="Costs")
    assert "Costs" in texts(tmp_path / "costs.svg")


def test_many_years_are_drawn_by_longer_times(tmp_path: Path) -> None:
    days = [DayCosts(day=FIRST + timedelta(days=900 * number), groups=DAYS[0].groups) for number in range(2)]
    save(days, tmp_path / "costs.svg", title="Costs")
    assert "US dollars a week" in texts(tmp_path / "costs.svg")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_costs_give_the_same_file(tmp_path: Path, ending: str) -> None:
    for name in ("one", "two"):
        save(DAYS, tmp_path / f"{name}.{ending}", title="Costs")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_the_user_s_own_settings_of_matplotlib_neither_count_nor_change(tmp_path: Path) -> None:
    import matplotlib

    save(DAYS, tmp_path / "one.svg", title="Costs")
    with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        save(DAYS, tmp_path / "two.svg", title="Costs")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_neither_pyplot_nor_a_window_is_loaded(tmp_path: Path) -> None:
    ran = fresh.run(_NO_WINDOWS, tmp_path / "costs.png")
    assert (ran.out.strip(), ran.code) == ("[]", 0), ran.err


def test_a_picture_that_fails_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    path = tmp_path / "costs.svg"
    path.write_text("the old one")

    def fail(self: Figure, file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        save(DAYS, path, title="Costs")
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for place in ("folder.png", "nowhere/costs.png", "file/costs.png"):
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
            save(DAYS, tmp_path / place, title="Costs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg, got 'costs\.pdf'"):
        save(DAYS, tmp_path / "costs.pdf", title="Costs")


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "llama-client\[plot\]"') as raised:
        save(DAYS, tmp_path / "costs.png", title="Costs")
    assert raised.value.extra == "plot"
    assert list(tmp_path.iterdir()) == []


def test_without_numpy_the_error_says_so(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['numpy'] = None\nfrom pathlib import Path\n"
        "from llama_client.costs.charts import save\nsave([], Path(sys.argv[1]), title='t')"
    )
    ran = fresh.run(code, tmp_path / "costs.png")
    assert 'a picture of costs needs numpy: pip install "llama-client[plot]"' in ran.err.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights there that not everybody has")
def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "real.svg").write_text("the old one")
    for name, target in (("link.svg", "reports/real.svg"), ("dangling.svg", "reports/new.svg")):
        (tmp_path / name).symlink_to(target)
        save(DAYS, tmp_path / name, title="Costs")
        assert (tmp_path / name).is_symlink()
        assert "Costs" in texts(tmp_path / target)
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["new.svg", "real.svg"]


def test_what_a_ledger_holds_is_drawn(tmp_path: Path) -> None:
    calls = [Spent("groq/m", "0.25", ago(2)), Spent("groq/m", "0.5", ago(0)), Spent("vllm/m", None, ago(0))]
    fill(tmp_path / "ledger.db", calls)
    with LlamaClient({"ledger": {"url": f"sqlite:///{tmp_path / 'ledger.db'}"}}) as client:
        save(client.costs.timeline(since="7d", by="provider"), tmp_path / "costs.svg", title="Costs by provider")
    assert {"groq  $0.75", "vllm  1 unpriced"} <= set(texts(tmp_path / "costs.svg"))
