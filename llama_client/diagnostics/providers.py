"""Checks each provider in use: its key, whether it is reachable, its latency, the models it serves."""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from llama_client.diagnostics.finding import AllowedChecks, Fact, Finding, NotAllowed, Section, Status, forbidden
from llama_client.diagnostics.machine import load_official
from llama_client.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConfigError,
    InvalidResponseError,
    LlamaClientError,
    LocalOnlyError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
)
from llama_client.providers.registry import service_of
from llama_client.redaction import without_credentials

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.provider_tables import HttpProviderConfig
    from llama_client.config.provider_tables import HttpProviderConfig as HttpTable
    from llama_client.providers.base import ServedModel
    from llama_client.providers.http.provider import HttpProvider
    from llama_client.providers.registry import Providers


_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key comes from."""

    name: str | None
    file: Path | None = None


def key_source(
    name: str, table: HttpProviderConfig, *, kind: str, environ: Mapping[str, str], file: Path | None
) -> KeySource:
    """Where the key of a provider comes from."""
    if table.api_key is not None:
        return KeySource(f"providers.{name}.api_key", file)
    if table.api_key_env is not None:
        return KeySource(f"${table.api_key_env}")
    if table.api_key_file is not None:
        return KeySource(f"the file {table.api_key_file}", table.api_key_file)
    if table.api_key_command is not None:
        # Its arguments could hold the key itself.
        return KeySource(f"the command `{Path(table.api_key_command[0]).name}`")
    variable = _own_variable(table, kind, environ)
    return KeySource(f"${variable}" if variable and environ.get(variable) else None)


def get_one(name: str, table: HttpProviderConfig, kind: str, environ: Mapping[str, str]) -> str:
    """How to give a provider a key."""
    variable = _own_variable(table, kind, environ)
    console = _console(table, kind, environ)
    where = f"Get a key at {console} and set" if console else "Set"
    how = f"{variable}, or providers.{name}.api_key_env" if variable else f"providers.{name}.api_key_env"
    return f"{where} {how} to the variable that holds it." if not variable else f"{where} {how}."


def replace_it(name: str, table: HttpProviderConfig, kind: str, source: KeySource, environ: Mapping[str, str]) -> str:
    """What to do about a key that was refused."""
    if source.name is None:
        return get_one(name, table, kind, environ)
    console = _console(table, kind, environ)
    where = f" a new one is made at {console}" if console else " ask whoever runs the server for one"
    return f"Put a valid key into {source.name};{where}."


def _own_variable(table: HttpProviderConfig, kind: str, environ: Mapping[str, str]) -> str | None:
    """The variable that is read where the table names no source; None: a server of the user's own, which has none."""
    return service_of(kind).key_variable_for(table, environ)


def _console(table: HttpProviderConfig, kind: str, environ: Mapping[str, str]) -> str | None:
    """Where a provider's users make their keys; None: it is a server of somebody's own."""
    if _own_variable(table, kind, environ) is None:
        return None
    return service_of(kind).keys_url


def read_by_others(source: KeySource) -> Finding | None:
    """Whether a file that holds a key can be read by other users of this machine."""
    if source.file is None or os.name != "posix":
        return None
    try:
        mode = source.file.stat().st_mode
    except OSError:
        return None
    if not mode & _OTHERS_MAY_READ:
        return None
    message = "it holds a key, and other users of this machine may read it"
    remedy = f"Run `chmod 600 '{source.file}'`."
    facts: dict[str, Fact] = {"mode": f"{stat.S_IMODE(mode):04o}"}
    return Finding("key_file", "configuration", str(source.file), "warning", message, remedy, facts)


