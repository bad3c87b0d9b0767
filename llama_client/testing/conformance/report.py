"""What became of each case in each mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "does not apply"]
"""What became of a case."""


class ConformanceError(AssertionError):
    """A provider does not conform; the message has a sentence for each failure.

    Attributes:
        report: The whole report.
    """

    def __init__(self, report: ConformanceReport) -> None:
        failures = [str(each) for each in report.failures]
        super().__init__("\n".join([f"{report.provider} fails {len(failures)} of {report.ran} checks:", *failures]))
        self.report = report


@dataclass(frozen=True, slots=True)
class Result:
    """One case in one mode.

    Attributes:
        case: The case's name.
        mode: `call-sync`, `call-async`, `stream-sync` or `stream-async`.
        status: What became of it.
        told: What was expected and what came; or why the case does not apply.
        why: Why the case matters.
    """

    case: str
    mode: str
    status: Status
    told: str = ""
    why: str = ""

    def __str__(self) -> str:
        if self.status == "failed":
            return f"{self.case} ({self.mode}): {self.told}. {self.why}"
        return f"{self.case} ({self.mode}): {self.status}{self.told and f', since {self.told}'}"


@dataclass(frozen=True, slots=True)
class ConformanceReport:
    """The results of a provider.

    Attributes:
        provider: Its name.
        results: Each case in each mode.
    """

    provider: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """What the provider does not do."""
        return tuple(each for each in self.results if each.status == "failed")

    @property
    def ran(self) -> int:
        """How many checks ran."""
        return sum(each.status != "does not apply" for each in self.results)

    @property
    def is_conforming(self) -> bool:
        """Whether none failed."""
        return not self.failures

    def require(self) -> None:
        """Raises where there are failures.

        Raises:
            ConformanceError: Names all of them.
        """
        if self.failures:
            raise ConformanceError(self)

    @property
    def table(self) -> str:
        """A line for each case with what became of it in each mode, and the failures in sentences."""
        modes = list(dict.fromkeys(each.mode for each in self.results))
        marks = {"passed": "ok", "failed": "FAILED", "does not apply": "-"}
        by_case: dict[str, dict[str, str]] = {}
        for each in self.results:
            by_case.setdefault(each.case, {})[each.mode] = marks[each.status]
        width = max(map(len, by_case), default=4)
        lines = ["  ".join([f"{self.provider:<{width}}", *(f"{mode:<12}" for mode in modes)]).rstrip()]
        for name, told in by_case.items():
            lines.append("  ".join([f"{name:<{width}}", *(f"{told.get(mode, ''):<12}" for mode in modes)]).rstrip())
        return "\n".join([*lines, *map(str, self.failures)])
