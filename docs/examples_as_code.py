"""Shows docstrings as they are meant: their `Example:` as code, and parameters with the types of the last overload."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:\n(?P<code>(?:    .*\n|\n)*    .*)", flags=re.MULTILINE)


class ExamplesAsCode(griffe.Extension):
    """Puts a fence around the code below `Example:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """See the base class: called for everything that has been read."""
        if isinstance(obj, griffe.Function) and obj.overloads:
            # The function that runs takes any keyword.
            obj.parameters = obj.overloads[-1].parameters
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(example: re.Match[str]) -> str:
    code = textwrap.dedent(example["code"])
    if ">>>" in code:  # those are shown as sessions anyway
        return example[0].replace("Example:", "Examples:", 1)
    return "Example:\n" + textwrap.indent(f"```python\n{code}\n```", "    ")
