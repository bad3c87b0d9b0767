"""Rules for a configuration that loads: retired models, budgets too small, unused rows, missing keys and files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llama_client.config.clouds import CLOUDS
from llama_client.config.effective import Found
from llama_client.config.environment import KeyPath
from llama_client.config.provider_tables import GgufConfig, HttpProviderConfig
from llama_client.config.schema import BUILT_IN_PROVIDERS, Config
from llama_client.redaction import is_variable_name
from llama_client.validation import quoted, suggestion

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Catalog


# Whose models the catalogue lists; of the others nobody but the user knows what they serve.
LISTED_KINDS = ("groq", "together")


@dataclass(frozen=True, slots=True)
class Lint:
    """One thing that was found; see `check.CheckFinding`."""

    severity: Literal["error", "warning", "note"]
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """What is known beside the configuration."""

    catalog: Catalog
    today: date
    pulled: Collection[str]
    has_demo: bool
    why_nobody: Callable[[str], str | None]
    has_price: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class NamedTarget:
    """A target that the configuration names, and by which key."""

    key: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """What the rules look at."""

    config: Config
    found: Found
    knowledge: CheckFacts
    environ: Mapping[str, str]
    broken: Collection[KeyPath]
    names: tuple[NamedTarget, ...]

    def kind(self, provider: str) -> str:
        """The kind of a provider."""
        table = self.config.providers.get(provider)
        return provider if table is None else table.kind

    def is_broken(self, provider: str) -> bool:
        """Whether something is wrong with a provider's table, so that no more is said of it."""
        return ("providers", provider) in self.broken

    def has_address(self, provider: str) -> bool:
        """Whether a provider is elsewhere than its kind usually is."""
        return getattr(self.config.providers.get(provider), "base_url", None) is not None


def provider_lints(subject: CheckedConfig) -> Iterator[Lint]:
    """What is found."""
    yield from _keys(subject)
    yield from _files(subject)


def _keys(subject: CheckedConfig) -> Iterator[Lint]:
    providers = subject.config.providers
    for name, table in providers.items():
        if isinstance(table, HttpProviderConfig) and not subject.is_broken(name):
            yield from _key(subject, name, table)
    for named in subject.names:
        if named.provider not in LISTED_KINDS or named.provider in providers:
            continue
        variable = CLOUDS[named.provider].key_variable
        if not subject.environ.get(variable):
            what = f"there is no key for {named.provider}: the variable {variable} is not set"
            yield Lint("warning", named.key, what)


def _key(subject: CheckedConfig, name: str, table: HttpProviderConfig) -> Iterator[Lint]:
    where = f"providers.{name}"
    is_of_variable = subject.found.source_of(("providers", name, "api_key")).kind == "environment"
    if table.api_key is not None and not is_of_variable:
        better = "better the name of a variable (api_key_env), a file (api_key_file) or a command (api_key_command)"
        yield Lint("warning", f"{where}.api_key", f"whoever can read the configuration can read this key: {better}")
    if table.api_key_env is not None:
        if not is_variable_name(table.api_key_env, subject.environ):
            what = "looks like a key: here stands the name of the variable that holds it"
            yield Lint("warning", f"{where}.api_key_env", what)
        elif not subject.environ.get(table.api_key_env):
            yield Lint("warning", f"{where}.api_key_env", f"the variable {table.api_key_env} is not set")
    if table.api_key_command is not None and shutil.which(table.api_key_command[0]) is None:
        yield Lint("warning", f"{where}.api_key_command", "there is no such command on this machine")
    has_source = any((table.api_key, table.api_key_env, table.api_key_file, table.api_key_command))
    needs_one = table.kind in LISTED_KINDS or (table.kind == "openai" and table.base_url is None)
    if not needs_one or has_source:
        return
    variable = CLOUDS[table.kind].key_variable
    if not subject.environ.get(variable):
        what = f"there is no key: set the variable {variable}, or api_key_env, api_key_file or api_key_command"
        yield Lint("warning", where, what)


def _files(subject: CheckedConfig) -> Iterator[Lint]:
    for name, table in subject.config.providers.items():
        where = f"providers.{name}"
        files: list[tuple[str, Path | None]]
        if isinstance(table, GgufConfig):
            files = [("model_path", table.model_path), ("mmproj", table.mmproj)]
            files += [(f"lora[{number}].path", adapter.path) for number, adapter in enumerate(table.lora)]
        else:
            files = [("api_key_file", table.api_key_file), ("ca_file", table.ca_file)]
        for key, path in files:
            if path is not None and not path.is_file():
                yield Lint("error", f"{where}.{key}", f"there is no file {path}")


_DEMO = "llama-client pull smollm2-135m"


def target_lints(subject: CheckedConfig) -> Iterator[Lint]:
    """What is found."""
    for named in subject.names:
        if subject.is_broken(named.provider):
            continue
        match subject.kind(named.provider):
            case "gguf":
                yield from _pulled(subject, named)
            case kind:
                yield from _served(subject, named, kind)
                yield from _forbidden(subject, named, kind)


def _served(subject: CheckedConfig, named: NamedTarget, kind: str) -> Iterator[Lint]:
    catalog, today = subject.knowledge.catalog, subject.knowledge.today
    retired = catalog.explain_retirement(named.provider, named.model, today) or catalog.explain_retirement(
        kind, named.model, today
    )
    if retired is not None:
        yield Lint("warning", named.key, retired)
        return
    offer = catalog.offer(named.provider, named.model) or catalog.offer(kind, named.model)
    if offer is None and kind in LISTED_KINDS and not subject.has_address(named.provider):
        near = catalog.nearest(f"{kind}/{named.model}", day=today)
        is_there = near is not None and near.startswith(f"{kind}/")
        hint = f"; did you mean {named.provider + near.removeprefix(kind)!r}?" if near and is_there else ""
        yield Lint("warning", named.key, f"the catalogue knows no {quoted(named.model)} at {kind}{hint}")


