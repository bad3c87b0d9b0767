"""Findings: plain data, the same for people and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from llama_client.errors import LocalOnlyError
from llama_client.local_only import is_this_machine

if TYPE_CHECKING:
    from llama_client.local_only import ConnectionGuard


Status = Literal["ok", "info", "warning", "problem", "skipped"]
Section = Literal["configuration", "providers", "local engines", "models", "money", "machine"]
STATUSES: tuple[Status, ...] = ("ok", "info", "warning", "problem", "skipped")
# Causes before what follows from them.
SECTIONS: tuple[Section, ...] = ("configuration", "providers", "local engines", "models", "money", "machine")
Fact = str | int | float | bool | None | Sequence[str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    section: Section
    subject: str
    status: Status
    message: str
    remedy: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def rewritten(self, change: Callable[[str], str]) -> Finding:
        """The same with every text of it changed."""
        return replace(
            self,
            subject=change(self.subject),
            message=change(self.message),
            remedy=None if self.remedy is None else change(self.remedy),
            facts={name: _rewritten(fact, change) for name, fact in self.facts.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "check": self.check,
            "section": self.section,
            "subject": self.subject,
            "status": self.status,
            "message": self.message,
            "remedy": self.remedy,
            "facts": {name: _plain(fact) for name, fact in self.facts.items()},
        }


@dataclass(frozen=True, slots=True)
class DiagnosticsReport:
    """All that was found."""

    findings: Sequence[Finding]
    is_configured: bool = True

    @property
    def status(self) -> Status:
        """The worst of all."""
        found = {finding.status for finding in self.findings}
        return "problem" if "problem" in found else "warning" if "warning" in found else "ok"

    @property
    def first(self) -> Finding | None:
        """What to do something about first: a problem before a warning, in the order of the sections; None: nothing."""
        for status in ("problem", "warning"):
            wrong = [finding for finding in self.findings if finding.status == status]
            if wrong:
                return next((finding for finding in wrong if finding.remedy is not None), wrong[0])
        return None

    @property
    def counts(self) -> dict[str, int]:
        """How many findings have each status."""
        counted = Counter(finding.status for finding in self.findings)
        return {status: counted[status] for status in STATUSES}

    def summary(self) -> str:
        """One sentence on how it stands, and what to do first.

        Examples:
            >>> DiagnosticsReport([]).summary()
            'Nothing to do: all that was looked at is well.'
            >>> full = Finding("disk", "machine", "/", "warning", "it is nearly full", "Make room.")
            >>> DiagnosticsReport([full]).summary()
            '1 warning. Make room.'
        """
        counts = self.counts
        told = [
            f"{counts[status]} {status}{'s' * (counts[status] != 1)}"
            for status in ("problem", "warning")
            if counts[status]
        ]
        first = self.first
        if first is None:
            return "Nothing to do: all that was looked at is well."
        to_do = first.remedy or f"{first.subject}: {first.message}"
        return f"{', '.join(told)}. {'First: ' if sum(1 for f in self.findings if f.remedy) > 1 else ''}{to_do}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "status": self.status,
            "summary": self.summary(),
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Each once, by section; within one as they came."""
    once = [finding for place, finding in enumerate(findings) if finding not in findings[:place]]
    return sorted(once, key=lambda finding: SECTIONS.index(finding.section))


def _rewritten(fact: Fact, change: Callable[[str], str]) -> Fact:
    if isinstance(fact, str):
        return change(fact)
    if isinstance(fact, Sequence):
        return [change(each) for each in fact]
    return fact


def _plain(fact: Fact) -> Any:
    return list(fact) if isinstance(fact, Sequence) and not isinstance(fact, str) else fact


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """Why somebody is not asked."""

    status: Status
    message: str
    remedy: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class AllowedChecks:
    """What may be asked."""

    guard: ConnectionGuard
    offline: bool
    is_known: bool
    wrong_tables: frozenset[str] = frozenset()

    def bars(self, name: str, url: str, *, is_configured: bool) -> NotAllowed | None:
        """Why a provider is not asked; None: it is. Nobody is asked for that either."""
        host = urlsplit(url).hostname or ""
        if name in self.wrong_tables:
            return NotAllowed("skipped", "not asked: its table in the configuration is wrong", None, "configuration")
        if is_this_machine(host):
            return None
        if not self.is_known:
            why = "not asked: the configuration cannot be used, and it may say local_only"
            return NotAllowed("skipped", why, None, "configuration")
        try:
            self.guard.require_allowed(host)
        except LocalOnlyError as error:
            return forbidden(error, host, is_configured=is_configured)
        if self.offline:
            return NotAllowed("skipped", "not asked: --offline", None, "offline")
        return None


def forbidden(error: LocalOnlyError, host: str, *, is_configured: bool) -> NotAllowed:
    """`local_only` forbids it, which is as it should be where nobody configured it."""
    remedies = {
        "connection": f'Add "{host}" to privacy.allow_hosts if it may be reached, or remove its table.',
        "proxy": "Remove its proxy, or its table.",
        "key_command": "Read its key from api_key_file or api_key_env.",
    }
    remedy = remedies.get(error.rule, "Remove its table, or switch local_only off.")
    status: Status = "warning" if is_configured else "info"
    return NotAllowed(status, f"never asked: {error}", remedy if is_configured else None, "local_only")
