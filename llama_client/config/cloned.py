"""What a configuration found in the working directory may not do.

Whoever clones a repository and starts a program in it runs that repository's `llama-client.toml`. It may choose
providers and models; it may not send the user's keys to addresses of its own, nor run commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from llama_client.config.schema import kind_of
from llama_client.errors import ConfigError

# Each built-in provider's key variable, and the hosts that may see it.
_HOSTS_OF_VARIABLE: Mapping[str, frozenset[str]] = {
    "GROQ_API_KEY": frozenset({"api.groq.com"}),
    "TOGETHER_API_KEY": frozenset({"api.together.ai", "api.together.xyz"}),
    "OPENAI_API_KEY": frozenset({"api.openai.com"}),
    "OLLAMA_API_KEY": frozenset({"ollama.com"}),
}
# These kinds read their own variables (Groq's also for custom headers) whatever the address is. Ollama and `openai` do
# so only at the address that they have without a configuration.
_VARIABLE_OF_KIND = {"groq": "GROQ_API_KEY", "together": "TOGETHER_API_KEY"}
# Each decides who sees what is sent.
_ADDRESS_KEYS = ("base_url", "proxy", "ca_file")


def refuse_redirected_keys(values: object, origin: str, folder: Path) -> None:
    """Checks a configuration that nobody chose but was found.

    Raises:
        ConfigError: It would send a built-in provider's key elsewhere, read a file outside its folder as a key, or run
            a command.
    """
    providers = values.get("providers") if isinstance(values, Mapping) else None
    for name, table in providers.items() if isinstance(providers, Mapping) else ():
        if isinstance(table, Mapping):
            _check(f"providers.{name}", kind_of(name, table), table, origin, folder)


def _check(where: str, kind: object, table: Mapping[str, object], origin: str, folder: Path) -> None:
    remedy = "pass the file yourself (config=..., or $LLAMA_CLIENT_CONFIG), or move it to your user's configuration"
    if "api_key_command" in table:
        raise ConfigError(
            f"{origin}: {where}.api_key_command: a file found in the working directory may not run commands; {remedy}",
            key=f"{where}.api_key_command",
        )
    file = table.get("api_key_file")
    if isinstance(file, str) and not _is_inside(file, folder):
        raise ConfigError(
            f"{origin}: {where}.api_key_file: a file found in the working directory may only name a key file beside "
            f"or below itself; {remedy}",
            key=f"{where}.api_key_file",
        )
    variable = _VARIABLE_OF_KIND.get(str(kind)) or table.get("api_key_env")
    hosts = _HOSTS_OF_VARIABLE.get(str(variable))
    if hosts is None:
        return
    for key in _ADDRESS_KEYS:
        if key in table and not (key == "base_url" and _host(table[key]) in hosts):
            raise ConfigError(
                f"{origin}: {where}.{key}: a file found in the working directory may not send {variable} to another "
                f'address; use kind = "openai" with a key of its own, or {remedy}',
                key=f"{where}.{key}",
            )


def _is_inside(file: str, folder: Path) -> bool:
    try:
        return (folder / Path(file).expanduser()).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _host(url: object) -> str | None:
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return None
    return parts.hostname if parts.scheme == "https" else None
