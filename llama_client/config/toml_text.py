"""Values as TOML writes them. The standard library reads TOML and does not write it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# What JSON leaves as it is, and what TOML forbids, or a terminal takes for an order, or nobody sees.
_UNSEEN = re.compile("[\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]")


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
            # JSON escapes most of what TOML must have escaped, and in the same way.
            return _UNSEEN.sub(lambda sign: f"\\u{ord(sign[0]):04x}", json.dumps(str(value), ensure_ascii=False))
        case date():
            return value.isoformat()
        case Mapping():
            pairs = [f"{toml_key(str(name))} = {toml_value(below)}" for name, below in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")
