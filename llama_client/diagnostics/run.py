"""`doctor`: runs all checks, bounded in time, and puts their findings together without secrets."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from llama_client.config.api_keys import KeyCommands, text_of_key_file
from llama_client.config.provider_tables import GgufConfig, HttpProviderConfig
from llama_client.config.schema import Config, table_of
from llama_client.diagnostics.cache import examine_cache, load_cache
from llama_client.diagnostics.config_check import CheckedConfig, check_config, configuration_findings
from llama_client.diagnostics.finding import SECTIONS, DiagnosticsReport, Fact, Finding, Status
from llama_client.diagnostics.gguf import GgufView, engine_findings, file_findings
from llama_client.diagnostics.ledger import examine_ledger, ledger_file, price_findings
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
from llama_client.providers.services import SERVICES, plugin_problems
from llama_client.redaction import Secrets, named_secrets

# Words that a report needs, and which are often set as keys of servers that need none.
_ORDINARY = frozenset({*SERVICES, "gguf", "default", "memory", "password", "postgres", "secret", "sqlite"})
# Jobs beside the providers', under names that no provider can have.
_LEDGER, _CACHE, _HARDWARE = "/ledger", "/cache", "/machine"


def report_secrets(environ: Mapping[str, str], config: Config, values: Mapping[str, Any]) -> Secrets:
    """The secrets of an environment and a configuration, which no report may contain."""
    found = {*named_secrets(environ), *named_secrets(values), *named_secrets(config.model_dump())}
    for table in config.providers.values():
        file = getattr(table, "api_key_file", None)
        if isinstance(file, Path):
            with suppress(OSError):
                found |= set(named_secrets({"key": text_of_key_file(file)}))
    return Secrets(found - _ORDINARY - set(config.providers))


R = TypeVar("R")

# Threads at once. A configuration has a handful of providers; with hundreds, a thread takes the next one when free.
MAX_AT_ONCE = 128


def run_all(jobs: Mapping[str, Callable[[], R]], *, within_s: float) -> dict[str, R | Exception | None]:
    """Runs jobs in threads; the result or exception of each, or None for one that did not end in time."""
    pending = deque(jobs.items())
    results: dict[str, R | Exception | None] = dict.fromkeys(jobs)
    until = monotonic() + within_s

    def work() -> None:
        with suppress(IndexError):  # no job is left
            while monotonic() < until:
                name, job = pending.popleft()
                try:
                    results[name] = job()
                except Exception as error:  # noqa: BLE001 - it is the job's result
                    results[name] = error

    names = [f"llama-client-doctor-{number}" for number in range(min(len(jobs), MAX_AT_ONCE))]
    threads = [threading.Thread(target=work, name=name, daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - monotonic(), 0.0))
    # A copy, which the threads that are late do not change.
    return dict(results)


def examine(options: DiagnosticsOptions | None = None, environment: Environment | None = None) -> DiagnosticsReport:
    """Checks everything that a call needs, without calling a model; a problem is a finding, never an exception.

    Example:
        report = examine(DiagnosticsOptions(offline=True))
        for finding in report.findings:
            print(finding.status, finding.subject, finding.message, finding.remedy)
    """
    options, environment = options or DiagnosticsOptions(), environment or Environment()
    checked = check_config(options.source, environment)
    config = checked.config
    providers = Providers(config, environment.store, environment.clock, environ=environment.environ)
    secrets = report_secrets(environment.environ, config, {} if checked.found is None else checked.found.values)
    try:
        findings = [
            *configuration_findings(checked, environment.environ),
            *_Examination(options, environment, checked, config, providers).findings(),
        ]
    finally:
        # Ends the requests of checks that have not ended.
        providers.close()
    in_order = sorted(dict.fromkeys(findings), key=lambda finding: SECTIONS.index(finding.section))
    return DiagnosticsReport([f.redacted(secrets.without_any) for f in in_order], not checked.problems)


@dataclass(frozen=True)
class _Examination:
    options: DiagnosticsOptions
    environment: Environment
    checked: CheckedConfig
    config: Config
    providers: Providers

    def findings(self) -> Iterator[Finding]:
        config, store = self.config, self.environment.store
        states, money, hardware = self._slow_checks()
        tables = {**config.providers, "gguf": config.providers.get("gguf", GgufConfig())}
        views = {
            name: GgufView(name, table, store, tuple(file_findings(name, table, store, hardware)))
            for name, table in tables.items()
            if isinstance(table, GgufConfig) and not self.checked.is_wrong("providers", name)
        }
        targets, named, prices = self._targets(states, views)
        needs_gguf = any(isinstance(table, GgufConfig) for table in config.providers.values())
        needs_gguf |= any(provider in views for provider in named)
        yield from software_findings(config, needs_gguf=needs_gguf)
        for problem in plugin_problems():
            remedy = f"Update or uninstall {problem.package}."
            yield Finding("plugin", "configuration", problem.package, "warning", str(problem), remedy)
        yield from targets
        for state in states.values():
            yield from state.findings
            yield from _of_ollama(state, local_only=config.local_only)
        yield from engine_findings(hardware, store, is_needed=needs_gguf)
        for view in views.values():
            yield from view.findings
        if hardware is not None:
            yield from hardware_findings(hardware)
        yield from disk_findings(store.folder, ledger_file(config, self.providers.guard))
        yield from prices
        yield from money

    def _slow_checks(self) -> tuple[dict[str, ProviderState], list[Finding], MachineFacts | None]:
        """The checks that may take long, all at once."""
        commands, checks = KeyCommands(), {}
        for name in self.providers.in_use:
            table = self.config.providers.get(name) or table_of(name)
            if isinstance(table, HttpProviderConfig):
                checks[name] = ProviderCheck(name, table, self.checked, self.providers, self.options, self.environment)
        # To import packages takes seconds on a busy machine, which must not count as a provider's time.
        ledger_file(self.config, self.providers.guard, load=True)
        load_cache(self.config, self.providers.guard)
        for check in checks.values():
            check.load()

        def run(check: ProviderCheck) -> ProviderState:
            commands.follow_thread()
            return check.run()

        jobs: dict[str, Callable[[], object]] = {name: partial(run, check) for name, check in checks.items()}
        jobs[_LEDGER] = lambda: examine_ledger(
            self.config, self.providers.guard, self.environment.clock, offline=self.options.offline
        )
        jobs[_CACHE] = lambda: examine_cache(self.config, self.providers.guard, offline=self.options.offline)
        jobs[_HARDWARE] = lambda: examine_hardware(self.environment)
        try:
            results = run_all(jobs, within_s=self.options.timeout_s)
        finally:
            commands.end()
        states = {
            name: state if isinstance(state := results[name], ProviderState) else check.unknown(_failed(state))
            for name, check in checks.items()
        }
        money, hardware = [], results[_HARDWARE]
        for name, found in (("ledger", results[_LEDGER]), ("cache", results[_CACHE])):
            if isinstance(found, list):
                money += found
                continue
            message = _failed(found) or f"it did not answer within {self.options.timeout_s:g} s"
            remedy = f"Check that {name}.url names a running server."
            money.append(Finding(name, "money", name, "problem", message, remedy))
        return states, money, hardware if isinstance(hardware, MachineFacts) else None

    def _targets(
        self, states: Mapping[str, ProviderState], views: Mapping[str, GgufView]
    ) -> tuple[list[Finding], set[str], list[Finding]]:
        """The findings on targets, the providers that they name, and the findings on their prices."""
        is_known = self.checked.is_known and not self.checked.is_wrong("default_model")
        if not is_known and self.options.model is None:
            message = "unknown, as its value in the configuration cannot be used"
            return [Finding("default_model", "models", "default_model", "skipped", message)], set(), []
        targets = Targets(self.config, self.providers, self.environment.store, states, views)
        findings = targets.findings(self.options.model)
        found = list(targets.states.values())
        return findings, {state.provider for state in found}, list(price_findings(self.config, self.providers, found))


def _failed(result: object) -> str | None:
    # An unexpected exception: without its text, which may quote anything.
    return None if result is None else f"its check failed ({type(result).__name__})"


def _of_ollama(state: ProviderState, *, local_only: bool) -> Iterator[Finding]:
    """The models that a running Ollama has loaded, and those that run in its cloud."""
    if state.kind != "ollama" or state.state != "reached" or state.served is None:
        return
    loaded = [model.id for model in state.served if model.is_loaded]
    version = f"version {state.version}, " if state.version else ""
    status: Status = "ok" if state.served else "warning"
    message = f"loaded: {', '.join(loaded)}" if loaded else "no model is loaded" if state.served else "it has no model"
    remedy = None if state.served else "Run `ollama pull llama3.2`."
    facts: dict[str, Fact] = {"version": state.version, "loaded": loaded, "models": len(state.served)}
    yield Finding("ollama", "local engines", state.name, status, f"{version}{message}", remedy, facts)
    remote = [model.id for model in state.served if model.is_remote]
    if remote:
        rule = ", which local_only refuses" if local_only else ": calls to them leave this machine"
        message = f"run in Ollama's cloud{rule}: {', '.join(remote)}"
        yield Finding("ollama_cloud_models", "local engines", state.name, "info", message, facts={"models": remote})