State = Literal["reached", "not reached", "forbidden", "not asked"]
_MAX_CAUSES = 10
_MAX_SAID_CHARS = 300


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What is known of a provider once it was asked."""

    name: str
    kind: str
    state: State
    url: str | None = None
    served: Sequence[ServedModel] | None = None
    default: str | None = None
    version: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderCheck:
    """One provider, as it is looked at."""

    name: str
    kind: str
    table: HttpTable
    is_configured: bool
    providers: Providers
    reach: AllowedChecks
    environ: Mapping[str, str]
    config_file: Path | None
    clock: Clock
    source: KeySource = field(init=False)

    def __post_init__(self) -> None:
        source = key_source(self.name, self.table, kind=self.kind, environ=self.environ, file=self.config_file)
        object.__setattr__(self, "source", source)

    def load(self) -> None:
        """Imports what it takes to ask it, so that this counts against nobody."""
        try:
            provider: HttpProvider = self.providers.get(self.name)  # type: ignore[assignment]
            if self.reach.bars(self.name, provider.url, is_configured=self.is_configured) is None:
                load_official(self.kind)
        except Exception:  # noqa: BLE001 - whoever looks meets it again, and tells it
            return

    def look(self) -> ProviderState:
        """Asks it. Blocks for as long as it likes; whoever calls this waits no longer than they want to."""
        try:
            provider: HttpProvider = self.providers.get(self.name)  # type: ignore[assignment]
        except LlamaClientError as error:
            return self._ended("not reached", None, self._wrong(error))
        url = without_credentials(provider.url)
        barred = self.reach.bars(self.name, provider.url, is_configured=self.is_configured)
        if barred is not None:
            return self._barred(url, barred)
        try:
            provider.open()
        except LocalOnlyError as error:
            return self._barred(url, forbidden(error, provider.url, is_configured=self.is_configured))
        except LlamaClientError as error:
            return self._ended("not reached", url, self._key_missing(error))
        return self._asked(provider, url)

    def late(self, timeout_s: float) -> ProviderState:
        """What is said of it where it did not answer in time."""
        url = self.providers.url(self.name)
        why = f"it did not answer within {timeout_s:g} s"
        remedy = "Ask again with a longer --timeout; if that does not help, its key's command or its server hangs."
        return self._ended("not reached", url and without_credentials(url), self._reach("problem", why, remedy))

    def _asked(self, provider: HttpProvider, url: str) -> ProviderState:
        # With the HTTP library behind it, which not every configuration needs.
        from llama_client.providers.http.error_mapping import is_refused

        began = self.clock.monotonic()
        try:
            served = provider.served_models()
        except LlamaClientError as error:
            key = self._key_finding(error)
            state: State = "forbidden" if isinstance(error, LocalOnlyError) else "not reached"
            return self._ended(state, url, *key, self._unreached(error, url, is_refused=is_refused(error)))
        latency_ms = round((self.clock.monotonic() - began) * 1000, 1)
        default, version = None, None
        if self.kind == "ollama":
            default, version = self.providers.ollama_default(self.name), _version(provider)
        facts: dict[str, Fact] = {"latency_ms": latency_ms, "models": len(served), "url": url}
        models = "1 model" if len(served) == 1 else f"{len(served)} models"
        reached = self._reach("ok", f"reached at {url} in {latency_ms:g} ms; it serves {models}", None, facts)
        findings = (*self._key_finding(None), *self._file_finding(), reached)
        return ProviderState(
            self.name, self.kind, "reached", url, _cleaned(served, provider), default, version, findings
        )

    def _ended(self, state: State, url: str | None, *findings: Finding) -> ProviderState:
        return ProviderState(self.name, self.kind, state, url, findings=(*self._file_finding(), *findings))

    def _barred(self, url: str, barred: NotAllowed) -> ProviderState:
        state: State = "forbidden" if barred.rule == "local_only" else "not asked"
        facts: dict[str, Fact] = {"rule": barred.rule, "url": url}
        return self._ended(state, url, self._reach(barred.status, barred.message, barred.remedy, facts))

    def _reach(
        self, status: Status, message: str, remedy: str | None, facts: Mapping[str, Fact] | None = None
    ) -> Finding:
        return Finding("provider_reachable", self._section, self.name, status, message, remedy, facts or {})

    @property
    def _section(self) -> Section:
        return "local engines" if self.kind == "ollama" else "providers"

    def _file_finding(self) -> Iterator[Finding]:
        found = read_by_others(self.source)
        if found is not None:
            yield found

    def _key(self, status: Status, message: str, remedy: str | None = None) -> Finding:
        facts: dict[str, Fact] = {"source": self.source.name}
        return Finding("provider_key", self._section, self.name, status, message, remedy, facts)

    def _key_missing(self, error: LlamaClientError) -> Finding:
        key = error.key if isinstance(error, ConfigError) else None
        if isinstance(error, ConfigError) and not (key and ("api_key" in key or key.startswith("$"))):
            return self._wrong(error)
        if isinstance(error, AuthenticationError):
            return self._key(
                "problem", "it needs a key, and there is none", get_one(self.name, self.table, self.kind, self.environ)
            )
        message = str(error).removeprefix(f"{key}: ")
        return self._key("problem", message, replace_it(self.name, self.table, self.kind, self.source, self.environ))

    def _key_finding(self, error: LlamaClientError | None) -> Iterator[Finding]:
        """What is said of the key, once it was sent."""
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            code = f" ({error.http_status})" if error.http_status else ""
            sent = f"the key in {self.source.name}" if self.source.name else "a request without a key"
            what = "refused" if isinstance(error, AuthenticationError) else "does not allow"
            remedy = replace_it(self.name, self.table, self.kind, self.source, self.environ)
            yield self._key("problem", f"it {what} {sent}{code}", remedy)
        elif self.source.name is not None:
            taken = "" if error is None else "; whether it is right is not known"
            yield self._key("ok", f"present, from {self.source.name}{taken}")
        elif error is None and self.kind != "ollama":
            yield self._key("info", "none is set, and none was asked for")

    def _wrong(self, error: LlamaClientError) -> Finding:
        key = getattr(error, "key", None)
        remedy = f"Correct {key or f'providers.{self.name}'}." if isinstance(error, ConfigError) else None
        return self._reach("problem", str(error), remedy)

    def _unreached(self, error: LlamaClientError, url: str, *, is_refused: bool) -> Finding:
        if isinstance(error, LocalOnlyError):
            host = urlsplit(url).hostname or ""
            barred = forbidden(error, host, is_configured=self.is_configured)
            return self._reach(barred.status, barred.message, barred.remedy, {"rule": "local_only", "url": url})
        facts: dict[str, Fact] = {"url": url, "error": type(error).__name__}
        if isinstance(error, ProviderError):
            facts["http_status"] = error.http_status
        if isinstance(error, RateLimitError):
            return self._reach("warning", f"reached at {url}, and it allows no more for now: {error}", None, facts)
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            return self._reach("info", f"reached at {url}; it says no more without a valid key", None, facts)
        is_expected = self.kind == "ollama" and not self.is_configured and isinstance(error, APIConnectionError)
        status: Status = "info" if is_expected else "problem"
        remedy = None if is_expected else self._remedy(error, url)
        message = f"not reached at {url}: {_shortened(str(error))}"
        if is_refused:
            message = f"no Ollama is running at {url}" if self.kind == "ollama" else f"nobody listens at {url}"
        return self._reach(status, message, remedy, facts)

    def _remedy(self, error: LlamaClientError, url: str) -> str:
        where = f"providers.{self.name}.base_url"
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            return f"Name the certificate to trust in providers.{self.name}.ca_file, or in SSL_CERT_FILE."
        if isinstance(error, ModelNotFoundError | InvalidResponseError):
            return f"See whether {where} is right: the address of a compatible server usually ends in /v1."
        if self.kind == "ollama" and isinstance(error, APIConnectionError):
            return f"Start it with `ollama serve`, or correct {where} or OLLAMA_HOST."
        if isinstance(error, APITimeoutError | APIConnectionError):
            if self.kind == "openai" and self.table.base_url is not None:
                return f"Start the server, or correct {where}."
            return "See whether this machine is online, and whether a proxy is needed (HTTPS_PROXY)."
        return "The server itself fails: look at its logs or its status page, and try again later."


def _version(provider: HttpProvider) -> str | None:
    try:
        told = provider.look_up("api/version")
    except LlamaClientError:
        return None
    version = told.get("version") if isinstance(told, dict) else None
    return provider.cleaned(version)[:40] if isinstance(version, str) else None


def _cleaned(served: Sequence[ServedModel], provider: HttpProvider) -> list[ServedModel]:
    return [replace(model, id=provider.cleaned(model.id)) for model in served]


def _shortened(text: str) -> str:
    """What servers say may be a page."""
    return text if len(text) <= _MAX_SAID_CHARS else f"{text[:_MAX_SAID_CHARS]}…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
