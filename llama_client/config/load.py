"""Finds and loads the configuration: the first file found, with environment variables on top."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from llama_client.config.effective import ConfigLocation, Document, Found, ValueSource
from llama_client.config.environment import CONFIG_VARIABLE, PREFIX, Overrides, value_of
from llama_client.config.files import MAX_CONFIG_BYTES, read_regular_file, text_of, toml_values
from llama_client.config.schema import Config, read_config
from llama_client.errors import ConfigError
from llama_client.redaction import without_secrets
from llama_client.validation import quoted

APP_NAME = "llama-client"
FILE_NAME = "llama-client.toml"

Place = str | os.PathLike[str] | Mapping[str, Any] | None
Source = Place | Config


def load_config(
    source: Source = None, *, environ: Mapping[str, str] | None = None, working_folder: Path | None = None
) -> Config:
    """Finds and checks the configuration.

    First found: `source`, `$LLAMA_CLIENT_CONFIG`, `./llama-client.toml`, `[tool.llama-client]` in `./pyproject.toml`,
    the user's config folder. `LLAMA_CLIENT_*` variables override its keys: `LLAMA_CLIENT_DEFAULT_MODEL`, and with two
    underscores between levels `LLAMA_CLIENT_PROVIDERS__LAPTOP__N_CTX`. A `Config` is taken as it is.

    Args:
        source: A path, a dict with the TOML's keys, a `Config`, or None to look for a file.
        environ: The environment; None: the process's own.
        working_folder: Where to look; None: the process's own.

    Returns:
        The configuration; without any file it is that of the defaults.

    Raises:
        ConfigError: The file is missing or wrong; names the key and the nearest known one.

    Example:
        >>> load_config({"default_model": "gguf/default"}, environ={}).default_model
        'gguf/default'
    """
    if isinstance(source, Config):
        return source
    found = find_config(source, environ=environ, working_folder=working_folder)
    for problem in found.refusals():
        raise ConfigError(f"{found.document.origin}: {problem.sentence}", key=problem.field, file=found.document.file)
    config = read_config(found.values, origin=found.origin, folder=found.document.folder, file=found.document.file)
    return config.made_local_only(found.local_only_by) if config.local_only else config


def find_config(
    source: Place = None, *, environ: Mapping[str, str] | None = None, working_folder: Path | None = None
) -> Found:
    """The values that `load_config` checks, and where each comes from."""
    environ = os.environ if environ is None else environ
    # Relative, so that a process without its working folder can still use a configuration that needs none.
    folder = working_folder or Path()
    places: list[ConfigLocation] = []
    match source:
        case Mapping():
            document = Document(dict(source), "config", folder)
        case str() | os.PathLike():
            document = _file(expanded(str(source)), folder)
        case None:
            document, places = _first(environ, folder)
        case _:
            raise ConfigError(f"config: must be a path, a dict, a Config or None, got a {type(source).__name__}")
    is_untrusted = source is None and CONFIG_VARIABLE not in environ and document.folder == folder
    overrides = Overrides.of(environ)
    values, variables = overrides.laid_over(document.values)
    local_only = local_only_source(environ)
    # True from any source: an environment cannot switch the guard off.
    if local_only is not None or document.values.get("local_only") is True:
        values["local_only"] = True
        variables.pop(("local_only",), None)
    return Found(
        document=document,
        overrides=overrides,
        values=values,
        variables=variables,
        origin=f"{document.origin} with {PREFIX}* variables" if variables else document.origin,
        is_untrusted=is_untrusted,
        local_only=local_only,
        places=tuple(places),
    )


def local_only_source(environ: Mapping[str, str]) -> ValueSource | None:
    """What sets `local_only` for every configuration: the variable, or the user's own file; None: neither."""
    variable = f"{PREFIX}LOCAL_ONLY"
    if variable in environ and _is_true(value_of(environ[variable]), variable, variable=variable):
        return ValueSource("environment", variable=variable)
    user_file = user_config_file()
    if not user_file.is_file():
        return None
    if _is_true(_toml(user_file).get("local_only", False), f"{user_file}: local_only", file=user_file):
        return ValueSource("file", file=user_file)
    return None


def _is_true(value: object, where: str, *, file: Path | None = None, variable: str | None = None) -> bool:
    if not isinstance(value, bool):
        message = f"{where}: must be true or false, got {quoted(value)}"
        raise ConfigError(message, key="local_only", file=file, variable=variable)
    return value


def user_config_file() -> Path:
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / FILE_NAME


def expanded(path: str) -> Path:
    try:
        if "\0" in path:
            raise ConfigError(f"{path!r} is not a valid path")
        return Path(path).expanduser()
    except RuntimeError as error:  # the home of an unknown user
        raise ConfigError(f"{path}: there is no such path: {error}", file=Path(path), reason="missing") from None


def is_same_file(one: Path | None, other: Path) -> bool:
    try:
        return one is not None and one.samefile(other)
    except OSError:
        return False


def _first(environ: Mapping[str, str], folder: Path) -> tuple[Document, list[ConfigLocation]]:
    named, user = environ.get(CONFIG_VARIABLE), user_config_file()
    local, pyproject = folder / FILE_NAME, folder / "pyproject.toml"
    # The places to search, in this order, each with its reader (None: no configuration there).
    readers: dict[str, Callable[[], Document | None]] = {
        f"${CONFIG_VARIABLE}": lambda: None if named is None else _file(expanded(named), folder),
        f"./{FILE_NAME}": lambda: _file(local, folder) if local.is_file() else None,
        f"./pyproject.toml [tool.{APP_NAME}]": lambda: _in_pyproject(pyproject, folder),
        str(user): lambda: _file(user, folder) if user.is_file() else None,
    }
    taken: Document | None = None
    places = []
    for where, read in readers.items():
        if taken is not None:
            places.append(ConfigLocation(where, "passed over"))
            continue
        taken = read()
        places.append(ConfigLocation(where, "absent" if taken is None else "taken"))
    return taken or Document({}, "config", folder), places


def _in_pyproject(pyproject: Path, folder: Path) -> Document | None:
    tool = _toml(pyproject).get("tool", {}) if pyproject.is_file() else {}
    if not isinstance(tool, dict) or APP_NAME not in tool:
        return None
    origin = f"{pyproject} [tool.{APP_NAME}]"
    if not isinstance(tool[APP_NAME], dict):
        raise ConfigError(f"{origin}: must be a table of keys", file=pyproject)
    return Document(tool[APP_NAME], origin, folder, pyproject, ("tool", APP_NAME))


def _file(path: Path, folder: Path) -> Document:
    path = folder / path
    return Document(_toml(path), str(path), path.parent, path)


def _toml(path: Path) -> dict[str, Any]:
    try:
        content = read_regular_file(path, max_bytes=MAX_CONFIG_BYTES)
        if len(content) > MAX_CONFIG_BYTES:
            raise _unreadable(path, f"larger than {MAX_CONFIG_BYTES} bytes, too large for a configuration")
        return toml_values(text_of(content))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", file=path, reason="missing") from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError:
        raise _unreadable(path, "is not UTF-8 text") from None
    # Not only TOML's own error: a number may be too large.
    except (ValueError, RecursionError) as error:
        # It quotes names of keys, which may be a key in the wrong place.
        what, at, place = str(error).rpartition(" (at ")
        raise _unreadable(path, f"is not valid TOML: {without_secrets(what)}{at}{place}") from None


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: {why}", file=path, reason="unreadable")
