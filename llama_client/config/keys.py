"""Reads a provider's API key from wherever its table says, at the provider's first use."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import SecretStr

from llama_client.config.masking import is_variable_name
from llama_client.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from llama_client.config.providers import HttpProvider

_COMMAND_TIMEOUT_S = 30.0
# Keys have some hundred characters at most; a larger file is some other file.
_MAX_KEY_BYTES = 64 << 10


def read_key(
    name: str, table: HttpProvider, *, default_variable: str | None, environ: Mapping[str, str]
) -> SecretStr | None:
    """The provider's key.

    Args:
        name: The provider's name, for messages.
        table: Its table.
        default_variable: The variable that is read where the table names no source.
        environ: The environment.

    Returns:
        The key, or None where there is none; whether that is an error is the provider's to say.

    Raises:
        ConfigError: The source that the table names has none, or what it has can be no key.
    """
    where = f"providers.{name}"
    if table.api_key is not None:
        return _checked(table.api_key.get_secret_value(), f"{where}.api_key")
    if table.api_key_env is not None:
        if not environ.get(table.api_key_env):
            # Who puts the key itself there must not read it in an error.
            is_name = is_variable_name(table.api_key_env, environ)
            what = f"the variable {table.api_key_env} is not set" if is_name else "names no variable that is set"
            raise ConfigError(f"{where}.api_key_env: {what}", key=f"{where}.api_key_env")
        return _checked(environ[table.api_key_env], f"${table.api_key_env}")
    if table.api_key_file is not None:
        return _checked(_from_file(table.api_key_file, f"{where}.api_key_file"), f"{where}.api_key_file")
    if table.api_key_command is not None:
        return _checked(_from_command(table.api_key_command, f"{where}.api_key_command"), f"{where}.api_key_command")
    if default_variable is not None and environ.get(default_variable):
        return _checked(environ[default_variable], f"${default_variable}")
    return None


def _checked(text: str, source: str) -> SecretStr:
    key = text.strip()
    # It becomes a header, which a line end would cut in two and HTTP libraries would quote in their errors.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{source}: holds no key: a key is one word of ASCII characters", key=source)
    return SecretStr(key)


def _from_file(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error.strerror})", key=key) from None


def _from_command(words: tuple[str, ...], key: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own configuration names it
            words, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        # Neither the command nor what it printed is shown: either could hold the key.
        raise ConfigError(f"{key}: the command could not be run ({type(error).__name__})", key=key) from None
    if done.returncode != 0:
        raise ConfigError(f"{key}: the command failed with exit code {done.returncode}", key=key)
    return done.stdout.decode("utf-8", "replace")
