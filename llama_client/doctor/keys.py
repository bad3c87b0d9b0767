"""Where a provider's key comes from: by the name of its source, never by any part of the key."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.doctor.findings import Fact, Finding
from llama_client.providers.registry import service_of

if TYPE_CHECKING:
    from llama_client.config.providers import HttpProvider

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
    variable = _own_variable(table, kind, environ)
    return KeySource(f"${variable}" if variable and environ.get(variable) else None)


def get_one(name: str, table: HttpProvider, kind: str, environ: Mapping[str, str]) -> str:
    """How to give a provider a key."""
    variable = _own_variable(table, kind, environ)
    console = _console(table, kind, environ)
    where = f"Get a key at {console} and set" if console else "Set"
    how = f"{variable}, or providers.{name}.api_key_env" if variable else f"providers.{name}.api_key_env"
    return f"{where} {how} to the variable that holds it." if not variable else f"{where} {how}."


def replace_it(name: str, table: HttpProvider, kind: str, source: KeySource, environ: Mapping[str, str]) -> str:
    """What to do about a key that was refused."""
    if source.name is None:
        return get_one(name, table, kind, environ)
    console = _console(table, kind, environ)
    where = f" a new one is made at {console}" if console else " ask whoever runs the server for one"
    return f"Put a valid key into {source.name};{where}."


def _own_variable(table: HttpProvider, kind: str, environ: Mapping[str, str]) -> str | None:
    """The variable that is read where the table names no source; None: a server of the user's own, which has none."""
    return service_of(kind).key_variable_for(table, environ)


def _console(table: HttpProvider, kind: str, environ: Mapping[str, str]) -> str | None:
    """Where a provider's users make their keys; None: it is a server of somebody's own."""
    if _own_variable(table, kind, environ) is None:
        return None
    return service_of(kind).keys_url


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
