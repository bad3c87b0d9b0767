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

# Each built-in provider's key variables, and the hosts that may see them.
_HOSTS_OF_VARIABLE: Mapping[str, frozenset[str]] = {
    "GROQ_API_KEY": frozenset({"api.groq.com"}),
    "TOGETHER_API_KEY": frozenset({"api.together.ai", "api.together.xyz"}),
    "OPENAI_API_KEY": frozenset({"api.openai.com"}),
    "OPENAI_ADMIN_KEY": frozenset({"api.openai.com"}),
    "OLLAMA_API_KEY": frozenset({"ollama.com"}),
}
# What a kind reads by itself, and where it is without a base_url.
_VARIABLE_OF_KIND = {
    "groq": "GROQ_API_KEY",
    "together": "TOGETHER_API_KEY",
    "openai": "OPENAI_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}
_HOST_OF_KIND = {"groq": "api.groq.com", "together": "api.together.ai", "openai": "api.openai.com"}
# Each decides who else sees what is sent.
_DETOURS = ("proxy", "ca_file")
_OUR_OWN_VARIABLES = "LLAMA_CLIENT_"


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
    named = table.get("api_key_env")
    # Some systems do not tell GROQ_API_KEY from groq_api_key.
    named = named.upper() if isinstance(named, str) else ""
    if named.startswith(_OUR_OWN_VARIABLES):
        raise ConfigError(
            f"{origin}: {where}.api_key_env: a file found in the working directory may not read {named}; {remedy}",
            key=f"{where}.api_key_env",
        )
    variables = [variable for variable in (named, _own_variable(kind, table)) if variable in _HOSTS_OF_VARIABLE]
    for variable in variables:
        _require_home(variable, where, kind, table, origin, remedy)


def _own_variable(kind: object, table: Mapping[str, object]) -> str:
    """The variable that a kind reads by itself at this table's address.

    Groq's and Together's are read wherever they are sent to; `openai` reads its own only at OpenAI, and Ollama only at
    its cloud, or at the address in OLLAMA_HOST.
    """
    if kind == "openai" and "base_url" in table:
        return ""
    if kind == "ollama" and "base_url" in table and _host(table["base_url"])[1] != "ollama.com":
        return ""
    return _VARIABLE_OF_KIND.get(str(kind), "")


def _require_home(
    variable: str, where: str, kind: object, table: Mapping[str, object], origin: str, remedy: str
) -> None:
    """Refuses to send a variable anywhere but to the host that it belongs to.

    Raises:
        ConfigError: It would be.
    """
    hosts = _HOSTS_OF_VARIABLE[variable]
    culprit = next((key for key in _DETOURS if key in table), None)
    if culprit is None and "base_url" in table and _host(table["base_url"]) not in [("https", host) for host in hosts]:
        culprit = "base_url"
    if culprit is None and "base_url" not in table and _HOST_OF_KIND.get(str(kind), next(iter(hosts))) not in hosts:
        culprit = "api_key_env"
    if culprit is not None:
        raise ConfigError(
            f"{origin}: {where}.{culprit}: a file found in the working directory may not send {variable} to another "
            f'address; use kind = "openai" with a key of its own, or {remedy}',
            key=f"{where}.{culprit}",
        )


def _is_inside(file: str, folder: Path) -> bool:
    try:
        return (folder / Path(file).expanduser()).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _host(url: object) -> tuple[str, str]:
    """An address's scheme and host."""
    try:
        parts = urlsplit(str(url))
        return parts.scheme.lower(), parts.hostname or ""
    except ValueError:
        return "", ""
