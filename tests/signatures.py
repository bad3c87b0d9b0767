"""Writes the parameters of `create`, `ask` and `parse` into their signatures, each list from its one place.

Names and types come from the TypedDicts in types/request.py, descriptions from the docstring of `Completions.create`.
After a change of either:

    python -m tests.signatures
"""

from __future__ import annotations

import re
from pathlib import Path

import llama_client
from llama_client.types.request import AskParams, CreateParams, ParseParams

PACKAGE = Path(llama_client.__file__).parent
FILES = tuple(PACKAGE / name for name in ("chat.py", "client.py"))
# Of each call: its list, and what stands before the rest of that list.
_CALLS = {
    "create": (CreateParams, ("messages", "model")),
    "ask": (AskParams, ("system", "model")),
    "parse": (ParseParams, ("messages", "response_format", "model")),
}
_DEFINITION = re.compile(
    r"(?P<before>    (?:async )?def (?P<name>create|ask|parse)\(\n        self,\n(?:        prompt: .*\n)?)"
    r"        \*,\n(?P<written>(?:        .*\n)*)(?=    \) -> )"
)
_DESCRIPTION = re.compile(r"^            (\w+): .*\n(?:                .*\n)*", flags=re.MULTILINE)
_DESCRIPTIONS_OF_CREATE = re.compile(r"        Args:\n(?P<rows>            messages: .*\n(?:            .*\n)*)")
_DESCRIPTIONS_OF_ASK = re.compile(r"(?<=\n)            model: .*\n(?:            .*\n)*(?=\n        Returns:)")


def parameters(call: str) -> dict[str, str]:
    """What a call takes by keyword but `stream`, by name: the type and the default, as they are written."""
    params, first = _CALLS[call]
    hints = {name: hint.__forward_arg__ for name, hint in params.__annotations__.items()}
    if call == "parse":
        hints["response_format"] = "Required[type[ModelT]]"
    hints = {name: hints[name] for name in (*first, *hints)}
    required = {name: re.fullmatch(r"Required\[(.*)\]", hint) for name, hint in hints.items()}
    return {name: found[1] if (found := required[name]) else f"{hint} = None" for name, hint in hints.items()}


def written(source: str, create: str) -> str:
    """A module's source with its signatures as they ought to be; `create` is the source that describes parameters."""
    source = _DEFINITION.sub(_definition, source)
    return _DESCRIPTIONS_OF_ASK.sub(_described(create), source) if "def ask(" in source else source


def _definition(found: re.Match[str]) -> str:
    rows = [f"{name}: {hint}" for name, hint in parameters(found["name"]).items()]
    if found["name"] == "create":
        # What tells the overloads apart stays as it is.
        rows[2:2] = re.findall(r"^        (stream: .*),$", found["written"], flags=re.MULTILINE)
    return found["before"] + "".join(f"        {row},\n" for row in ("*", *rows))


def _described(source: str) -> str:
    described = _DESCRIPTIONS_OF_CREATE.search(source)
    assert described is not None
    rows = {row[1]: row[0] for row in _DESCRIPTION.finditer(described["rows"])}
    return "".join(rows[name] for name in parameters("ask") if name != "system")


def main() -> None:
    """Writes both modules anew."""
    create = FILES[0].read_text(encoding="utf-8")
    for file in FILES:
        file.write_text(written(file.read_text(encoding="utf-8"), create), encoding="utf-8")


if __name__ == "__main__":
    main()
