"""Findings: what checks have found, as plain data for terminals and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from llama_client.config.effective import ValueSource
from llama_client.config.environment import KeyPath

Status = Literal["ok", "info", "warning", "problem", "skipped"]
# Causes before their consequences.
Section = Literal["configuration", "providers", "local engines", "models", "money", "machine"]
STATUSES: tuple[Status, ...] = get_args(Status)
SECTIONS: tuple[Section, ...] = get_args(Section)
Fact = str | int | float | bool | None | Sequence[str]
Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    section: Section
    # Of a finding in the configuration: the key.
    subject: str
    status: Status
    message: str
    remedy: str | None = None
    facts: Facts = field(default_factory=dict, hash=False)
    # In the configuration: where the value is, in its tables and in its file.
    path: KeyPath = ()
    source: ValueSource | None = None

    def redacted(self, redact: Callable[[str], str]) -> Finding:
        """The same for a report: with every text redacted, and without its place in the configuration."""

        def changed(fact: Fact) -> Fact:
            if isinstance(fact, str):
                return redact(fact)
            return [redact(each) for each in fact] if isinstance(fact, Sequence) else fact

        return replace(
            self,
            subject=redact(self.subject),
            message=redact(self.message),
            remedy=None if self.remedy is None else redact(self.remedy),
            facts={name: changed(fact) for name, fact in self.facts.items()},
            path=(),
            source=None,
        )

    def as_dict(self) -> dict[str, Any]:
        shown = ("check", "section", "subject", "status", "message", "remedy", "facts")
        return {name: getattr(self, name) for name in shown}


@dataclass(frozen=True, slots=True)
class DiagnosticsReport:
    findings: Sequence[Finding]
    is_configured: bool = True

    @property
    def status(self) -> Status:
        found = {finding.status for finding in self.findings}
        return "problem" if "problem" in found else "warning" if "warning" in found else "ok"

    @property
    def first(self) -> Finding | None:
        """The first to act on: a problem before a warning, one with a remedy before one without."""
        wrong = [finding for finding in self.findings if finding.status in ("problem", "warning")]
        return min(wrong, key=lambda finding: (finding.status != "problem", finding.remedy is None), default=None)

    @property
    def counts(self) -> dict[str, int]:
        counted = Counter(finding.status for finding in self.findings)
        return {status: counted[status] for status in STATUSES}

    def summary(self) -> str:
        """The number of problems and warnings, and what to do first.

        Examples:
            >>> DiagnosticsReport([]).summary()
                    'Nothing to do: no problem was found.'
            >>> disk = Finding("disk", "machine", "/", "warning", "it is nearly full", "Make room.")
            >>> DiagnosticsReport([disk]).summary()
                    '1 warning. Make room.'
        """
        first = self.first
        if first is None:
            return "Nothing to do: no problem was found."
        numbers = [(self.counts[status], status) for status in ("problem", "warning")]
        counted = ", ".join(f"{count} {status}{'s' * (count != 1)}" for count, status in numbers if count)
        has_more = sum(1 for finding in self.findings if finding.remedy) > 1
        return f"{counted}. {'First: ' * has_more}{first.remedy or f'{first.subject}: {first.message}'}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "summary": self.summary(),
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
        }
