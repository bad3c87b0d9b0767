"""Each provider in use: its key, whether it is reached and how fast, and the models that it serves.

It is asked for its models and nothing else: no completion, so nothing is charged.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from llama_client.config.masking import without_credentials
from llama_client.doctor.findings import Fact, Finding, Section, Status
from llama_client.doctor.keys import KeySource, get_one, key_source, read_by_others, replace_it
from llama_client.doctor.reach import Barred, Reach, forbidden
from llama_client.doctor.software import load_official
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

if TYPE_CHECKING:
    from llama_client.clock import Clock
    from llama_client.config.providers import HttpProvider as HttpTable
    from llama_client.providers.base import ServedModel
    from llama_client.providers.http.provider import HttpProvider
    from llama_client.providers.registry import Providers

State = Literal["reached", "not reached", "forbidden", "not asked"]
_MAX_CAUSES = 10
_MAX_SAID_CHARS = 300


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a provider once it was asked.

    Attributes:
        name: Its name in the configuration.
        kind: Its kind.
        state: Whether it was reached; `not asked`: nobody knows.
        url: Where it is, for people; None: in this process, or nowhere.
        served: What it serves; None: it did not say.
        default: Of an Ollama: the model that it would answer with where none is named.
        version: What it says of itself.
        findings: What was found.
    """

    name: str
    kind: str
    state: State
    url: str | None = None
    served: Sequence[ServedModel] | None = None
    default: str | None = None
    version: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """One provider, as it is looked at.

    Attributes:
        name: Its name.
        kind: Its kind.
        table: What the configuration says of it, or its defaults.
        is_configured: Whether the configuration says anything.
        providers: Who opens it.
        reach: Who may be asked.
        environ: The environment.
        config_file: The configuration's file.
        clock: The time.
    """

    name: str
    kind: str
    table: HttpTable
    is_configured: bool
    providers: Providers
    reach: Reach
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

    def look(self) -> View:
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

    def late(self, timeout_s: float) -> View:
        """What is said of it where it did not answer in time."""
        url = self.providers.url(self.name)
        why = f"it did not answer within {timeout_s:g} s"
        remedy = "Ask again with a longer --timeout; if that does not help, its key's command or its server hangs."
        return self._ended("not reached", url and without_credentials(url), self._reach("problem", why, remedy))

    def _asked(self, provider: HttpProvider, url: str) -> View:
        # With the HTTP library behind it, which not every configuration needs.
        from llama_client.providers.http.failures import is_refused

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
        return View(self.name, self.kind, "reached", url, _cleaned(served, provider), default, version, findings)

    def _ended(self, state: State, url: str | None, *findings: Finding) -> View:
        return View(self.name, self.kind, state, url, findings=(*self._file_finding(), *findings))

    def _barred(self, url: str, barred: Barred) -> View:
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
