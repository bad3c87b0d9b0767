"""The wheel and the source distribution are the same bytes on two machines, and hold what they should."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.supply.bounds import ROOT
from tests.supply.files import build_twice

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="git says which files belong to the package"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("built")
    return folder, build_twice(folder)


def test_two_machines_build_the_same_bytes(built: tuple[Path, list[dict[str, str]]]) -> None:
    first, second = built[1]
    assert first == second
    assert sorted(Path(name).suffix for name in first) == [".gz", ".whl"]


def test_a_wheel_is_the_package_alone_and_a_source_distribution_has_its_tests(
    built: tuple[Path, list[dict[str, str]]],
) -> None:
    [wheel] = (built[0] / "dist-0").glob("*.whl")
    [source] = (built[0] / "dist-0").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert [name for name in folders if not name.startswith("llama_client")] == []
    with tarfile.open(source) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"llama_client/py.typed", "tests/conftest.py", "SECURITY.md", ".ci/run", "pyproject.toml"} <= names
    # Permissions that the build adds by mistake: for a group or others to write, or to run as another user.
    with tarfile.open(source) as packed:
        assert [file.name for file in packed if file.mode & 0o7022] == []
