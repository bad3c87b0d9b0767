"""What a configuration found in the working directory may not set, as the user has not chosen it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llama_client.config.environment import PREFIX, plain_name
from llama_client.config.provider_tables import KEY_SOURCES
from llama_client.config.schema import kind_of
from llama_client.errors import PluginError
from llama_client.hosts import name_in
from llama_client.providers.services import LOOPBACK, Service, all_services, service_of
from llama_client.validation import Problem

# Each lets others read what is sent.
_DETOURS = ("proxy", "ca_file")
_REMEDY = "pass the file yourself (config=..., or $LLAMA_CLIENT_CONFIG), or move it to your user's configuration"

Table = Mapping[Any, Any]


def refusals(values: object, folder: Path, overrides: Table) -> Iterator[Problem]:
    """Every key of a found file that it may not set."""
    # It could send a key or the user's costs elsewhere, read a file outside its folder as a key, run a command, delete
    # rows of the user's own ledger, or make exceptions from the user's own `local_only`.
    values = _table(values)
    yield from _of_ledger(_table(values.get("ledger")), folder, _table(overrides.get("ledger")))
    yield from _of_cache(_table(values.get("cache")), folder, _table(overrides.get("cache")))
    yield from _of_privacy(_table(values.get("privacy")), overrides)
    by_name = {plain_name(name): table for name, table in _table(overrides.get("providers")).items()}
    for name, table in _table(values.get("providers")).items():
        if isinstance(name, str) and isinstance(table, Mapping):
            yield from _of_provider(name, table, _table(by_name.get(plain_name(name))), folder)


def _table(value: object) -> Table:
    return value if isinstance(value, Mapping) else {}


def _refused(key: str, rule: str) -> Problem:
    return Problem(key, f"{key}: a file found in the working directory may {rule}{_REMEDY}")


def _of_ledger(ledger: Table, folder: Path, users: Table) -> Iterator[Problem]:
    # A ledger elsewhere would get the tags and costs of every call, and `$PGPASSWORD`.
    url = ledger.get("url", "sqlite")
    if url == "sqlite" or "url" in users:
        for key in ("retention_days", "enabled"):
            # A variable takes precedence over the file.
            if key in ledger and key not in users and ledger[key] is not True:
                rule = 'set this only for a ledger beside or below itself, as with ledger.url = "sqlite:///ledger.db"; '
                yield _refused(f"ledger.{key}", rule)
    if url in ("sqlite", "memory") or not isinstance(url, str):
        return
    if not (url.startswith("sqlite:///") and _is_inside(url.removeprefix("sqlite:///"), folder)):
        yield _refused("ledger.url", "only name a file beside or below itself; ")


def _of_cache(cache: Table, folder: Path, users: Table) -> Iterator[Problem]:
    # A cache elsewhere would get every answer; the user's own would lose what is too much or too old for this file.
    url = cache.get("url", "sqlite")
    if url == "sqlite" or "url" in users:
        for key in ("max_age_days", "max_mib"):
            if key in cache and key not in users:
                rule = 'set this only for a cache beside or below itself, as with cache.url = "sqlite:///answers.db"; '
                yield _refused(f"cache.{key}", rule)
    if url in ("sqlite", "memory") or not isinstance(url, str):
        return
    if not (url.startswith("sqlite:///") and _is_inside(url.removeprefix("sqlite:///"), folder)):
        yield _refused("cache.url", "only name a file beside or below itself; ")


def _of_privacy(privacy: Table, overrides: Table) -> Iterator[Problem]:
    """Exceptions from a `local_only` that the user has set, not this file."""
    is_users = overrides.get("local_only") is True and "allow_hosts" not in _table(overrides.get("privacy"))
    if is_users and privacy.get("allow_hosts"):
        yield _refused("privacy.allow_hosts", "not name exceptions from your own local_only; ")


def _of_provider(name: str, table: Table, users: Table, folder: Path) -> Iterator[Problem]:
    where, kind = f"providers.{name}", kind_of(name, table)
    if "api_key_command" in table:
        yield _refused(f"{where}.api_key_command", "not run commands; ")
    file = table.get("api_key_file")
    if isinstance(file, str) and not _is_inside(file, folder):
        yield _refused(f"{where}.api_key_file", "only name a key file beside or below itself; ")
    culprit = next((key for key in ("base_url", *_DETOURS, "kind") if key in table and key not in users), None)
    if culprit is not None and (culprit != "kind" or kind != name) and _gives_known_key(name, users):
        yield _refused(f"{where}.{culprit}", "not decide where the key in your own variables is sent; ")
    named = table.get("api_key_env")
    # Some systems do not distinguish GROQ_API_KEY from groq_api_key.
    named = named.upper() if isinstance(named, str) else ""
    if named.startswith(PREFIX):
        yield _refused(f"{where}.api_key_env", f"not read {named}; ")
    service, hosts = _service(kind), _hosts_by_variable()
    usual_host = None if service is None else service.host
    refused: list[Problem] = []
    if named in hosts:
        refused += _sent_elsewhere(named, usual_host, where, table)
    for own in _own_variables(service, table):
        # Without a base_url the user's own environment decides where it is sent.
        refused += _sent_elsewhere(own, hosts[own][0], where, table)
    yield from dict.fromkeys(refused)


@cache
def _hosts_by_variable() -> Mapping[str, tuple[str, ...]]:
    """The key variables of services, and the hosts that may receive them; a package cannot change a built-in one's."""
    hosts: dict[str, tuple[str, ...]] = {}
    for row in all_services():
        for variable in row.key_variables:
            hosts.setdefault(variable, row.key_hosts)
    return {**hosts, "OPENAI_ADMIN_KEY": hosts["OPENAI_API_KEY"]}


