"""What all figures share: file formats, colours, and matplotlib without global state."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llama_client.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg")
# The palette of Okabe and Ito, distinguishable with any kind of colour blindness; black comes last.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
SKY, VERMILION, YELLOW, BLACK = "#56b4e9", "#d55e00", "#f0e442", "#000000"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, BLACK)
REST_COLOUR, GRID_COLOUR = "#bbbbbb", "#dddddd"
DPI = 150
# Text stays text, a dollar sign starts no formula, and the same input gives the same file.
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "llama-client", "text.parse_math": False, "font.size": 9}


def form_of(path: Path) -> str:
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a picture's file must end in {' or '.join(ENDINGS)}, got {path.name!r}")
    return path.suffix.lower().removeprefix(".")


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Sets matplotlib's settings to ours, and back afterwards: the user's may require TeX, say."""
    try:
        from matplotlib import style
    except ImportError as error:
        # Not always matplotlib itself: it may be numpy, which it needs.
        missing = (error.name or "matplotlib").partition(".")[0]
        raise MissingExtraError(f'{what} needs {missing}: pip install "llama-client[plot]"', extra="plot") from error
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def save(figure: Figure, file: IO[bytes], form: str) -> None:
    """Writes a figure that has a layout engine.

    The layout is made here: `savefig` would draw the whole figure a second time for it, without output.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.set_dpi(DPI)
    # The layout measures text as this format draws it; a canvas makes itself the figure's.
    (FigureCanvasSVG if form == "svg" else FigureCanvasAgg)(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        # Not "none": that leaves a placeholder, for which `savefig` draws too.
        figure.set_layout_engine(None)
    figure.savefig(file, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
