"""Writes the parameters of `create`, `ask` and `parse` into their signatures and docstrings, each list from one place.

Names and types come from the TypedDicts in types/request.py, descriptions from the docstring of `Completions.create`.
After a change of either:

    python -m tests.signatures
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import llama_client
from llama_client.types.request import AskParams, CreateParams, ParseParams

PACKAGE = Path(llama_client.__file__).parent
FILES = tuple(PACKAGE / name for name in ("chat.py", "client.py"))
# Of each call: its TypedDict, which of that comes first, and what its docstring describes in words of its own.
_CALLS = {
    "create": (CreateParams, ("messages", "model"), ()),
    "ask": (AskParams, ("system", "model"), ("prompt", "system")),
    "parse": (ParseParams, ("messages", "response_format", "model"), ("response_format",)),
}
_DESCRIPTION = re.compile(r"^            (\w+): .*\n(?:                .*\n)*", flags=re.MULTILINE)


def parameters(call: str) -> dict[str, str]:
    """What a call takes by keyword but `stream`, by name: the type and the default, as they are written."""
    params, first, _ = _CALLS[call]
    hints = {name: hint.__forward_arg__ for name, hint in params.__annotations__.items()}
    if call == "parse":
        hints["response_format"] = "Required[type[ModelT]]"
    hints = {name: hints[name] for name in (*first, *hints)}
    required = {name: re.fullmatch(r"Required\[(.*)\]", hint) for name, hint in hints.items()}
    return {name: found[1] if (found := required[name]) else f"{hint} = None" for name, hint in hints.items()}


def written(source: str, create: str) -> str:
    """A module's source as it ought to be; `create` is the source whose `create` describes the parameters."""
    lines = source.splitlines(keepends=True)
    described = next(rows for node in calls(create) if (rows := _described(node, create.splitlines(keepends=True))))
    # From the end, so that what stands before keeps its place.
    for node in reversed(list(calls(source))):
        own = _described(node, lines)
        if own and node.name != "create":
            start, stop = _place_of_descriptions(node, lines)
            rows = described | {name: row for name, row in own.items() if name in _CALLS[node.name][2]}
            lines[start:stop] = [rows[name] for name in ("prompt", *parameters(node.name)) if name in rows]
        if node.args.kwarg is None:
            keywords = node.args.kwonlyargs
            start, stop = keywords[0].lineno - 1, keywords[-1].lineno
            # What tells the overloads of `create` apart stays as it is.
            stream = [line for line in lines[start:stop] if line.startswith("        stream: ")]
            shown = [f"        {name}: {hint},\n" for name, hint in parameters(node.name).items()]
            lines[start:stop] = [*shown[:2], *stream, *shown[2:]]
    return "".join(lines)


def calls(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The definitions of the calls, overloads included, in order."""
    for kind in ast.parse(source).body:
        for node in kind.body if isinstance(kind, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in _CALLS:
                yield node


def _described(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> dict[str, str]:
    start, stop = _place_of_descriptions(node, lines)
    return {found[1]: found[0] for found in _DESCRIPTION.finditer("".join(lines[start:stop]))}


def _place_of_descriptions(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> tuple[int, int]:
    """From the line below `Args:` to the empty line below that; nowhere, where the docstring has none."""
    end = node.end_lineno or 0
    start = next((at for at in range(node.body[0].lineno, end) if lines[at] == "        Args:\n"), end)
    return (start + 1, lines.index("\n", start)) if start < end else (0, 0)


def main() -> None:
    """Writes both modules anew."""
    create = FILES[0].read_text(encoding="utf-8")
    for file in FILES:
        file.write_text(written(file.read_text(encoding="utf-8"), create), encoding="utf-8")


if __name__ == "__main__":
    main()