def _service(kind: object) -> Service | None:
    with suppress(PluginError):  # the check of kinds reports it
        return service_of(str(kind))
    return None


def _gives_known_key(name: str, users: Table) -> bool:
    """Whether the user's own variables give a service's key to the provider of that name."""
    if str(users.get("api_key_env")).upper() in _hosts_by_variable():
        return True
    return _service(plain_name(name)) is not None and any(key in users for key in KEY_SOURCES)


def _own_variables(service: Service | None, table: Table) -> tuple[str, ...]:
    """The variables that a kind reads by itself at this table's address."""
    # Those of clouds are read for any address, that of `openai` only for OpenAI, those of local servers only for this
    # machine, and that of Ollama only for its cloud or the address in OLLAMA_HOST.
    if service is None:
        return ()
    if "base_url" in table:
        is_home = _host(table["base_url"])[1] in service.key_hosts
        if service.is_any_server or (service.is_local and not is_home):
            return ()
    return service.key_variables


def _sent_elsewhere(variable: str, usual_host: str | None, where: str, table: Table) -> Iterator[Problem]:
    """The key that sends a variable to another host than its own."""
    hosts = _hosts_by_variable()[variable]
    culprit = next((key for key in _DETOURS if key in table), None)
    schemes = ("http", "https") if set(hosts) <= set(LOOPBACK) else ("https",)
    scheme, host = _host(table.get("base_url", ""))
    if culprit is None and "base_url" in table and not (host in hosts and scheme in schemes):
        culprit = "base_url"
    if culprit is None and "base_url" not in table and usual_host not in hosts:
        culprit = "api_key_env"
    if culprit is not None:
        rule = f'not send {variable} to another address; use kind = "openai" with a key of its own, or '
        yield _refused(f"{where}.{culprit}", rule)


def _is_inside(file: str, folder: Path) -> bool:
    with suppress(OSError, RuntimeError, ValueError):
        return (folder / Path(file).expanduser()).resolve().is_relative_to(folder.resolve())
    return False


def _host(url: object) -> tuple[str, str]:
    with suppress(ValueError):
        return urlsplit(str(url)).scheme, name_in(str(url))
    return "", ""
