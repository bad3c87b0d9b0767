"""Notebooks of examples/: their cells are run without Jupyter, and shown as pages of docs/.

`python -m tests.documentation.notebooks` writes the pages anew.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.documentation.pages import DOCS, ROOT

PAGES = {"guides/classify-tickets.md": ROOT / "examples" / "classify_tickets.ipynb"}


@dataclass(frozen=True)
class Cell:
    """A cell; `printed` is what stands below it."""

    is_code: bool
    source: str
    printed: str


def cells_of(notebook: Path) -> list[Cell]:
    """Its cells, in order."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [
        Cell(
            cell["cell_type"] == "code",
            "".join(cell["source"]),
            "".join(line for output in cell.get("outputs", ()) for line in _lines(output)),
        )
        for cell in content["cells"]
    ]


def _lines(output: dict[str, Any]) -> list[str]:
    return [f"{line}\n" for line in output["data"]["text/plain"]] if "data" in output else output["text"]


def printed(cells: list[Cell]) -> Iterator[str]:
    """Runs the cells that are code in one module; what each prints, and the value of its last line."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        if not cell.is_code:
            continue
        tree, out = ast.parse(cell.source), io.StringIO()
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(out):
            exec(compile(tree, "cell", "exec", dont_inherit=True), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "cell", "eval", dont_inherit=True), names)
                if value is not None:
                    print(repr(value))
        yield out.getvalue()


def page_of(notebook: Path) -> str:
    """The notebook as a page."""
    parts: list[str] = []
    for cell in cells_of(notebook):
        parts.append(f"```python\n{cell.source}\n```" if cell.is_code else cell.source)
        if cell.printed:
            parts.append(f"```\n{cell.printed.rstrip()}\n```")
    parts.append(f"The notebook is `examples/{notebook.name}`. [Bulk jobs](bulk.md) has the rest.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for name, path in PAGES.items():
        (DOCS / name).write_text(page_of(path), encoding="utf-8")
