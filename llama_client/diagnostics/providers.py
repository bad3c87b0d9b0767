"""Checks each provider in use: its key, whether it is reachable, its latency, the models it serves."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from llama_client import errors
from llama_client.diagnostics.finding import Fact, Facts, Finding, Section, Status
from llama_client.errors import AuthenticationError, LlamaClientError, LocalOnlyError, PermissionDeniedError
from llama_client.hosts import host_in, name_in
from llama_client.local_only import is_this_machine
from llama_client.providers.services import service_of
from llama_client.redaction import without_credentials

if TYPE_CHECKING:
    from llama_client.config.provider_tables import HttpProviderConfig
    from llama_client.diagnostics.config_check import CheckedConfig
    from llama_client.diagnostics.machine import DiagnosticsOptions, Environment
    from llama_client.providers.base import Provider, ServedModel
    from llama_client.providers.http.provider import HttpProvider
    from llama_client.providers.registry import Providers

State = Literal["reached", "not reached", "forbidden", "not contacted"]
# A server's error may be a page.
_MAX_QUOTED_CHARS = 300
_FORBIDDEN_REMEDIES = {
    "connection": 'Add "{host}" to privacy.allow_hosts if it may be reached, or remove its table.',
    "proxy": "Remove its proxy, or its table.",
    "key_command": "Read its key from api_key_file or api_key_env.",
}


class KeySource(NamedTuple):
    name: str | None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ProviderState:
    name: str
    kind: str
    state: State
    url: str | None = None
    served: Sequence[ServedModel] | None = None
    default: str | None = None
    version: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class ProviderCheck:
    name: str
    table: HttpProviderConfig
    checked: CheckedConfig
    providers: Providers
    options: DiagnosticsOptions
    environment: Environment

    @cached_property
    def key_source(self) -> KeySource:
        """Where its key comes from; of a command, without its arguments, which could contain the key."""
        table, variable = self.table, self._variable
        command = Path((table.api_key_command or ("",))[0]).name
        sources = [
            (table.api_key, KeySource(f"providers.{self.name}.api_key", self.checked.file)),
            (table.api_key_env, KeySource(f"${table.api_key_env}")),
            (table.api_key_file, KeySource(f"the file {table.api_key_file}", table.api_key_file)),
            (table.api_key_command, KeySource(f"the command `{command}`")),
            (self.environment.environ.get(variable or "") or None, KeySource(f"${variable}")),
        ]
        return next((source for value, source in sources if value is not None), KeySource(None))

    @property
    def _variable(self) -> str | None:
        """The variable that is read without a source in the table; None: a compatible server, which has none."""
        from llama_client.providers.http.sdk import http_service_of

        return http_service_of(self.table.kind).key_variable_for(self.table, self.environment.environ)

    @property
    def _keys_url(self) -> str | None:
        """The page where its keys are made; None: a compatible server."""
        service = service_of(self.table.kind)
        return service.keys_url or None if service is not None and self._variable is not None else None

    def load(self) -> None:
        """Imports what the check needs, so that its time does not count as the provider's."""
        with suppress(Exception):  # `run` meets it again and reports it
            provider: HttpProvider = self.providers.get(self.name)  # type: ignore[assignment]
            service = service_of(self.table.kind)
            if service is not None and service.sdk and self._not_allowed(provider.url) is None:
                import_module(service.sdk)

    def run(self) -> ProviderState:
        """Contacts the provider. May block for any time: run it in a thread."""
        try:
            provider: HttpProvider = self.providers.get(self.name)  # type: ignore[assignment]
        except LlamaClientError as error:
            return self._ended("not reached", None, self._invalid(error))
        if getattr(provider, "url", None) is None:
            return self._without_address(provider)
        url = without_credentials(provider.url)
        not_allowed = self._not_allowed(provider.url)
        if not_allowed is not None:
            return self._not_contacted(url, not_allowed)
        try:
            provider.open()
        except LocalOnlyError as error:
            return self._not_contacted(url, self._forbidden(error, url))
        except LlamaClientError as error:
            return self._ended("not reached", url, self._key_missing(error))
        return self._contacted(provider, url)

    def _without_address(self, provider: Provider) -> ProviderState:
        """A provider of an installed package that is not behind HTTP; it checks by itself what it may connect to."""
        try:
            served = provider.served_models()
        except LlamaClientError as error:
            return self._ended("not reached", None, self._invalid(error))
        message = f"provided by an installed package; it lists {len(served)} models"
        reached = self._reach("ok", message, models=len(served))
        return replace(self._ended("reached", None, reached), served=list(served))

    def unknown(self, failure: str | None) -> ProviderState:
        """Its state after a check that failed, or (None) did not end in time."""
        url, remedy = self.providers.url(self.name), None
        if failure is None:
            failure = f"it did not answer within {self.options.timeout_s:g} s"
            remedy = "Try a longer --timeout; if that does not help, its key's command or its server hangs."
        return self._ended("not reached", url and without_credentials(url), self._reach("problem", failure, remedy))

    def _contacted(self, provider: HttpProvider, url: str) -> ProviderState:
        # With the HTTP library behind it, which not every configuration needs.
        from llama_client.providers.http.error_mapping import is_refused

        monotonic = self.environment.clock.monotonic
        started_s = monotonic()
        try:
            served = provider.served_models()
        except LlamaClientError as error:
            state: State = "forbidden" if isinstance(error, LocalOnlyError) else "not reached"
            right = provider.service.right_address(provider.url)
            unreached = self._unreached(error, url, right and without_credentials(right), is_refused=is_refused(error))
            return self._ended(state, url, *self._key_findings(error), unreached)
        latency_ms = round((monotonic() - started_s) * 1000, 1)
        message = f"reached at {url} in {latency_ms:g} ms; it serves {len(served)} model{'s' * (len(served) != 1)}"
        reached = self._reach("ok", message, latency_ms=latency_ms, models=len(served), url=url)
        ended = self._ended("reached", url, *self._key_findings(None), reached)
        cleaned = [replace(model, id=provider.cleaned(model.id)) for model in served]
        if self.table.kind != "ollama":
            return replace(ended, served=cleaned)
        default = self.providers.ollama_default(self.name)
        return replace(ended, served=cleaned, default=default, version=_version(provider))

    def _ended(self, state: State, url: str | None, *findings: Finding) -> ProviderState:
        return ProviderState(self.name, self.table.kind, state, url, findings=(*self._key_file_findings(), *findings))

    def _not_contacted(self, url: str, finding: Finding) -> ProviderState:
        return self._ended("forbidden" if finding.facts["rule"] == "local_only" else "not contacted", url, finding)

    def _not_allowed(self, url: str) -> Finding | None:
        """Why the provider must not be contacted; None: it may. To find out, nothing is contacted either."""
        host, url = host_in(url), without_credentials(url)
        if self.checked.is_wrong("providers", self.name):
            message = "not contacted: its table in the configuration is wrong"
            return self._reach("skipped", message, rule="configuration", url=url)
        if is_this_machine(host):
            return None
        if not self.checked.is_known:
            message = "not contacted: the configuration cannot be used, and it may set local_only"
            return self._reach("skipped", message, rule="configuration", url=url)
        try:
            self.providers.guard.require_allowed(host)
        except LocalOnlyError as error:
            return self._forbidden(error, url)
        if self.options.offline:
            return self._reach("skipped", "not contacted: --offline", rule="offline", url=url)
        return None

    def _forbidden(self, error: LocalOnlyError, url: str) -> Finding:
        """Forbidden by `local_only`, as it should be without a table in the configuration."""
        message, remedy = f"not contacted: {error}", None
        if self.providers.is_configured(self.name):
            remedy = _FORBIDDEN_REMEDIES.get(error.rule, "Remove its table, or switch local_only off.")
            remedy = remedy.format(host=name_in(url))
        return self._reach("warning" if remedy else "info", message, remedy, rule="local_only", url=url)

    def _reach(self, status: Status, message: str, remedy: str | None = None, **facts: Fact) -> Finding:
        return self._finding("provider_reachable", status, message, remedy, facts)

    def _key(self, status: Status, message: str, remedy: str | None = None) -> Finding:
        return self._finding("provider_key", status, message, remedy, {"source": self.key_source.name})

    def _finding(self, check: str, status: Status, message: str, remedy: str | None, facts: Facts) -> Finding:
        section: Section = "local engines" if self.table.kind == "ollama" else "providers"
        return Finding(check, section, self.name, status, message, remedy, facts)

    def _key_file_findings(self) -> Iterator[Finding]:
        file = self.key_source.file
        if file is None or os.name != "posix":
            return
        with suppress(OSError):
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                message = "it contains a key, and other users of this machine can read it"
                remedy, facts = f"Run `chmod 600 '{file}'`.", {"mode": f"{mode:04o}"}
                yield Finding("key_file", "configuration", str(file), "warning", message, remedy, facts)

    def _key_missing(self, error: LlamaClientError) -> Finding:
        if isinstance(error, AuthenticationError):
            return self._key("problem", "it needs a key, and there is none", self._get_key())
        key = getattr(error, "key", None)
        if isinstance(error, errors.ConfigError) and not (key and ("api_key" in key or key.startswith("$"))):
            return self._invalid(error)
        return self._key("problem", str(error).removeprefix(f"{key}: "), self._replace_key())

    def _key_findings(self, error: LlamaClientError | None) -> Iterator[Finding]:
        source = self.key_source.name
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            code = f" ({error.http_status})" if error.http_status else ""
            sent = f"the key in {source}" if source else "a request without a key"
            verb = "refused" if isinstance(error, AuthenticationError) else "does not allow"
            yield self._key("problem", f"it {verb} {sent}{code}", self._replace_key())
        elif source is not None:
            validity = "" if error is None else "; unknown whether it is valid"
            yield self._key("ok", f"present, from {source}{validity}")
        elif error is None and self.table.kind != "ollama":
            yield self._key("info", "none is set, and none was needed")

    def _get_key(self) -> str:
        where = f"Get a key at {self._keys_url} and set" if self._keys_url else "Set"
        if self._variable is None:
            return f"{where} providers.{self.name}.api_key_env to the variable that holds it."
        return f"{where} {self._variable}, or providers.{self.name}.api_key_env."

    def _replace_key(self) -> str:
        if self.key_source.name is None:
            return self._get_key()
        where = f"a new one is made at {self._keys_url}" if self._keys_url else "ask the server's administrator for one"
        return f"Put a valid key into {self.key_source.name}; {where}."

    def _invalid(self, error: LlamaClientError) -> Finding:
        key = getattr(error, "key", None) or f"providers.{self.name}"
        return self._reach("problem", str(error), f"Correct {key}." if isinstance(error, errors.ConfigError) else None)

    def _unreached(self, error: LlamaClientError, url: str, right: str | None, *, is_refused: bool) -> Finding:
        """`right`: the address that was probably meant, if this one is wrong."""
        if isinstance(error, LocalOnlyError):
            return self._forbidden(error, url)
        facts: dict[str, Fact] = {"url": url, "error": type(error).__name__}
        if isinstance(error, errors.ProviderError):
            facts["http_status"] = error.http_status
        if isinstance(error, errors.RateLimitError):
            return self._reach("warning", f"reached at {url}, and rate limited: {error}", None, **facts)
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            return self._reach("info", f"reached at {url}; without a valid key it lists no models", None, **facts)
        text = str(error)
        message = f"not reached at {url}: {text[:_MAX_QUOTED_CHARS]}{'…' * (len(text) > _MAX_QUOTED_CHARS)}"
        if is_refused:
            message = f"{'no Ollama is running' if self.table.kind == 'ollama' else 'connection refused'} at {url}"
        is_optional = self.table.kind == "ollama" and not self.providers.is_configured(self.name)
        if is_optional and isinstance(error, errors.APIConnectionError):
            return self._reach("info", message, None, **facts)
        return self._reach("problem", message, self._remedy(error, right), **facts)

    def _remedy(self, error: LlamaClientError, right: str | None) -> str:
        from llama_client.providers.http.error_mapping import causes
        from llama_client.providers.wire.errors import is_wrong_address

        where = f"providers.{self.name}.base_url"
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)):
            return f"Name the certificate to trust in providers.{self.name}.ca_file, or in SSL_CERT_FILE."
        if isinstance(error, errors.ProviderError) and is_wrong_address(error) and right is not None:
            return f"Set {where} to {right}."
        if isinstance(error, errors.ModelNotFoundError | errors.InvalidResponseError):
            usual = "that of an Ollama server has no path" if self.table.kind == "ollama" else "it usually ends in /v1"
            return f"Check {where}: {usual}."
        if self.table.kind == "ollama" and isinstance(error, errors.APIConnectionError):
            return f"Start it with `ollama serve`, or correct {where} or OLLAMA_HOST."
        if isinstance(error, errors.APITimeoutError | errors.APIConnectionError):
            service = service_of(self.table.kind)
            is_cloud = service is not None and not service.is_local and not service.is_any_server
            if not is_cloud and self.table.base_url is not None:
                return f"Start the server, or correct {where}."
            return "Check whether this machine is online, and whether a proxy is needed (HTTPS_PROXY)."
        return "The server itself fails: look at its logs or its status page, and try again later."


def _version(provider: HttpProvider) -> str | None:
    try:
        answer = provider.look_up("api/version")
    except LlamaClientError:
        return None
    version = answer.get("version") if isinstance(answer, dict) else None
    return provider.cleaned(version)[:40] if isinstance(version, str) else None
