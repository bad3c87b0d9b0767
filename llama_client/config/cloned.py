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
_ADDRESS_KEYS = ("base_url", *_DETOURS)
_KEY_SOURCES = ("api_key", "api_key_env", "api_key_file", "api_key_command")
_OUR_OWN_VARIABLES = "LLAMA_CLIENT_"
_REMEDY = "pass the file yourself (config=..., or $LLAMA_CLIENT_CONFIG), or move it to your user's configuration"


def refuse_redirected_keys(values: object, origin: str, folder: Path, overrides: Mapping[str, object]) -> None:
    """Checks a configuration that nobody chose but was found.

    Args:
        values: What the file says.
        origin: Where it is, for messages.
        folder: The folder that it was found in.
        overrides: What the user's own variables say, by the same keys.

    Raises:
        ConfigError: It would send a key of the user's elsewhere, or what the user's calls cost, read a file outside its
            folder as a key, or run a command.
    """
    _check_ledger(values, origin, folder)
    providers = values.get("providers") if isinstance(values, Mapping) else None
    variables = overrides.get("providers")
    by_name = {_plain(name): table for name, table in variables.items()} if isinstance(variables, Mapping) else {}
    for name, table in providers.items() if isinstance(providers, Mapping) else ():
        if isinstance(name, str) and isinstance(table, Mapping):
            users = by_name.get(_plain(name))
            _check(name, table, users if isinstance(users, Mapping) else {}, origin, folder)


def _check_ledger(values: object, origin: str, folder: Path) -> None:
    """Refuses a ledger elsewhere: it would be sent every call's tags and costs, and be asked for with `$PGPASSWORD`."""
    ledger = values.get("ledger") if isinstance(values, Mapping) else None
    url = ledger.get("url", "sqlite") if isinstance(ledger, Mapping) else "sqlite"
    if url == "sqlite" or not isinstance(url, str):
        return
    if not (url.startswith("sqlite:///") and _is_inside(url.removeprefix("sqlite:///"), folder)):
        raise ConfigError(
            f"{origin}: ledger.url: a file found in the working directory may only name a file beside or below itself; "
            f"{_REMEDY}",
            key="ledger.url",
        )


def _plain(name: str) -> str:
    """A name as variables know it: without case and hyphens."""
    return name.lower().replace("-", "_")


def _check(name: str, table: Mapping[str, object], users: Mapping[str, object], origin: str, folder: Path) -> None:
    where, kind = f"providers.{name}", kind_of(name, table)
    remedy = _REMEDY
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
    culprit = next((key for key in (*_ADDRESS_KEYS, "kind") if key in table and key not in users), None)
    if culprit is not None and (culprit != "kind" or kind != name) and _names_a_built_in_key(name, users):
        raise ConfigError(
            f"{origin}: {where}.{culprit}: a file found in the working directory may not decide where the key in "
            f"your own variables is sent; {remedy}",
            key=f"{where}.{culprit}",
        )
    named = table.get("api_key_env")
    # Some systems do not tell GROQ_API_KEY from groq_api_key.
    named = named.upper() if isinstance(named, str) else ""
    if named.startswith(_OUR_OWN_VARIABLES):
        raise ConfigError(
            f"{origin}: {where}.api_key_env: a file found in the working directory may not read {named}; {remedy}",
            key=f"{where}.api_key_env",
        )
    own = _own_variable(kind, table)
    usual_host = _HOST_OF_KIND.get(str(kind))
    if named in _HOSTS_OF_VARIABLE:
        _require_home(named, usual_host, where, table, origin, remedy)
    if own in _HOSTS_OF_VARIABLE:
        # Without a base_url it goes where the user's own environment says.
        _require_home(own, next(iter(_HOSTS_OF_VARIABLE[own])), where, table, origin, remedy)


def _names_a_built_in_key(name: str, users: Mapping[str, object]) -> bool:
    """Whether the user's own variables give a built-in provider's key to the provider of that name."""
    if str(users.get("api_key_env")).upper() in _HOSTS_OF_VARIABLE:
        return True
    return _plain(name) in _VARIABLE_OF_KIND and any(key in users for key in _KEY_SOURCES)


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
    variable: str, usual_host: str | None, where: str, table: Mapping[str, object], origin: str, remedy: str
) -> None:
    """Refuses to send a variable anywhere but to the host that it belongs to.

    Raises:
        ConfigError: It would be.
    """
    hosts = _HOSTS_OF_VARIABLE[variable]
    culprit = next((key for key in _DETOURS if key in table), None)
    if culprit is None and "base_url" in table and _host(table["base_url"]) not in [("https", host) for host in hosts]:
        culprit = "base_url"
    if culprit is None and "base_url" not in table and usual_host not in hosts:
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
