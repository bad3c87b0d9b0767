"""Reads a provider's API key from its configured source, at first use."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from pydantic import SecretStr

from llama_client.config.files import read_regular_file
from llama_client.config.provider_tables import HttpProviderConfig
from llama_client.errors import ConfigError
from llama_client.redaction import is_variable_name

_COMMAND_TIMEOUT_S = 30.0
# Keys have some hundred characters at most; a larger file is something else.
_MAX_KEY_BYTES = 64 << 10
_commands: ContextVar[KeyCommands | None] = ContextVar("llama_client_key_commands", default=None)


class KeyCommands:
    """The running commands of `read_key` in threads that may be abandoned, so that none outlives the process."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self._is_over = False

    def follow_thread(self) -> None:
        """Follows the commands that this thread runs from now on."""
        _commands.set(self)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        self._started.append(process)
        # Of this and `end`, the second sees the effect of the first.
        if self._is_over:
            process.kill()

    def end(self) -> None:
        self._is_over = True
        for process in tuple(self._started):
            with contextlib.suppress(OSError):
                process.kill()


def read_key(
    name: str, table: HttpProviderConfig, *, default_variable: str | None, environ: Mapping[str, str]
) -> SecretStr | None:
    """The provider's key from its configured source, else from `default_variable`; None: it has none."""
    where = f"providers.{name}"
    if table.api_key is not None:
        return _checked(table.api_key.get_secret_value(), f"{where}.api_key")
    if table.api_key_env is not None:
        if environ.get(table.api_key_env):
            return _checked(environ[table.api_key_env], f"${table.api_key_env}")
        # It may be the key itself, which must not appear in an error.
        is_name = is_variable_name(table.api_key_env, environ)
        what = f"the variable {table.api_key_env} is not set" if is_name else "names no variable that is set"
        raise ConfigError(f"{where}.api_key_env: {what}", key=f"{where}.api_key_env")
    if table.api_key_file is not None:
        key = f"{where}.api_key_file"
        try:
            return _checked(text_of_key_file(table.api_key_file), key)
        except OSError as error:
            raise ConfigError(f"{key}: {table.api_key_file} cannot be read ({error.strerror})", key=key) from None
    if table.api_key_command is not None:
        return _from_command(table.api_key_command, f"{where}.api_key_command")
    if default_variable is not None and environ.get(default_variable):
        return _checked(environ[default_variable], f"${default_variable}")
    return None


def _checked(text: str, source: str) -> SecretStr:
    key = text.strip()
    # It becomes a header: a line end would split it, and HTTP libraries quote malformed headers in their errors.
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{source}: contains no key: a key is one word of ASCII characters", key=source)
    return SecretStr(key)


def text_of_key_file(path: Path) -> str:
    return read_regular_file(path, max_bytes=_MAX_KEY_BYTES).decode("utf-8-sig", "replace")


def _from_command(words: tuple[str, ...], key: str) -> SecretStr:
    try:
        code, printed = _ran(words)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        # Neither the command nor its output is shown: either could contain the key.
        raise ConfigError(f"{key}: the command could not be run ({type(error).__name__})", key=key) from None
    if code != 0:
        raise ConfigError(f"{key}: the command failed with exit code {code}", key=key)
    return _checked(printed.decode("utf-8", "replace"), key)


def _ran(words: tuple[str, ...]) -> tuple[int, bytes]:
    commands = _commands.get()
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(words, stdin=nothing, stdout=pipe, stderr=pipe) as process:  # noqa: S603 - the user's own
        try:
            if commands is not None:
                commands.add(process)
            printed, _ = process.communicate(timeout=_COMMAND_TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
        return process.returncode, printed