def _pulled(subject: CheckedConfig, named: NamedTarget) -> Iterator[Lint]:
    table = subject.config.providers.get(named.provider)
    has_file = isinstance(table, GgufConfig) and table.model_path is not None
    if named.model == "default":
        if not has_file and not subject.knowledge.has_demo:
            yield Lint("warning", named.key, f"is the demo model, which has not been pulled: `{_DEMO}` gets it")
    elif named.model not in subject.knowledge.pulled:
        names = sorted(subject.knowledge.pulled)
        there = f"there are {', '.join(names)}" if names else "there is none"
        hint = suggestion(named.model, names)
        get = _DEMO if named.model == _DEMO.rpartition(" ")[2] else "llama-client pull"
        what = f"no model named {quoted(named.model)} has been pulled ({there}){hint or f': `{get}` gets it'}"
        yield Lint("warning", named.key, what)


def _forbidden(subject: CheckedConfig, named: NamedTarget, kind: str) -> Iterator[Lint]:
    is_usual = kind in CLOUDS and not subject.has_address(named.provider)
    host = CLOUDS[kind].usual_host if is_usual else None
    if subject.config.local_only and host and host not in subject.config.privacy.allow_hosts:
        yield Lint("warning", named.key, f"local_only is on, which refuses {host}: this target is never asked")


def lints(
    config: Config,
    found: Found,
    knowledge: CheckFacts,
    *,
    environ: Mapping[str, str],
    broken: Collection[KeyPath],
) -> Iterator[Lint]:
    """Everything that is found."""
    subject = CheckedConfig(config, found, knowledge, environ, broken, tuple(_named(config)))
    for rule in (_default_model, _names, target_lints, provider_lints, _unused, _budgets, _rows):
        yield from rule(subject)


def _named(config: Config) -> Iterator[NamedTarget]:
    written = [
        (f"routes.{name}.targets[{number}]", row.target)
        for name, route in config.routes.items()
        for number, row in enumerate(route.targets)
    ]
    if config.default_model is not None and config.default_model not in config.routes:
        written.insert(0, ("default_model", config.default_model))
    known = (*config.providers, *BUILT_IN_PROVIDERS)
    for key, text in written:
        provider, slash, model = text.partition("/")
        if slash and model and provider in known:
            yield NamedTarget(key, provider, model)


def _default_model(subject: CheckedConfig) -> Iterator[Lint]:
    # Also those that are wrong: of them that was said.
    routes = subject.found.values.get("routes")
    model, providers = subject.config.default_model, subject.config.providers
    if model is None:
        only = [table.kind for table in providers.values()]
        if providers and only not in (["gguf"], ["ollama"]):
            yield Lint("note", "default_model", "is not set, so a call that names no model is an error")
    elif not (isinstance(routes, Mapping) and model in routes) and not subject.is_broken(model.partition("/")[0]):
        why = subject.knowledge.why_nobody(model)
        if why is not None:
            known = (*providers, *BUILT_IN_PROVIDERS)
            hint = "" if "did you mean" in why else suggestion(model.partition("/")[0], known)
            yield Lint("error", "default_model", f"{why}{hint}")


def _names(subject: CheckedConfig) -> Iterator[Lint]:
    """Targets of routes that are names of the catalogue."""
    for name, route in subject.config.routes.items():
        for number, row in enumerate(route.targets):
            why = subject.knowledge.why_nobody(row.target) if "/" not in row.target else None
            if why is not None:
                yield Lint("error", f"routes.{name}.targets[{number}]", why)


def _unused(subject: CheckedConfig) -> Iterator[Lint]:
    config = subject.config
    # A name of the catalogue means whoever serves it.
    plain = [row.target for route in config.routes.values() for row in route.targets if "/" not in row.target]
    if plain or not subject.names or len(config.providers) < 2:
        return
    used = {named.provider for named in subject.names}
    for name in config.providers:
        if name not in used and not subject.is_broken(name):
            what = f'neither a route nor default_model names it; a call may, as in model="{name}/..."'
            yield Lint("note", f"providers.{name}", what)


def _budgets(subject: CheckedConfig) -> Iterator[Lint]:
    """Targets that a budget never lets through, as nobody knows what they cost."""
    for number, budget in enumerate(subject.config.budgets):
        if budget.on_unpriced == "allow" or budget.on_exceeded == "warn":
            continue
        kind, _, scope = budget.scope.partition(":")
        targets = dict.fromkeys(
            (named.provider, named.model)
            for named in subject.names
            if (kind != "provider" or named.provider == scope) and not subject.is_broken(named.provider)
        )
        for provider, model in targets:
            if not subject.knowledge.has_price(provider, model):
                yield Lint(
                    "warning",
                    f"budgets[{number}]",
                    f"nobody knows the price of {provider}/{model}, so this budget refuses it: add a [[prices]] row "
                    'for it, or say on_unpriced = "allow"',
                )


def _rows(subject: CheckedConfig) -> Iterator[Lint]:
    """Rows about targets of providers that are not there."""
    known = tuple(dict.fromkeys([*subject.config.providers, *BUILT_IN_PROVIDERS]))
    rows = [(f"prices[{number}].target", row.target) for number, row in enumerate(subject.config.prices)]
    rows += [(f"models[{number}].target", row.target) for number, row in enumerate(subject.config.models)]
    for key, target in rows:
        provider = target.partition("/")[0]
        if provider not in known:
            yield Lint("warning", key, f"no provider is named {quoted(provider)}{suggestion(provider, known)}")
