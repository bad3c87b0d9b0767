"""The tables that compare this package with other calculators are what their benchmark makes today."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = Path("docs/guides/crossover-compared.md")
_ROWS = re.compile(r"(?<= -->\n)(?:\|.*\n)+")


def test_a_page_without_figures_gets_those_of_the_page(tmp_path: Path) -> None:
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    script, copy = tmp_path / "benchmarks" / "crossover_peers.py", tmp_path / PAGE
    for file in (script, copy):
        file.parent.mkdir(parents=True)
    script.write_bytes((ROOT / "benchmarks" / "crossover_peers.py").read_bytes())
    emptied, places = _ROWS.subn("| |\n", written)
    copy.write_text(emptied, encoding="utf-8")
    subprocess.run([sys.executable, script, "--write"], check=True, timeout=60, cwd=ROOT)
    assert places == 2
    assert copy.read_text(encoding="utf-8") == written, "python benchmarks/crossover_peers.py --write makes it anew"
