"""The package of the examples, installed, passes the suite as its author would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lengths import values
from tests.nested import pytest_command

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_provider"


@pytest.mark.parametrize("name", values(["test_parrot", "test_acme"], long=["test_acme"]))
def test_the_package_of_the_examples_passes_its_own_tests(tmp_path: Path, name: str) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--target", str(site)]
    command += ["--offline", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, str(EXAMPLE)], check=True, capture_output=True, timeout=120)
    work.mkdir()
    shutil.copy(EXAMPLE / "test_parrot.py", work)
    # Not the settings of this repository, which stand above the example.
    (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    paths = os.pathsep.join([str(site), str(Path(__file__).parents[2])])
    done = subprocess.run(
        pytest_command(f"test_parrot.py::{name}"),
        cwd=work,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 100
