"""Rules for a configuration that loads: retired models, budgets too small, unused rows, missing keys and files."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from llama_client.config.effective import Found
from llama_client.config.environment import KeyPath
from llama_client.config.provider_tables import GgufConfig, HttpProviderConfig
from llama_client.config.schema import Config, provider_kinds
from llama_client.costs.money import Calendar
from llama_client.costs.prices import PriceBook
from llama_client.diagnostics.finding import Finding, Status
from llama_client.diagnostics.machine import Environment
from llama_client.errors import LlamaClientError
from llama_client.providers.gguf.adapters import base_of, problem_of
from llama_client.providers.gguf.store import DEMO_NAME
from llama_client.providers.http.sdk import http_service_of
from llama_client.providers.registry import Providers
from llama_client.providers.services import Service, service_of
from llama_client.redaction import is_variable_name, without_credentials
from llama_client.routing.targets import TargetResolver
from llama_client.validation import quoted, suggestion

# The kinds with all their models in the catalogue.
_LISTED_KINDS = ("groq", "together")
_PULL_DEMO = f"`llama-client pull {DEMO_NAME}`"

# Of a finding: its check (where the doctor tries what a rule looks up, the doctor's), status, key and message.
_Row = tuple[str, Status, str, str]


class _Named(NamedTuple):
    # Where the configuration names the target.
    key: str
    provider: str
    model: str


class Rules:
    """All rules, for one configuration. None connects to anything or runs a command."""

    def __init__(self, config: Config, found: Found, environment: Environment, broken: Collection[KeyPath]) -> None:
        self._config = config
        self._found = found
        self._environ = environment.environ
        self._store = environment.store
        self._clock = environment.clock
        self._broken = broken
        self._providers = Providers(config, self._store, self._clock, environ=self._environ)
        self._resolver = TargetResolver(self._providers, self._store, config.routes)
        self._prices = PriceBook(config.prices, self._providers, Calendar(config.timezone))
        self._names = dict.fromkeys([*config.providers, *provider_kinds()])
        self._named = tuple(self._named_targets())

    def findings(self) -> Iterator[Finding]:
        rules = (self._default_model, self._names_in_routes, self._targets, self._keys, self._addresses)
        for rule in (*rules, self._files, self._unused, self._budgets, self._rows):
            for check, status, key, message in rule():
                yield Finding(check, "configuration", key, status, message)

    def _named_targets(self) -> Iterator[_Named]:
        written = self._targets_in_routes()
        if self._config.default_model is not None and self._config.default_model not in self._config.routes:
            written.insert(0, ("default_model", self._config.default_model))
        for key, text in written:
            provider, _, model = text.partition("/")
            if model and provider in self._names:
                yield _Named(key, provider, model)

    def _is_broken(self, provider: str) -> bool:
        # The rules report no more of a wrong table.
        return ("providers", provider) in self._broken

    def _has_address(self, provider: str) -> bool:
        return getattr(self._config.providers.get(provider), "base_url", None) is not None

    def _default_model(self) -> Iterator[_Row]:
        # With the routes that are wrong: those have a finding of their own.
        routes = self._found.values.get("routes")
        model, providers = self._config.default_model, self._config.providers
        if model is None:
            kinds = [table.kind for table in providers.values()]
            if providers and kinds not in (["gguf"], ["ollama"]):
                yield "default_model", "info", "default_model", "is not set, so a call that names no model is an error"
        elif not (isinstance(routes, Mapping) and model in routes) and not self._is_broken(model.partition("/")[0]):
            why_not = self._why_not(model)
            if why_not is not None:
                hint = "" if "did you mean" in why_not else suggestion(model.partition("/")[0], self._names)
                yield "default_model", "problem", "default_model", f"{why_not}{hint}"

    def _names_in_routes(self) -> Iterator[_Row]:
        """Targets of routes that are names of the catalogue."""
        for key, target in self._targets_in_routes():
            why_not = self._why_not(target) if "/" not in target else None
            if why_not is not None:
                yield "route", "problem", key, why_not

    def _targets_in_routes(self) -> list[tuple[str, str]]:
        """Each target as written, with the key that names it."""
        return [
            (f"routes.{name}.targets[{number}]", row.target)
            for name, route in self._config.routes.items()
            for number, row in enumerate(route.targets)
        ]

    def _why_not(self, model: str) -> str | None:
        try:
            self._resolver.choices(model)
        except LlamaClientError as error:
            return str(error).removeprefix("model: ")
        return None

    def _targets(self) -> Iterator[_Row]:
        for named in self._named:
            if self._is_broken(named.provider):
                continue
            if self._providers.kind(named.provider) == "gguf":
                messages = [self._not_pulled(named)]
            else:
                messages = [self._not_served(named), self._forbidden(named)]
            yield from (("target", "warning", named.key, message) for message in messages if message)

    def _not_served(self, named: _Named) -> str | None:
        kind = self._providers.kind(named.provider)
        retired = self._providers.retirement(named.provider, named.model)
        is_listed = kind in _LISTED_KINDS and not self._has_address(named.provider)
        if retired is not None or not is_listed or self._providers.offer(named.provider, named.model) is not None:
            return retired
        near = self._providers.catalog.nearest(f"{kind}/{named.model}", day=self._clock.today()) or ""
        hint = f"; did you mean {named.provider + near.removeprefix(kind)!r}?" if near.startswith(f"{kind}/") else ""
        return f"the catalogue has no {quoted(named.model)} at {kind}{hint}"

    def _not_pulled(self, named: _Named) -> str | None:
        table = self._config.providers.get(named.provider)
        problem = problem_of(named.model, table.lora if isinstance(table, GgufConfig) else ())
        if problem is not None:
            return problem
        model, pulled = base_of(named.model), sorted(self._store.names())
        if model == "default":
            has_file = isinstance(table, GgufConfig) and table.model_path is not None
            if has_file or DEMO_NAME in pulled:
                return None
            return f"is the demo model, which has not been pulled: {_PULL_DEMO} gets it"
        if model in pulled:
            return None
        get = _PULL_DEMO if model == DEMO_NAME else "`llama-client pull`"
        hint = suggestion(model, pulled) or f": {get} gets it"
        return f"no model named {quoted(model)} has been pulled (pulled: {', '.join(pulled) or 'none'}){hint}"

    def _forbidden(self, named: _Named) -> str | None:
        row = None if self._has_address(named.provider) else service_of(self._providers.kind(named.provider))
        host = None if row is None or row.is_local else row.host
        if self._config.local_only and host and host not in self._config.privacy.allow_hosts:
            return f"local_only is on, which refuses {host}: this target is never called"
        return None

    def _keys(self) -> Iterator[_Row]:
        providers = self._config.providers
        for name, table in providers.items():
            if isinstance(table, HttpProviderConfig) and not self._is_broken(name):
                for check, key, message in self._key(name, table):
                    yield check, "warning", f"providers.{name}{key}", message
        for named in self._named:
            row = None if named.provider in providers else service_of(named.provider)
            if row is not None and self._lacks_key(row):
                message = f"no key for {named.provider}: the variable {' or '.join(row.key_variables)} is not set"
                yield "provider_key", "warning", named.key, message

    def _lacks_key(self, row: Service) -> bool:
        return not row.is_local and bool(row.key_variables) and not row.has_key(self._environ)

    def _key(self, name: str, table: HttpProviderConfig) -> Iterator[tuple[str, str, str]]:
        """The check, the key below the provider's table, and the message of each finding."""
        source = self._found.source_of(("providers", name, "api_key"))
        if table.api_key is not None and source.kind != "environment":
            message = (
                "everyone who can read the configuration can read this key; better the name of a variable "
                "(api_key_env), a file (api_key_file) or a command (api_key_command)"
            )
            yield "config_value", ".api_key", message
        if table.api_key_env is not None and not is_variable_name(table.api_key_env, self._environ):
            message = "looks like a key: it must be the name of the variable that holds the key"
            yield "config_value", ".api_key_env", message
        elif table.api_key_env is not None and not self._environ.get(table.api_key_env):
            yield "provider_key", ".api_key_env", f"the variable {table.api_key_env} is not set"
        if table.api_key_command is not None and shutil.which(table.api_key_command[0]) is None:
            yield "provider_key", ".api_key_command", "there is no such command on this machine"
        has_source = any((table.api_key, table.api_key_env, table.api_key_file, table.api_key_command))
        row = service_of(table.kind)
        is_other_server = row is not None and row.is_any_server and table.base_url is not None
        if row is not None and not has_source and not is_other_server and self._lacks_key(row):
            variables = " or ".join(row.key_variables)
            message = f"there is no key: set the variable {variables}, or api_key_env, api_key_file or api_key_command"
            yield "provider_key", "", message

    def _addresses(self) -> Iterator[_Row]:
        """Addresses with a path that is added to them, or of another API."""
        for name, table in self._config.providers.items():
            written = table.base_url if isinstance(table, HttpProviderConfig) else None
            if written is None or self._is_broken(name) or service_of(table.kind) is None:
                continue
            right = http_service_of(table.kind).right_address(written)
            # Without a path, or below another one, some servers answer.
            if right is not None and len(right) < len(written):
                message = (
                    f"its path is added by the client, or of another API: it should be {without_credentials(right)}"
                )
                yield "provider_reachable", "warning", f"providers.{name}.base_url", message

    def _files(self) -> Iterator[_Row]:
        for name, table in self._config.providers.items():
            if isinstance(table, GgufConfig):
                files = [("gguf_model", "model_path", table.model_path), ("gguf_model", "mmproj", table.mmproj)]
                files.append(("gguf_model", "draft_model_path", table.draft_model_path))
                files += [("gguf_model", f"lora[{number}].path", lora.path) for number, lora in enumerate(table.lora)]
            else:
                own = ("provider_key", "api_key_file", table.api_key_file)
                files = [own, ("provider_reachable", "ca_file", table.ca_file)]
            for check, key, path in files:
                if path is not None and not path.is_file():
                    yield check, "problem", f"providers.{name}.{key}", f"there is no file {path}"

    def _unused(self) -> Iterator[_Row]:
        config = self._config
        # A name of the catalogue means every provider that serves it.
        has_names = any("/" not in target for _, target in self._targets_in_routes())
        if has_names or not self._named or len(config.providers) < 2:
            return
        used = {named.provider for named in self._named}
        for name in config.providers:
            if name not in used and not self._is_broken(name):
                message = f'neither a route nor default_model names it; a call may, as in model="{name}/..."'
                yield "config_value", "info", f"providers.{name}", message

    def _budgets(self) -> Iterator[_Row]:
        """Targets without a known price that a budget refuses."""
        for number, budget in enumerate(self._config.budgets):
            if budget.on_unpriced == "allow" or budget.on_exceeded == "warn":
                continue
            kind, _, scope = budget.scope.partition(":")
            in_scope = [named for named in self._named if kind != "provider" or named.provider == scope]
            for provider, model in dict.fromkeys((named.provider, named.model) for named in in_scope):
                if not self._is_broken(provider) and not self._has_price(provider, model):
                    message = (
                        f"no price known for {provider}/{model}, so this budget refuses it: add a [[prices]] row, or "
                        'set on_unpriced = "allow"'
                    )
                    yield "price", "warning", f"budgets[{number}]", message

    def _has_price(self, provider: str, model: str) -> bool:
        try:
            is_free = self._providers.get(provider).is_free(model)
            return self._prices.price(provider, model, self._clock.wall(), is_free=is_free) is not None
        except LlamaClientError:
            # Another finding says what is wrong with it.
            return True

    def _rows(self) -> Iterator[_Row]:
        rows = [(f"prices[{number}].target", row.target) for number, row in enumerate(self._config.prices)]
        rows += [(f"models[{number}].target", row.target) for number, row in enumerate(self._config.models)]
        for key, target in rows:
            provider = target.partition("/")[0]
            if provider not in self._names:
                message = f"no provider is named {quoted(provider)}{suggestion(provider, self._names)}"
                yield "config_value", "warning", key, message
