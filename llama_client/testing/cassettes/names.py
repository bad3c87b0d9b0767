"""The file of a test's cassette."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_CHARS = 100


def file_of_test(module: Path, node_id: str) -> Path:
    """`cassettes/MODULE/TEST.json` beside the test's module, by a name that every file system takes.

    Args:
        module: The test's file.
        node_id: The test, as pytest names it.

    Example:
        >>> file_of_test(Path("tests/test_app.py"), "tests/test_app.py::test_chat").as_posix()
        'tests/cassettes/test_app/test_chat.json'
    """
    name = node_id.partition("::")[2].replace("::", ".")
    plain = _OTHER.sub("-", name).strip("-.")
    if plain != name or len(plain) > _MAX_CHARS:
        # Two tests must not share a file.
        plain = f"{plain[:_MAX_CHARS]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return module.parent / "cassettes" / module.stem / f"{plain}.json"
