"""Values as TOML writes them. The standard library reads TOML and does not write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(*parts: str) -> str:
    """A key, dotted where it has several parts.

    Examples:
        >>> toml_key("providers", "my.box")
        'providers."my.box"'
    """
    return ".".join(part if _BARE_KEY.fullmatch(part) else toml_value(part) for part in parts)


def toml_value(value: object) -> str:
    """A value in one line.

    Args:
        value: A text, path, number, truth, day, list or table.

    Raises:
        TypeError: It is something else.

    Examples:
        >>> toml_value({"target": "a/b", "weight": 3.0, "stop": ["x"]})
        '{ target = "a/b", weight = 3.0, stop = ["x"] }'
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)
        case Decimal():
            # As a float: TOML has no decimal numbers. Read back, its shortest text is what was written.
            return repr(float(value)) if value % 1 else f"{int(value)}.0"
        case str() | Path():
            # JSON escapes what TOML must have escaped, but for DEL, in the same way.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case date():
            return value.isoformat()
        case Mapping():
            pairs = [f"{toml_key(str(name))} = {toml_value(below)}" for name, below in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")
