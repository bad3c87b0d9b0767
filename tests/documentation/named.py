"""What a session names and does not run: packages to install, and programs and modules of this repository."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress

from tests.documentation.pages import ROOT

_MODULES = ("venv", "pytest", "mkdocs", "http.server")


class WrongSessionError(Exception):
    """A session that does not go as its page says."""


def require_extras(arguments: Sequence[str]) -> None:
    """`pip install` names this package, by its name or its folder, with extras that there are.

    Raises:
        WrongSessionError: It names something else.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if arguments[:1] != ["install"]:
        raise WrongSessionError("pip is only there to install")
    for wanted in (word for word in arguments[1:] if not word.startswith("-")):
        named = re.fullmatch(r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,-]+)\])?", wanted)
        if named is None:
            raise WrongSessionError(f"pip install {wanted}: not understood")
        if named["name"] not in (".", project["name"]):
            if named["extras"] is None and _is_installed(named["name"]):
                continue
            raise WrongSessionError(f"pip install {wanted}: it is neither this package nor one that its tests use")
        unknown = set((named["extras"] or "").split(",")) - {"", *project["optional-dependencies"]}
        if unknown:
            raise WrongSessionError(f"pip install {wanted}: there is no extra {', '.join(sorted(unknown))}")


def _is_installed(name: str) -> bool:
    with suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(name))
    return False


def require_script(arguments: Sequence[str]) -> None:
    """`python FILE` of this repository, or `python -m MODULE`.

    Raises:
        WrongSessionError: There is no such file or module.
    """
    if arguments[:1] == ["-m"] and len(arguments) > 1:
        module = arguments[1]
        places = (ROOT / f"{module.replace('.', '/')}.py", ROOT / module.replace(".", "/") / "__main__.py")
        if module in _MODULES or any(place.exists() for place in places):
            return
        raise WrongSessionError(f"python -m {module}: there is no such module here")
    if not arguments or not re.fullmatch(r"(examples|benchmarks)/[\w/]+\.py", arguments[0]):
        raise WrongSessionError(f"python {' '.join(arguments)}: only files of examples/ and benchmarks/ are run")
    if not (ROOT / arguments[0]).exists():
        raise WrongSessionError(f"there is no {arguments[0]}")
