"""Tests against real servers: llama.cpp's (from xllamacpp), and LiteLLM's proxy in an environment of its own.

python -m tests.real_servers llamacpp
python -m tests.real_servers litellm [--python FOLDER/bin/python]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# The version whose behaviour is tested.
_LITELLM = "litellm[proxy]==1.108.7"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real_servers", description=__doc__)
    parser.add_argument("server", choices=["llamacpp", "litellm"])
    parser.add_argument("--python", type=Path, help="of an environment that has litellm[proxy]; absent: one is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if options.server == "litellm":
            os.environ["LITELLM_PYTHON"] = str(options.python or _environment(Path(folder)))
        return pytest.main([str(_HERE / f"real_{options.server}.py"), "-n", "0"])


def _environment(folder: Path) -> Path:
    venv.create(folder / "litellm", with_pip=True)
    python = folder / "litellm" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", _LITELLM], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
