"""The whole examination: what is asked at once, what follows from the answers, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from llama_client.config.keys import KeyCommands
from llama_client.config.providers import GgufProvider, HttpProvider
from llama_client.config.schema import BUILT_IN_PROVIDERS, TABLES
from llama_client.doctor import configuration
from llama_client.doctor.findings import Fact, Finding, Report, in_order
from llama_client.doctor.gguf import engine_findings, examine_files
from llama_client.doctor.ledger import examine_ledger, ledger_file
from llama_client.doctor.ledger import load as load_ledger
from llama_client.doctor.machine import Hardware, disk_findings, examine_hardware, hardware_findings
from llama_client.doctor.masking import Masks
from llama_client.doctor.money import price_findings
from llama_client.doctor.providers import View, Visit
from llama_client.doctor.reach import Reach
from llama_client.doctor.software import software_findings
from llama_client.doctor.surroundings import Surroundings, Wanted
from llama_client.doctor.targets import Targets
from llama_client.doctor.waiting import run_all
from llama_client.providers.registry import Providers

if TYPE_CHECKING:
    from llama_client.doctor.configuration import Loaded
    from llama_client.doctor.gguf import GgufView

_LEDGER, _HARDWARE = "the ledger", "the machine"
# What a provider's name cannot be, as a name holds no such sign.
_SIGN = "/"


def examine(wanted: Wanted | None = None, surroundings: Surroundings | None = None) -> Report:
    """Looks at everything that a call will need.

    It asks providers for their models, the database for what it holds and the system for its memory, all at once and
    no longer than `timeout_s`. It asks no model anything, writes nothing, and raises nothing: what is
    wrong is in the report.

    Args:
        wanted: What is to be looked at; None: the configuration that is found.
        surroundings: Where it looks; None: really.

    Example:
        report = examine(Wanted(offline=True))
        for finding in report.findings:
            print(finding.status, finding.subject, finding.message, finding.remedy)
    """
    wanted, surroundings = wanted or Wanted(), surroundings or Surroundings()
    loaded = configuration.read(wanted, surroundings)
    config = loaded.config
    providers = Providers(config, surroundings.store, surroundings.clock, environ=surroundings.environ)
    reach = Reach(providers.guard, wanted.offline, loaded.is_known, loaded.wrong_tables)
    masks = Masks(surroundings.environ, config, loaded.values)
    try:
        found = [*loaded.findings, *_Examination(wanted, surroundings, loaded, providers, reach).findings()]
    finally:
        # Whoever is still waiting for an answer stops waiting.
        providers.close()
    return Report([finding.rewritten(masks) for finding in in_order(found)], loaded.is_right)


class _Examination:
    def __init__(
        self, wanted: Wanted, surroundings: Surroundings, loaded: Loaded, providers: Providers, reach: Reach
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
        needs_files = any(isinstance(table, GgufProvider) for table in config.providers.values())
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

    def _asked(self) -> tuple[dict[str, View], list[Finding], Hardware | None]:
        """All that may take its time, asked at once."""
        visits, commands = self._visits(), KeyCommands()
        # Packages take seconds to import on a busy machine, which says nothing of whoever is asked.
        load_ledger(self._config, self._providers.guard)
        for visit in visits.values():
            visit.load()

        def looked(visit: Visit) -> View:
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
        return views, told, hardware if isinstance(hardware, Hardware) else None

    def _visits(self) -> dict[str, Visit]:
        visits = {}
        for name in self._providers.in_use:
            table = self._config.providers.get(name) or TABLES[name]()
            if isinstance(table, HttpProvider):
                visits[name] = Visit(
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

    def _file_tables(self) -> dict[str, GgufProvider]:
        tables = {
            name: table
            for name, table in self._config.providers.items()
            if isinstance(table, GgufProvider) and name not in self._loaded.wrong_tables
        }
        if "gguf" in BUILT_IN_PROVIDERS and "gguf" not in self._config.providers:
            tables["gguf"] = GgufProvider()
        return tables

    def _of_targets(
        self, views: Mapping[str, View], files: Mapping[str, GgufView]
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


def _view(visit: Visit, result: object, timeout_s: float) -> View:
    if isinstance(result, View):
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


def _of_ollama(view: View, *, local_only: bool) -> Iterator[Finding]:
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
