"""`doctor`: runs all checks, bounded in time, redacts secrets, and puts the report together."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from llama_client.config.api_keys import KeyCommands, text_of_key_file
from llama_client.config.provider_tables import GgufConfig, HttpProviderConfig
from llama_client.config.schema import BUILT_IN_PROVIDERS, TABLES
from llama_client.diagnostics import configuration
from llama_client.diagnostics.finding import AllowedChecks, DiagnosticsReport, Fact, Finding, in_order
from llama_client.diagnostics.gguf import engine_findings, examine_files
from llama_client.diagnostics.ledger import examine_ledger, ledger_file, price_findings
from llama_client.diagnostics.ledger import load as load_ledger
from llama_client.diagnostics.machine import (
    DiagnosticsOptions,
    Environment,
    MachineFacts,
    disk_findings,
    examine_hardware,
    hardware_findings,
    software_findings,
)
from llama_client.diagnostics.providers import ProviderCheck, ProviderState
from llama_client.diagnostics.targets import Targets
from llama_client.providers.registry import Providers
from llama_client.redaction import MASK_IN_TEXT, SECRET_NAME, Secrets, secrets_of_address

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.diagnostics.configuration import LoadedConfig
    from llama_client.diagnostics.gguf import GgufView


# Words that a report needs. Servers without keys are often given one of them, and whoever's key is one has none.
_ORDINARY = frozenset({*TABLES, "default", "password", "postgres", "secret", "sqlite"})
# A user and a password in an address.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
# Names whose values may hold a secret, beside those that say so.
_HOLDS_A_SECRET = re.compile(r"(^|[_-])(headers?|proxy|url|uri|dsn)($|[_-])", re.IGNORECASE)
# Names of what is no secret itself: a variable, a place.
_OPEN_NAME = re.compile(r"(_env|_file|_path|_dir|_home|_sock|^no_proxy|^xauthority|^(old)?pwd)$", re.IGNORECASE)
# Below these, users choose names, which say nothing of what is below them.
_NAMED_BY_USERS = ("providers", "routes")
_MAX_DEPTH = 20


class SecretMask:
    """What must not be seen."""

    def __init__(self, environ: Mapping[str, str], config: Config, values: Mapping[str, Any]) -> None:
        found = [*_below(environ, is_secret=False, depth=0), *_of_config(config)]
        found += _below(values, is_secret=False, depth=0)
        pieces = {piece.strip() for text in found for piece in _pieces(text)}
        self._secrets = Secrets(pieces - _ORDINARY - set(config.providers))

    def __call__(self, text: str) -> str:
        """A text without them."""
        return _CREDENTIALS.sub(f"{MASK_IN_TEXT}@", self._secrets.cleaned(text))


def _of_config(config: Config) -> Iterator[str]:
    yield config.ledger.url.get_secret_value()
    for table in config.providers.values():
        for name in ("api_key", "proxy"):
            secret = getattr(table, name, None)
            if isinstance(secret, SecretStr):
                yield secret.get_secret_value()
        for header in getattr(table, "headers", {}).values():
            yield header.get_secret_value()
        yield getattr(table, "base_url", None) or ""
        file = getattr(table, "api_key_file", None)
        if isinstance(file, Path):
            yield from _of_file(file)


def _of_file(file: Path) -> Iterator[str]:
    try:
        yield text_of_key_file(file)
    except OSError:
        return


def _below(value: Any, *, is_secret: bool, depth: int, is_named_by_users: bool = False) -> Iterator[str]:
    """The texts below names that say that they hold a secret."""
    if depth > _MAX_DEPTH:
        return
    match value:
        case str() if is_secret:
            yield value
        case list():
            for each in value:
                yield from _below(each, is_secret=is_secret, depth=depth + 1)
        case Mapping():
            for name, each in value.items():
                told = not is_named_by_users and _tells(str(name))
                users = depth == 0 and name in _NAMED_BY_USERS
                yield from _below(each, is_secret=is_secret or told, depth=depth + 1, is_named_by_users=users)


def _tells(name: str) -> bool:
    """Whether a name says that there is a secret below it."""
    return bool(SECRET_NAME.search(name) or _HOLDS_A_SECRET.search(name)) and not _OPEN_NAME.search(name)


def _pieces(text: str) -> Iterator[str]:
    """What of a text is the secret: of an address what nobody needs, else the whole and what follows `Bearer`."""
    if "://" in text or "@" in text:
        yield from secrets_of_address(text if "://" in text else f"//{text}")
    else:
        yield text
        yield text.partition(" ")[2]


R = TypeVar("R")

# A configuration has a handful; one of hundreds is asked by so many at once, who take the next one when they are done.
MAX_AT_ONCE = 128


def run_all(jobs: Mapping[str, Callable[[], R]], *, within_s: float) -> dict[str, R | Exception | None]:
    """What each job came to."""
    waiting: SimpleQueue[tuple[str, Callable[[], R]]] = SimpleQueue()
    done: SimpleQueue[tuple[str, R | Exception]] = SimpleQueue()
    for name, job in jobs.items():
        waiting.put((name, job))
    until = monotonic() + within_s

    def work() -> None:
        while monotonic() < until:
            try:
                name, job = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((name, job()))
            except Exception as error:  # noqa: BLE001 - handed to who waits
                done.put((name, error))

    for number in range(min(len(jobs), MAX_AT_ONCE)):
        threading.Thread(target=work, name=f"llama-client-doctor-{number}", daemon=True).start()
    results: dict[str, R | Exception | None] = dict.fromkeys(jobs)
    for _ in jobs:
        try:
            name, result = done.get(timeout=max(until - monotonic(), 0.0))
        except Empty:
            break
        results[name] = result
    return results


_LEDGER, _HARDWARE = "the ledger", "the machine"
# What a provider's name cannot be, as a name holds no such sign.
_SIGN = "/"


def examine(wanted: DiagnosticsOptions | None = None, surroundings: Environment | None = None) -> DiagnosticsReport:
    """Looks at everything that a call will need.

    It asks providers for their models, the database for what it holds and the system for its memory, all at once and
    no longer than `timeout_s`. It asks no model anything, writes nothing, and raises nothing: what is
    wrong is in the report.

    Example:
        report = examine(DiagnosticsOptions(offline=True))
        for finding in report.findings:
            print(finding.status, finding.subject, finding.message, finding.remedy)
    """
    wanted, surroundings = wanted or DiagnosticsOptions(), surroundings or Environment()
    loaded = configuration.read(wanted, surroundings)
    config = loaded.config
    providers = Providers(config, surroundings.store, surroundings.clock, environ=surroundings.environ)
    reach = AllowedChecks(providers.guard, wanted.offline, loaded.is_known, loaded.wrong_tables)
    masks = SecretMask(surroundings.environ, config, loaded.values)
    try:
        found = [*loaded.findings, *_Examination(wanted, surroundings, loaded, providers, reach).findings()]
    finally:
        # Whoever is still waiting for an answer stops waiting.
        providers.close()
    return DiagnosticsReport([finding.rewritten(masks) for finding in in_order(found)], loaded.is_right)


class _Examination:
    def __init__(
        self,
        wanted: DiagnosticsOptions,
        surroundings: Environment,
        loaded: LoadedConfig,
        providers: Providers,
        reach: AllowedChecks,
    ) -> None:
        self._wanted = wanted
        self._surroundings = surroundings
        self._loaded = loaded
        self._config = loaded.config
        self._providers = providers
        self._reach = reach

    def findings(self) -> Iterator[Finding]:
        config, surroundings = self._config, self._surroundings
        views, ledger, hardware = self._asked()
        tables = self._file_tables()
        files = examine_files(tables, surroundings.store, hardware)
        named, states, prices = self._of_targets(views, files)
        needs_files = any(isinstance(table, GgufConfig) for table in config.providers.values())
        needs_files |= any(state in tables for state in states)
        yield from software_findings(config, needs_gguf=needs_files)
        yield from named
        for view in views.values():
            yield from view.findings
            yield from _of_ollama(view, local_only=config.local_only)
        yield from engine_findings(hardware, surroundings.store, is_needed=needs_files)
        for file_view in files.values():
            yield from file_view.findings
        if hardware is not None:
            yield from hardware_findings(hardware)
        yield from disk_findings(surroundings.store.folder, ledger_file(config, self._providers.guard))
        yield from prices
        yield from ledger

    def _asked(self) -> tuple[dict[str, ProviderState], list[Finding], MachineFacts | None]:
        """All that may take its time, asked at once."""
        visits, commands = self._visits(), KeyCommands()
        # Packages take seconds to import on a busy machine, which says nothing of whoever is asked.
        load_ledger(self._config, self._providers.guard)
        for visit in visits.values():
            visit.load()

        def looked(visit: ProviderCheck) -> ProviderState:
            with commands.followed():
                return visit.look()

        jobs: dict[str, Callable[[], object]] = {name: partial(looked, visit) for name, visit in visits.items()}
        jobs[_SIGN + _LEDGER] = lambda: examine_ledger(
            self._config, self._providers.guard, self._surroundings.clock, offline=self._wanted.offline
        )
        jobs[_SIGN + _HARDWARE] = lambda: examine_hardware(self._surroundings)
        try:
            results = run_all(jobs, within_s=self._wanted.timeout_s)
        finally:
            commands.end()
        views = {name: _view(visit, results[name], self._wanted.timeout_s) for name, visit in visits.items()}
        ledger = results[_SIGN + _LEDGER]
        hardware = results[_SIGN + _HARDWARE]
        told = ledger if isinstance(ledger, list) else [_late(ledger, self._wanted.timeout_s)]
        return views, told, hardware if isinstance(hardware, MachineFacts) else None

    def _visits(self) -> dict[str, ProviderCheck]:
        visits = {}
        for name in self._providers.in_use:
            table = self._config.providers.get(name) or TABLES[name]()
            if isinstance(table, HttpProviderConfig):
                visits[name] = ProviderCheck(
                    name,
                    table.kind,
                    table,
                    self._providers.is_configured(name),
                    self._providers,
                    self._reach,
                    self._surroundings.environ,
                    self._loaded.file,
                    self._surroundings.clock,
                )
        return visits

    def _file_tables(self) -> dict[str, GgufConfig]:
        tables = {
            name: table
            for name, table in self._config.providers.items()
            if isinstance(table, GgufConfig) and name not in self._loaded.wrong_tables
        }
        if "gguf" in BUILT_IN_PROVIDERS and "gguf" not in self._config.providers:
            tables["gguf"] = GgufConfig()
        return tables

    def _of_targets(
        self, views: Mapping[str, ProviderState], files: Mapping[str, GgufView]
    ) -> tuple[list[Finding], set[str], list[Finding]]:
        """What is said of targets, the providers that they name, and what is said of their prices."""
        is_known = self._loaded.is_known and not self._loaded.is_default_wrong
        if not is_known and self._wanted.model is None:
            message = "not known, as what the configuration says of it cannot be used"
            return [Finding("default_model", "models", "default_model", "skipped", message)], set(), []
        targets = Targets(self._config, self._providers, self._surroundings.store, views, files)
        found = targets.findings(self._wanted.model)
        states = list(targets.states.values())
        prices = list(price_findings(self._config, self._providers, states))
        return found, {state.provider for state in states}, prices


def _view(visit: ProviderCheck, result: object, timeout_s: float) -> ProviderState:
    if isinstance(result, ProviderState):
        return result
    view = visit.late(timeout_s)
    if result is None:
        return view
    # Nobody foresaw this; its text is left out, as nobody knows what it quotes.
    why = f"it could not be looked at ({type(result).__name__})"
    return replace(view, findings=tuple(replace(each, message=why, remedy=None) for each in view.findings))


def _late(result: object, timeout_s: float) -> Finding:
    why = f"it did not answer within {timeout_s:g} s"
    if result is not None:
        why = f"it could not be looked at ({type(result).__name__})"
    return Finding("ledger", "money", "ledger", "problem", why, "See that ledger.url names a place that answers.")


def _of_ollama(view: ProviderState, *, local_only: bool) -> Iterator[Finding]:
    """What a running Ollama has loaded, and which of its models are answered elsewhere."""
    if view.kind != "ollama" or view.state != "reached" or view.served is None:
        return
    loaded = [model.id for model in view.served if model.is_loaded]
    version = f"version {view.version}, " if view.version else ""
    message = version + (f"loaded: {', '.join(loaded)}" if loaded else "no model is loaded")
    facts: dict[str, Fact] = {"version": view.version, "loaded": loaded, "models": len(view.served)}
    if view.served:
        yield Finding("ollama", "local engines", view.name, "ok", message, facts=facts)
    else:
        remedy = "Run `ollama pull llama3.2`."
        yield Finding("ollama", "local engines", view.name, "warning", f"{version}it has no model", remedy, facts)
    remote = [model.id for model in view.served if model.is_remote]
    if remote:
        rule = ", which local_only refuses" if local_only else ": what is asked of them leaves this machine"
        message = f"answered by Ollama's cloud{rule}: {', '.join(remote)}"
        yield Finding("ollama_cloud_models", "local engines", view.name, "info", message, facts={"models": remote})
