"""`config check`: every problem of a configuration, and every setting without effect."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from llama_client.config.effective import ConfigLocation, Found, ValueSource
from llama_client.config.environment import KeyPath
from llama_client.config.files import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.load import APP_NAME, FILE_NAME, find_config, is_same_file
from llama_client.config.schema import Config, problem_at, with_kinds
from llama_client.config.untrusted_files import redirections
from llama_client.diagnostics.config_rules import CheckFacts, Lint, lints
from llama_client.errors import ConfigError
from llama_client.validation import all_telling, place

# Each round finds something new or is the last; who has made more mistakes than this has enough to do.
_MAX_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong."""

    field: str
    what: str
    path: KeyPath = ()

    @property
    def sentence(self) -> str:
        """Both as one."""
        return f"{self.field}: {self.what}" if self.field else self.what


def all_problems(values: dict[str, Any], *, folder: Path | None = None) -> tuple[Config, list[ConfigProblem]]:
    """Checks a configuration's values and tells of everything that is wrong.

    What is wrong is left out and the rest checked again, since some rules are only looked at where all else is right.

    Example:
        >>> _, found = all_problems({"local_only": "yes", "providers": {"gguf": {"n_cxt": 1}}})
        >>> for problem in found:
        ...     print(problem.field, "-", problem.what)
        local_only - must be true or false, got 'yes'
        providers.gguf.n_cxt - unknown name; did you mean 'n_ctx'?
    """
    checked, kinds = with_kinds(values)
    places = paths_by_place(values)
    found = []
    for kind in kinds:
        path, _ = nearest_path(kind.field, places)
        found.append(ConfigProblem(kind.field, kind.what, path))
    removed: set[KeyPath] = set()
    for _ in range(_MAX_ROUNDS):
        originals: dict[str, KeyPath] = {}
        left = _without(checked, removed, (), (), originals)
        try:
            return Config.model_validate(left, context={"folder": folder}), list(dict.fromkeys(found))
        except ValidationError as error:
            details = error.errors(include_url=False)
        telling, before = all_telling(details), len(removed)
        for detail in details:
            problem = problem_at(detail)
            path, rest = nearest_path(problem.field, originals)
            # What was there and wrong is not missing.
            was_there = detail["type"] == "missing" and (*path, rest.removeprefix(".")) in removed
            if detail in telling and not was_there:
                found.append(ConfigProblem(place(path) + rest, problem.what, path))
            removed |= {path} if path else set()
        if len(removed) == before:
            break
    return Config(), list(dict.fromkeys(found))


def nearest_path(field: str, places: Mapping[str, KeyPath]) -> tuple[KeyPath, str]:
    """The place of a dotted key, and what of the key is beyond it, where it is not there itself."""
    above = field
    while above not in places and above:
        above = above[: max(above.rfind("."), above.rfind("["), 0)]
    return places.get(above, ()), field.removeprefix(above) if above else field


def paths_by_place(values: object) -> dict[str, KeyPath]:
    """Where everything is, by its dotted key."""
    places: dict[str, KeyPath] = {}
    _without(values, frozenset(), (), (), places)
    return places


def _without(
    value: Any, removed: set[KeyPath] | frozenset[KeyPath], here: KeyPath, now: KeyPath, originals: dict[str, KeyPath]
) -> Any:
    """The value without what is removed; notes where each part of it stood before that."""
    originals[place(now)] = here
    match value:
        case Mapping():
            kept = {name: below for name, below in value.items() if (*here, name) not in removed}
            return {
                name: _without(below, removed, (*here, name), (*now, str(name)), originals)
                for name, below in kept.items()
                if not _is_emptied(below, (*here, name), removed)
            }
        case list() | tuple():
            left = [(number, item) for number, item in enumerate(value) if (*here, number) not in removed]
            return [
                _without(item, removed, (*here, number), (*now, place_now), originals)
                for place_now, (number, item) in enumerate(left)
            ]
        case _:
            return value


def _is_emptied(value: object, here: KeyPath, removed: set[KeyPath] | frozenset[KeyPath]) -> bool:
    """Whether nothing is left of a list, or of a route without its targets: that is no fault of its own."""
    match value:
        case Mapping() if len(here) == 2 and here[0] == "routes" and "targets" in value:
            targets = (*here, "targets")
            return targets in removed or _is_emptied(value["targets"], targets, removed)
        case Sequence() if not isinstance(value, str):
            return bool(value) and all((*here, number) in removed for number in range(len(value)))
        case _:
            return False


Severity = Literal["error", "warning", "note"]
_LINE_OF_TOML = re.compile(r"\(at line (\d+),")


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing that was found."""

    severity: Severity
    key: str
    message: str
    source: ValueSource | None


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that was found."""

    file: Path | None
    findings: tuple[CheckFinding, ...]
    places: tuple[ConfigLocation, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check_config(
    source: str | os.PathLike[str] | None,
    knowledge: Callable[[Config], CheckFacts],
    *,
    environ: Mapping[str, str],
    working_folder: Path | None = None,
) -> CheckReport:
    """Checks a configuration."""
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
