"""Text of models and servers, made safe for a terminal."""

from __future__ import annotations

# What could move the cursor, colour the screen, turn a line around or worse. Line ends and tabs stay.
_CONTROLS = dict.fromkeys(
    [
        *range(9),
        *range(11, 32),
        *range(127, 160),
        0x061C,
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ]
)


def printable(text: str) -> str:
    """The text without characters that steer a terminal."""
    return text.translate(_CONTROLS)
