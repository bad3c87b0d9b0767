"""Where a provider's key comes from: by the name of its source, never by any part of the key."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.doctor.findings import Fact, Finding

if TYPE_CHECKING:
    from llama_client.config.providers import HttpProvider

_VARIABLES = {
    "groq": "GROQ_API_KEY",
    "together": "TOGETHER_API_KEY",
    "openai": "OPENAI_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}
_OTHER_CONSOLES = {"openai": "https://platform.openai.com/api-keys", "ollama": "https://ollama.com/settings/keys"}
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key comes from.

    Attributes:
        name: For people: `$GROQ_API_KEY`, `the file ...`; None: there is none.
        file: The file that holds it.
    """

    name: str | None
    file: Path | None = None


def key_source(
    name: str, table: HttpProvider, *, kind: str, environ: Mapping[str, str], file: Path | None
) -> KeySource:
    """Where the key of a provider comes from.

    Args:
        name: The provider's name.
        table: Its table.
        kind: Its kind.
        environ: The environment.
        file: The configuration's own file.
    """
    if table.api_key is not None:
        return KeySource(f"providers.{name}.api_key", file)
    if table.api_key_env is not None:
        return KeySource(f"${table.api_key_env}")
    if table.api_key_file is not None:
        return KeySource(f"the file {table.api_key_file}", table.api_key_file)
    if table.api_key_command is not None:
        # Its arguments could hold the key itself.
        return KeySource(f"the command `{Path(table.api_key_command[0]).name}`")
    variable = own_variable(table, kind)
    return KeySource(f"${variable}" if variable and environ.get(variable) else None)


def own_variable(table: HttpProvider, kind: str) -> str | None:
    """The variable that is read where the table names no source; None: a server of the user's own, which has none."""
    return None if kind == "openai" and table.base_url is not None else _VARIABLES.get(kind)


def get_one(name: str, table: HttpProvider, kind: str) -> str:
    """How to give a provider a key."""
    variable = own_variable(table, kind)
    console = _console(table, kind)
    where = f"Get a key at {console} and set" if console else "Set"
    how = f"{variable}, or providers.{name}.api_key_env" if variable else f"providers.{name}.api_key_env"
    return f"{where} {how} to the variable that holds it." if not variable else f"{where} {how}."


def replace_it(name: str, table: HttpProvider, kind: str, source: KeySource) -> str:
    """What to do about a key that was refused."""
    if source.name is None:
        return get_one(name, table, kind)
    console = _console(table, kind)
    where = f" a new one is made at {console}" if console else " ask whoever runs the server for one"
    return f"Put a valid key into {source.name};{where}."


def _console(table: HttpProvider, kind: str) -> str | None:
    """Where a provider's users make their keys; None: it is a server of somebody's own."""
    from llama_client.providers.groq import Groq
    from llama_client.providers.together import Together

    own = None if kind == "openai" and table.base_url is not None else _OTHER_CONSOLES.get(kind)
    return {"groq": Groq.keys_url, "together": Together.keys_url}.get(kind, own)


def read_by_others(source: KeySource) -> Finding | None:
    """Whether a file that holds a key can be read by other users of this machine."""
    if source.file is None or os.name != "posix":
        return None
    try:
        mode = source.file.stat().st_mode
    except OSError:
        return None
    if not mode & _OTHERS_MAY_READ:
        return None
    message = "it holds a key, and other users of this machine may read it"
    remedy = f"Run `chmod 600 '{source.file}'`."
    facts: dict[str, Fact] = {"mode": f"{stat.S_IMODE(mode):04o}"}
    return Finding("key_file", "configuration", str(source.file), "warning", message, remedy, facts)
