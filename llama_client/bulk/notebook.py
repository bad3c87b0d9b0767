"""Jobs in notebooks: a line that follows the running job, and the receipt as a table. IPython is not imported."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from llama_client.bulk.progress_text import progress_line, receipt_lines
from llama_client.types.report import html_table

if TYPE_CHECKING:
    from llama_client.bulk.receipt import BulkProgress, BulkReceipt

    Tell = Callable[[BulkProgress], object]

# Each change is a message to the browser.
_SHOWN_S = 0.5


def receipt_table(receipt: BulkReceipt) -> str:
    """The receipt as HTML."""
    return html_table("Bulk job", (), [(line,) for line in receipt_lines(receipt)])


def told_in_notebook(tell: Tell | None) -> Tell | None:
    """The callback, which in a notebook shows the progress too. It blocks no longer than a write to a socket."""
    display = _display()
    if display is None:
        return tell
    shown = _ShownLine(display)

    def told(progress: BulkProgress) -> None:
        shown.show(progress)
        if tell is not None:
            tell(progress)

    return told


def _display() -> Callable[..., Any] | None:
    """IPython's `display`, where a notebook shows what it is given: IPython runs, and is no terminal."""
    shell: Any = sys.modules.get("IPython")
    get_ipython = getattr(shell, "get_ipython", None)
    running = None if get_ipython is None else get_ipython()
    if getattr(running, "kernel", None) is None:
        return None
    display: Callable[..., Any] | None = getattr(shell.display, "display", None)
    return display


class _Html:
    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._text)}</p>"

    def __repr__(self) -> str:
        return self._text


class _ShownLine:
    """One output of a cell, which is replaced."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._handle = display(_Html("bulk job: begins"), display_id=True)
        self._shown_at = 0.0

    def show(self, progress: BulkProgress) -> None:
        is_last = progress.total is not None and progress.done + progress.failed >= progress.total
        if self._handle is not None and (is_last or time.monotonic() - self._shown_at >= _SHOWN_S):
            self._shown_at = time.monotonic()
            self._handle.update(_Html(progress_line(progress)))
