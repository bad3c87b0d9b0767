"""What `llama-client doctor` prints on a terminal. Each status has a sign and a word: colour says nothing alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from llama_client.cli.terminal import one_line, wrapped
from llama_client.doctor.findings import SECTIONS, Finding, Report, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

# Plain ANSI colours, which each terminal shows so that they can be read on its own background.
_COLOURS: dict[Status, str] = {"ok": "green", "info": "", "warning": "yellow", "problem": "red", "skipped": ""}
_SIGNS: dict[Status, str] = {"ok": "✓", "info": "·", "warning": "!", "problem": "✗", "skipped": "-"}
_ASCII: dict[Status, str] = {"ok": "+", "info": ".", "warning": "!", "problem": "x", "skipped": "-"}
_ARROW, _ASCII_ARROW = "→ ", "> "
_STATUS_WIDTH = len("✗ problem  ")
# In less, the status stands above what it is said of.
_LEAST_SIDE_BY_SIDE = 50
_INDENT = 2


def show(report: Report) -> None:
    """Prints a report, section by section, and in the end what to do first."""
    # Lines are made here, so that commands stay whole where there is room and no line ends in spaces.
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for section in SECTIONS:
        findings = [finding for finding in report.findings if finding.section == section]
        if findings:
            console.print(Text(section.capitalize(), style="bold"))
        for finding in findings:
            for line in _lines(finding, console):
                console.print(line)
        if findings:
            console.print()
    for text in _pieces(report.summary(), console, console.width):
        console.print(Text(text, style="bold"))


def _lines(finding: Finding, console: Console) -> Iterator[Text]:
    is_plain = console.options.ascii_only
    sign = (_ASCII if is_plain else _SIGNS)[finding.status]
    status = Text(f"{sign} {finding.status}", style=_COLOURS[finding.status])
    indent = _STATUS_WIDTH if console.width >= _LEAST_SIDE_BY_SIDE else _INDENT
    width = max(console.width - indent, 1)
    texts = _pieces(f"{finding.subject}: {finding.message}", console, width)
    if finding.remedy is not None:
        arrow = _ASCII_ARROW if is_plain else _ARROW
        for piece in _pieces(finding.remedy, console, max(width - len(arrow), 1)):
            texts.append(f"{arrow}{piece}")
            arrow = " " * len(arrow)
    if indent == _STATUS_WIDTH:
        status.append(" " * (_STATUS_WIDTH - len(status)))
        # Unstyled, whatever the status.
        yield Text.assemble(status, texts.pop(0))
    else:
        yield status
    yield from (Text(" " * indent + text) for text in texts)


def _pieces(text: str, console: Console, width: int) -> list[str]:
    """A text in lines: commands whole where they fit, and a word that is longer than a line broken."""
    text = one_line(text)
    lines = wrapped(text, width).split("\n")
    if any(cell_len(line) > width for line in lines):
        lines = [line.plain for line in Text(text).wrap(console, width, overflow="fold")]
    return [line.rstrip() for line in lines]
