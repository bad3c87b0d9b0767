"""The tables of figures on the pages are those of the last run of the benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (Path("README.md"), Path("docs/guides/performance.md"))


def test_pages_have_the_figures_that_were_measured(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    for name in ("peers.py", "http_calls.py", "peers.json"):
        (tmp_path / "benchmarks" / name).write_bytes((ROOT / "benchmarks" / name).read_bytes())
    for page in PAGES:
        copy = tmp_path / page
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / page).read_bytes())
    subprocess.run([sys.executable, tmp_path / "benchmarks" / "peers.py", "--tables"], check=True, timeout=60)
    for page in PAGES:
        assert (tmp_path / page).read_text(encoding="utf-8") == (ROOT / page).read_text(encoding="utf-8"), page
    versions = json.loads((ROOT / "benchmarks" / "peers.json").read_text(encoding="utf-8"))["versions"]
    assert "llama_client" in versions
    assert "| **llama_client** |" in (ROOT / "README.md").read_text(encoding="utf-8")
