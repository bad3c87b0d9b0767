"""The supply chain, one command for each check; `.ci/weekly` runs them all."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_client.version import __version__
from tests.supply.bounds import ROOT
from tests.supply.environments import TESTS, check, environment, requirements_file
from tests.supply.files import build_twice

# Run by uv in an environment of its own, so that it is no dependency of the package's development.
_AUDIT, _SBOM = "pip-audit>=2.10,<3", "cyclonedx-bom>=7.5,<8"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.supply", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("lowest", "newest"):
        command = commands.add_parser(name, help=f"each extra, then tests, with the {name} allowed versions")
        command.add_argument("tests", nargs="*", default=TESTS, help="for pytest (default: %(default)s)")
    commands.add_parser("audit", help="known vulnerabilities in what all extras resolve to")
    sbom = commands.add_parser("sbom", help="writes what all extras resolve to, as CycloneDX")
    sbom.add_argument("file", type=Path)
    commands.add_parser("reproducible", help="builds wheel and source distribution twice and compares their bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return _run(options, Path(folder))


def _run(options: argparse.Namespace, folder: Path) -> int:
    match options.command:
        case "audit":
            return _audit(folder)
        case "sbom":
            return _sbom(folder, options.file.absolute())
        case "reproducible":
            first, second = build_twice(folder)
            for name, digest in sorted(first.items()):
                print(f"{digest}  {name}  {'the same twice' if second.get(name) == digest else 'DIFFERS'}")
            return 0 if first == second else 1
        case versions:
            failed = check(folder, versions, options.tests)
            print(f"{versions}: {', '.join(failed) + ' FAILED' if failed else 'all passed'}")
            return 1 if failed else 0


def _audit(folder: Path) -> int:
    pinned = requirements_file(folder, "newest", "all")
    # Strict: a package that the service does not know was not audited, which is no success.
    options = ["--no-deps", "--disable-pip", "--strict", "--progress-spinner", "off"]
    return _tool(_AUDIT, "pip-audit", "--requirement", str(pinned), *options)


def _sbom(folder: Path, file: Path) -> int:
    python = environment(folder, "newest", "all")
    file.parent.mkdir(parents=True, exist_ok=True)
    # Where the package was installed from is a folder of this machine.
    for installed in python.parents[1].rglob("llama_client-*.dist-info/direct_url.json"):
        installed.unlink()
    described = folder / "pyproject.toml"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    described.write_text(text.replace('dynamic = ["version"]', f'version = "{__version__}"'), encoding="utf-8")
    options = [
        "--mc-type",
        "library",
        "--output-reproducible",
        "--output-format",
        "JSON",
        "--validate",
        "--output-file",
        str(file),
    ]
    return _tool(_SBOM, "cyclonedx-py", "environment", "--pyproject", str(described), *options, str(python))


def _tool(requirement: str, *command: str) -> int:
    words = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", requirement, *command]
    return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
