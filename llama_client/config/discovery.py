"""Where the configuration comes from: the first file that is found, then the environment on top."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from llama_client.config.cloned import refuse_redirected_keys
from llama_client.config.schema import Config, read_config
from llama_client.errors import ConfigError

APP_NAME = "llama-client"
FILE_NAME = "llama-client.toml"
_PREFIX = "LLAMA_CLIENT_"
# These are no keys of the configuration: where it is, and where pulled models are.
_CONFIG_VARIABLE = "LLAMA_CLIENT_CONFIG"
CACHE_VARIABLE = "LLAMA_CLIENT_CACHE_DIR"
# A configuration is a page or two; more than this is some other file.
_MAX_FILE_BYTES = 1 << 20

Source = str | os.PathLike[str] | Mapping[str, Any] | Config | None


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

    Raises:
        ConfigError: The file is missing or wrong; names the key and the nearest known one.

    Example:
        >>> load_config({"default_model": "gguf/default"}, environ={}).default_model
        'gguf/default'
    """
    if isinstance(source, Config):
        return source
    environ = os.environ if environ is None else environ
    # Relative: a process whose working folder is gone can still use a configuration that needs none.
    folder = working_folder or Path()
    match source:
        case Mapping():
            values, origin, base = dict(source), "config", folder
        case str() | os.PathLike():
            values, origin, base = _read(expanded(str(source)), folder)
        case None if _CONFIG_VARIABLE in environ:
            values, origin, base = _read(expanded(environ[_CONFIG_VARIABLE]), folder)
        case None:
            values, origin, base = _discover(folder)
        case _:
            raise ConfigError(f"config: must be a path, a dict, a Config or None, got a {type(source).__name__}")
    overrides = _from_environment(environ)
    if source is None and _CONFIG_VARIABLE not in environ and base == folder:
        refuse_redirected_keys(values, origin, base, overrides)
    # Any source that says true wins: an environment cannot switch the guard off.
    if values.get("local_only") is True:
        overrides.pop("local_only", None)
    if says_local_only(environ):
        overrides["local_only"] = True
    if overrides:
        values, origin = _merged(values, overrides), f"{origin} with {_PREFIX}* variables"
    return read_config(values, origin=origin, folder=base)


def says_local_only(environ: Mapping[str, str]) -> bool:
    """Whether the environment or the user's own file says `local_only`, which holds whatever else configures a client.

    Raises:
        ConfigError: The user's file cannot be read, so that nobody knows.
    """
    if _value(environ.get(f"{_PREFIX}LOCAL_ONLY", "")) is True:
        return True
    user_file = _user_file()
    return user_file.is_file() and _toml(user_file).get("local_only") is True


def _user_file() -> Path:
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / FILE_NAME


def expanded(path: str) -> Path:
    """A path with the user's home in the place of `~`.

    Raises:
        ConfigError: It can be no path.
    """
    try:
        if "\0" in path:
            raise ConfigError(f"{path!r} can be no path")
        return Path(path).expanduser()
    except RuntimeError as error:  # the home of a user that is not there
        raise ConfigError(f"{path}: there is no such place: {error}") from None


def _discover(folder: Path) -> tuple[dict[str, Any], str, Path]:
    if (folder / FILE_NAME).is_file():
        return _read(folder / FILE_NAME, folder)
    pyproject = folder / "pyproject.toml"
    if pyproject.is_file():
        tool = _toml(pyproject).get("tool", {})
        if isinstance(tool, dict) and APP_NAME in tool:
            return tool[APP_NAME], f"{pyproject} [tool.{APP_NAME}]", folder
    user_file = _user_file()
    if user_file.is_file():
        return _read(user_file, folder)
    return {}, "config", folder


def _read(path: Path, folder: Path) -> tuple[dict[str, Any], str, Path]:
    path = folder / path
    return _toml(path), str(path), path.parent


def _toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} bytes, so no configuration")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(_PREFIX) or name in (_CONFIG_VARIABLE, CACHE_VARIABLE):
            continue
        *tables, key = name.removeprefix(_PREFIX).lower().split("__")
        table = found
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: another variable gives {part!r} a value of its own", key=part)
        # A key of nothing but digits is no number.
        table[key] = text if key == "api_key" else _value(text)
    return found


def _value(text: str) -> Any:
    """A variable's text as TOML would read it (`4096`, `true`), else as the text it is."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`overrides` on top of `values`. Variables know neither case nor hyphens, so a key is found without them."""
    merged = dict(values)
    names = {key.lower().replace("-", "_"): key for key in merged}
    for key, value in overrides.items():
        name = names.get(key, key)
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, dict) else value
    return merged
