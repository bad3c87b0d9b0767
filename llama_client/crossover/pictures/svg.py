"""Turns a figure into a part of a page: an SVG element that fits its place, by day and by night, and loads nothing."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from llama_client.crossover.pictures import style as style
from llama_client.pictures import form_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The page's names for colours that are others in the dark.
PAGE_COLOURS = {
    style.INK: "ink",
    style.MUTED: "muted",
    style.PAPER: "paper",
    style.GRID: "grid",
    style.OWN: "own",
    style.MIX: "mix",
    style.API_LOOKS[1][0]: "second-api",
    style.WON: "won",
    style.LOST: "lost",
}
_COLOUR = re.compile("|".join(PAGE_COLOURS))
_HEAD = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_ROOT = re.compile(r"<svg\b[^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_NAME = re.compile(r'(\bid="|(?:xlink:)?href="#|url\(#)([^")]+)')
# Fonts are the page's: they need not be named at each word.
_FONTS = re.compile(r"font-family: [^;\"]*;? ?")


def inline(figure: Figure, prefix: str) -> str:
    """A figure as an SVG element.

    Args:
        figure: With text as text.
        prefix: Of all names within it, so that they are its own on the page.

    Returns:
        The element: as wide as its place, with the page's fonts and colours, and without addresses.
    """
    file = io.BytesIO()
    figure.savefig(file, **form_settings("svg"))
    text = _HEAD.sub("", file.getvalue().decode("utf-8"), count=1)
    text = _METADATA.sub("", _COMMENT.sub("", text))
    text = _ROOT.sub(r'<svg viewBox="\1">', text, count=1)
    text = _NAME.sub(lambda match: f"{match[1].replace('xlink:', '')}{prefix}-{match[2]}", text)
    text = _outside_text(text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _outside_text(text: str) -> str:
    """Puts the page's colours and fonts into tags; words between them may look like either."""
    return re.sub(r"<[^>]*>", lambda tag: _coloured(tag[0]), text)


def _coloured(tag: str) -> str:
    return _FONTS.sub("", _COLOUR.sub(lambda match: f"var(--{PAGE_COLOURS[match[0]]})", tag))
