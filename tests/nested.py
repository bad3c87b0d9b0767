"""pytest in a process of its own, as a user runs it in a project that has only this package's plugin."""

from __future__ import annotations

import sys

# Plugins of others, which a nested run need not import: they take a third of its start.
_OTHERS = ("anyio", "hypothesispytest", "respx", "timeout", "xdist", "xdist.looponfail")


def pytest_command(*arguments: str) -> list[str]:
    without = [part for name in ("cacheprovider", *_OTHERS) for part in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", "-q", *without, *arguments]
