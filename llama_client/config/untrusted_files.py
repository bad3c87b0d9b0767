"""What a configuration found in the working directory may not do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from llama_client.config.clouds import CLOUDS
from llama_client.config.schema import kind_of
from llama_client.validation import Problem

# The built-in kinds' key variables, and the hosts that may see them.
_HOSTS_OF_VARIABLE: Mapping[str, frozenset[str]] = {
    **{cloud.key_variable: frozenset(cloud.hosts) for cloud in CLOUDS.values()},
    "OPENAI_ADMIN_KEY": frozenset(CLOUDS["openai"].hosts),
}
# Each decides who else sees what is sent.
_DETOURS = ("proxy", "ca_file")
_ADDRESS_KEYS = ("base_url", *_DETOURS)
_KEY_SOURCES = ("api_key", "api_key_env", "api_key_file", "api_key_command")
# What is done to the user's own ledger: how long its rows are kept, and whether calls are written down there.
_OF_USERS_LEDGER = ("retention_days", "enabled")
_OUR_OWN_VARIABLES = "LLAMA_CLIENT_"
_REMEDY = "pass the file yourself (config=..., or $LLAMA_CLIENT_CONFIG), or move it to your user's configuration"


def redirections(values: object, folder: Path, overrides: Mapping[str, object]) -> Iterator[Problem]:
    """What a configuration says that nobody chose but was found, and that it may not say.

    It would send a key of the user's elsewhere, or what the user's calls cost, read a file outside its folder as a key,
    run a command, do away with the user's own ledger, or open what the user's own `local_only` closes.
    """
    yield from _of_ledger(values, folder, overrides)
    yield from _of_privacy(values, overrides)
    providers = values.get("providers") if isinstance(values, Mapping) else None
    variables = overrides.get("providers")
    by_name = {_plain(name): table for name, table in variables.items()} if isinstance(variables, Mapping) else {}
    for name, table in providers.items() if isinstance(providers, Mapping) else ():
        if isinstance(name, str) and isinstance(table, Mapping):
            users = by_name.get(_plain(name))
            yield from _of_provider(name, table, users if isinstance(users, Mapping) else {}, folder)


def _refused(key: str, rule: str) -> Problem:
    return Problem(key, f"{key}: a file found in the working directory may {rule}{_REMEDY}")


def _of_ledger(values: object, folder: Path, overrides: Mapping[str, object]) -> Iterator[Problem]:
    """A ledger elsewhere: it would be sent every call's tags and costs, and be asked for with `$PGPASSWORD`.

    And what is done to the user's own: rows that are older than a file likes would be gone for ever.
    """
    ledger = values.get("ledger") if isinstance(values, Mapping) else None
    if not isinstance(ledger, Mapping):
        return
    said = overrides.get("ledger")
    users = said if isinstance(said, Mapping) else {}
    url = ledger.get("url", "sqlite")
    if url == "sqlite" or "url" in users:
        for key in _OF_USERS_LEDGER:
            # What a variable says holds, whatever the file says.
            if key in ledger and key not in users and ledger[key] is not True:
                yield _refused(f"ledger.{key}", "only say that of a ledger beside or below itself (ledger.url); ")
    if url == "sqlite" or not isinstance(url, str):
        return
    if not (url.startswith("sqlite:///") and _is_inside(url.removeprefix("sqlite:///"), folder)):
        yield _refused("ledger.url", "only name a file beside or below itself; ")


def _of_privacy(values: object, overrides: Mapping[str, object]) -> Iterator[Problem]:
    """Exceptions from a `local_only` that is the user's own, not this file's."""
    privacy = values.get("privacy") if isinstance(values, Mapping) else None
    users = overrides.get("privacy")
    if overrides.get("local_only") is not True or (isinstance(users, Mapping) and "allow_hosts" in users):
        return
    if isinstance(privacy, Mapping) and privacy.get("allow_hosts"):
        yield _refused("privacy.allow_hosts", "not name exceptions from your own local_only; ")


def _plain(name: str) -> str:
    """A name as variables know it: without case and hyphens."""
    return name.lower().replace("-", "_")


def _of_provider(
    name: str, table: Mapping[str, object], users: Mapping[str, object], folder: Path
) -> Iterator[Problem]:
    where, kind = f"providers.{name}", kind_of(name, table)
    if "api_key_command" in table:
        yield _refused(f"{where}.api_key_command", "not run commands; ")
    file = table.get("api_key_file")
    if isinstance(file, str) and not _is_inside(file, folder):
        yield _refused(f"{where}.api_key_file", "only name a key file beside or below itself; ")
    culprit = next((key for key in (*_ADDRESS_KEYS, "kind") if key in table and key not in users), None)
    if culprit is not None and (culprit != "kind" or kind != name) and _names_a_built_in_key(name, users):
        yield _refused(f"{where}.{culprit}", "not decide where the key in your own variables is sent; ")
    named = table.get("api_key_env")
    # Some systems do not tell GROQ_API_KEY from groq_api_key.
    named = named.upper() if isinstance(named, str) else ""
    if named.startswith(_OUR_OWN_VARIABLES):
        yield _refused(f"{where}.api_key_env", f"not read {named}; ")
    own = _own_variable(kind, table)
    usual_host = CLOUDS[str(kind)].usual_host if kind in CLOUDS else None
    refused: list[Problem] = []
    if named in _HOSTS_OF_VARIABLE:
        refused += _away_from_home(named, usual_host, where, table)
    if own in _HOSTS_OF_VARIABLE:
        # Without a base_url it goes where the user's own environment says.
        refused += _away_from_home(own, next(iter(_HOSTS_OF_VARIABLE[own])), where, table)
    yield from dict.fromkeys(refused)


def _names_a_built_in_key(name: str, users: Mapping[str, object]) -> bool:
    """Whether the user's own variables give a built-in provider's key to the provider of that name."""
    if str(users.get("api_key_env")).upper() in _HOSTS_OF_VARIABLE:
        return True
    return _plain(name) in CLOUDS and any(key in users for key in _KEY_SOURCES)


def _own_variable(kind: object, table: Mapping[str, object]) -> str:
    """The variable that a kind reads by itself at this table's address.

    Groq's and Together's are read wherever they are sent to; `openai` reads its own only at OpenAI, and Ollama only at
    its cloud, or at the address in OLLAMA_HOST.
    """
    if kind == "openai" and "base_url" in table:
        return ""
    if kind == "ollama" and "base_url" in table and _host(table["base_url"])[1] not in CLOUDS["ollama"].hosts:
        return ""
    return CLOUDS[str(kind)].key_variable if kind in CLOUDS else ""


def _away_from_home(
    variable: str, usual_host: str | None, where: str, table: Mapping[str, object]
) -> Iterator[Problem]:
    """A variable that would be sent anywhere but to the host that it belongs to."""
    hosts = _HOSTS_OF_VARIABLE[variable]
    culprit = next((key for key in _DETOURS if key in table), None)
    if culprit is None and "base_url" in table and _host(table["base_url"]) not in [("https", host) for host in hosts]:
        culprit = "base_url"
    if culprit is None and "base_url" not in table and usual_host not in hosts:
        culprit = "api_key_env"
    if culprit is not None:
        yield _refused(
            f"{where}.{culprit}",
            f'not send {variable} to another address; use kind = "openai" with a key of its own, or ',
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
