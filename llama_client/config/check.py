"""`config check`: all that is wrong with a configuration, and all that will not do what it looks like, at once.

Nothing is asked of the network, and no command is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_client.config.cloned import redirections
from llama_client.config.discovery import APP_NAME, FILE_NAME, find_config, is_same_file
from llama_client.config.lint_subject import Knowledge, Lint
from llama_client.config.lints import lints
from llama_client.config.problems import all_problems, nearest_path, paths_by_place
from llama_client.config.reading import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.schema import Config
from llama_client.config.sources import Found, Place, ValueSource
from llama_client.config.variables import KeyPath
from llama_client.errors import ConfigError

Severity = Literal["error", "warning", "note"]
_LINE_OF_TOML = re.compile(r"\(at line (\d+),")


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing that was found.

    Attributes:
        severity: `error`: it does not load, or what it says cannot work; `warning`: it loads, and something of it will
            not work here and now; `note`: what is worth knowing.
        key: The dotted key; empty: the whole.
        message: What is wrong, and what would be right.
        source: Where it stands; None: nobody wrote it down.
    """

    severity: Severity
    key: str
    message: str
    source: ValueSource | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that was found.

    Attributes:
        file: The file that was checked; None: there is none.
        findings: By their place.
        places: Where the file was looked for; empty: it was named.
    """

    file: Path | None
    findings: tuple[CheckFinding, ...]
    places: tuple[Place, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check_config(
    source: str | os.PathLike[str] | None,
    knowledge: Callable[[Config], Knowledge],
    *,
    environ: Mapping[str, str],
    working_folder: Path | None = None,
) -> CheckReport:
    """Checks a configuration.

    Args:
        source: The file; None: whichever is found, as by `load_config`.
        knowledge: What is known beside a configuration.
        environ: The environment.
        working_folder: Where to look; None: the process's own.
    """
    try:
        found = find_config(source, environ=environ, working_folder=working_folder)
    except ConfigError as error:
        return _unreadable(error)
    config, problems = all_problems(found.values, folder=found.document.folder)
    findings = [
        CheckFinding("error", problem.field, problem.what, _source(found, problem.path)) for problem in problems
    ]
    findings += _of_cloned(found, source, working_folder or Path())
    broken = {problem.path[:2] for problem in problems}
    places = paths_by_place(found.values)
    for lint in lints(config, found, knowledge(config), environ=environ, broken=broken):
        path, _ = nearest_path(lint.key, places)
        if not _is_said(lint, findings):
            findings.append(CheckFinding(lint.severity, lint.key, lint.message, _source(found, path)))
    ordered = sorted(findings, key=_in_order)
    return CheckReport(found.document.file, tuple(ordered), tuple(found.places))


def _is_said(lint: Lint, findings: list[CheckFinding]) -> bool:
    """Whether a key that is wrong anyway is found fault with once more."""
    return any(finding.severity == "error" and finding.key == lint.key for finding in findings)


def _unreadable(error: ConfigError) -> CheckReport:
    """What there is no checking of. Where it stands is said beside the message, so its beginning is cut off."""
    message, where = str(error), None
    if error.variable is not None:
        message = message.removeprefix(f"{error.variable}: ")
        where = ValueSource("environment", variable=error.variable)
    elif error.file is not None:
        message = message.removeprefix(str(error.file)).removeprefix(f" [tool.{APP_NAME}]").removeprefix(": ")
        where = ValueSource("file", file=error.file, line=_line_of_toml(message, error.file))
    if error.key is not None:
        message = message.removeprefix(f"{error.key}: ")
    return CheckReport(error.file, (CheckFinding("error", error.key or "", message, where),))


def _line_of_toml(message: str, path: Path) -> int | None:
    found = _LINE_OF_TOML.search(message)
    if found is not None:
        return int(found[1])
    if "(at end of document)" not in message:
        return None
    try:
        return text_of(read_regular_file(path, max_bytes=MAX_CONFIG_BYTES)).count("\n") + 1
    except (OSError, UnicodeDecodeError):  # gone since it was read
        return None


def _of_cloned(found: Found, source: str | os.PathLike[str] | None, folder: Path) -> Iterator[CheckFinding]:
    """What the rule for files that were only found refuses; of one that was named, what it would refuse."""
    places = paths_by_place(found.document.values)
    refused, is_named = list(found.redirections()), False
    if source is not None and is_same_file(found.document.file, folder / FILE_NAME):
        refused = list(redirections(found.document.values, found.document.folder, found.overrides.values))
        is_named = True
    for problem in refused:
        path, _ = nearest_path(problem.field, places)
        what = problem.what
        if is_named:
            what = f"works while the file is named (--config), and is refused where it is found: {what}"
        severity: Severity = "warning" if is_named else "error"
        yield CheckFinding(severity, problem.field, what, _source(found, path))


def _source(found: Found, path: KeyPath) -> ValueSource | None:
    """Where the value at a place, or the table that it would be in, comes from."""
    for length in range(len(path), 0, -1):
        source = found.source_of(path[:length])
        if source.kind != "default":
            return source
    return None if found.document.file is None else ValueSource("file", file=found.document.file)


def _in_order(finding: CheckFinding) -> tuple[bool, int, bool, str]:
    source = finding.source
    line = source.line if source is not None and source.line is not None else 0
    is_elsewhere = source is None or source.kind != "file"
    return is_elsewhere, line, finding.severity != "error", source.variable or "" if source is not None else ""
