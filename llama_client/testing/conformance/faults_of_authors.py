"""Says in a sentence what an exception was, and where it came from in the author's code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import llama_client

_PACKAGE = str(Path(llama_client.__file__).parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def in_words(error: BaseException) -> str:
    """What was raised and where: the last place outside this package and the libraries, else the very last.

    Args:
        error: What was raised in a case.
    """
    places = traceback.extract_tb(error.__traceback__)
    theirs = [place for place in places if not place.filename.startswith((_PACKAGE, *_LIBRARIES, "<"))]
    where = (theirs or places)[-1:]
    said = f"expected no exception, got {type(error).__name__}: {error}"
    return said + "".join(f" (in {place.name}, {Path(place.filename).name} line {place.lineno})" for place in where)
