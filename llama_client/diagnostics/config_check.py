"""Checks a configuration, for `config check` and the doctor: what keeps it from loading, and what the rules find."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llama_client.config.effective import Found, ValueSource
from llama_client.config.environment import CONFIG_VARIABLE, KeyPath, override_variables
from llama_client.config.files import MAX_CONFIG_BYTES, read_regular_file, text_of
from llama_client.config.load import APP_NAME, FILE_NAME, Source, find_config, is_same_file
from llama_client.config.schema import Config, problem_at, with_kinds
from llama_client.config.untrusted_files import refusals
from llama_client.diagnostics.config_rules import Rules
from llama_client.diagnostics.finding import Fact, Finding, Status
from llama_client.diagnostics.machine import Environment
from llama_client.errors import ConfigError
from llama_client.validation import all_telling, place

# What keeps a configuration from loading.
PROBLEM = "config_file"
# Each round finds something new or is the last; more mistakes than this are enough to report.
_MAX_ROUNDS = 200
_LINE_OF_TOML = re.compile(r"\(at line (\d+),")


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    config: Config
    findings: tuple[Finding, ...] = ()
    found: Found | None = None
    # Why it cannot be read at all.
    error: ConfigError | None = None
    # False: unreadable or refused, so that it may say `local_only`.
    is_known: bool = True

    @property
    def file(self) -> Path | None:
        if self.error is not None:
            return self.error.file
        return None if self.found is None else self.found.document.file

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.check == PROBLEM]

    def is_wrong(self, *path: str) -> bool:
        return any(_path_of(problem)[: len(path)] == path for problem in self.problems)


def check_config(source: Source, environment: Environment) -> CheckedConfig:
    if isinstance(source, Config):
        return CheckedConfig(source)
    try:
        found = find_config(source, environ=environment.environ, working_folder=environment.folder)
    except ConfigError as error:
        return CheckedConfig(Config(local_only=True), (_unreadable(error),), error=error, is_known=False)
    config, problems = all_problems(found.values, folder=found.document.folder)
    refused = [_problem(problem.field, problem.what, found.document.values) for problem in found.refusals()]
    findings = [*problems, *refused, *_refused_where_found(source, found, environment.folder)]
    keys = {finding.subject for finding in findings if finding.status == "problem"}
    rules = Rules(config, found, environment, {problem.path[:2] for problem in problems})
    places = paths_by_place(found.values)
    findings += [
        replace(finding, path=nearest_path(finding.subject, places)[0])
        for finding in rules.findings()
        if finding.subject not in keys
    ]
    located = [replace(finding, source=_source(found, finding.path)) for finding in findings]
    return CheckedConfig(
        Config(local_only=True) if refused else _safe(config, found, problems),
        tuple(sorted(located, key=_in_order)),
        found,
        is_known=not refused,
    )


def _safe(config: Config, found: Found, problems: Sequence[Finding]) -> Config:
    """The configuration, made local only if it sets `local_only`, or if an invalid value might have."""
    tables = ((), ("local_only",), ("privacy",), ("providers",))
    if any(path[:1] in tables and len(path) < 2 for path in map(_path_of, problems)):
        return config.made_local_only("config")
    return config.made_local_only(found.local_only_by) if config.local_only else config


def _path_of(problem: Finding) -> KeyPath:
    return problem.path or tuple(problem.subject.split("."))


def all_problems(values: dict[str, Any], *, folder: Path | None = None) -> tuple[Config, list[Finding]]:
    """Everything that is wrong with a configuration's values, and the configuration without it.

    Example:
        >>> _, found = all_problems({"local_only": "yes", "providers": {"gguf": {"n_cxt": 1}}})
        >>> for problem in found:
        ...     print(problem.subject, "-", problem.message)
        local_only - must be true or false, got 'yes'
        providers.gguf.n_cxt - unknown name; did you mean 'n_ctx'?
    """
    checked, kinds = with_kinds(values)
    found = [_problem(kind.field, kind.what, values) for kind in kinds]
    removed: set[KeyPath] = set()
    # What is wrong is removed and the rest validated again, as some rules apply only where all else is right.
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
            # A value that was removed is not missing, and its list not too short.
            was_there = detail["type"] == "missing" and (*path, rest.removeprefix(".")) in removed
            was_longer = detail["type"] == "too_short" and any(gone[: len(path)] == path for gone in removed)
            if detail in telling and not was_there and not was_longer:
                found.append(_found(place(path) + rest, problem.what, path))
            removed |= {path} if path else set()
        if len(removed) == before:
            break
    return Config(), list(dict.fromkeys(found))


def _problem(key: str, message: str, values: object) -> Finding:
    return _found(key, message, nearest_path(key, paths_by_place(values))[0])


def _found(key: str, message: str, path: KeyPath) -> Finding:
    return Finding(PROBLEM, "configuration", key, "problem", message, path=path)


def nearest_path(key: str, places: Mapping[str, KeyPath]) -> tuple[KeyPath, str]:
    """The path of a dotted key, or of the nearest table above it, and the rest of the key below that."""
    above = key
    while above not in places and above:
        above = above[: max(above.rfind("."), above.rfind("["), 0)]
    return places.get(above, ()), key.removeprefix(above) if above else key


def paths_by_place(values: object) -> dict[str, KeyPath]:
    places: dict[str, KeyPath] = {}
    _without(values, frozenset(), (), (), places)
    return places


def _without(value: Any, removed: Set[KeyPath], here: KeyPath, now: KeyPath, originals: dict[str, KeyPath]) -> Any:
    """The value without what is removed; adds to `originals` the path that each part had before, by its key now."""
    originals[place(now)] = here
    match value:
        case Mapping():
            return {
                name: _without(below, removed, (*here, name), (*now, str(name)), originals)
                for name, below in value.items()
                if (*here, name) not in removed
            }
        case list() | tuple():
            left = [(number, item) for number, item in enumerate(value) if (*here, number) not in removed]
            return [
                _without(item, removed, (*here, number), (*now, number_now), originals)
                for number_now, (number, item) in enumerate(left)
            ]
        case _:
            return value


def _unreadable(error: ConfigError) -> Finding:
    """Why nothing can be checked; without the place at the beginning of the message, which is the source."""
    message, source = str(error), None
    if error.variable is not None:
        message = message.removeprefix(f"{error.variable}: ")
        source = ValueSource("environment", variable=error.variable)
    elif error.file is not None:
        message = message.removeprefix(str(error.file)).removeprefix(f" [tool.{APP_NAME}]").removeprefix(": ")
        source = ValueSource("file", file=error.file, line=_line_of_toml(message, error.file))
    if error.key is not None:
        message = message.removeprefix(f"{error.key}: ")
    return Finding(PROBLEM, "configuration", error.key or "", "problem", message, source=source)


def _line_of_toml(message: str, path: Path) -> int | None:
    found = _LINE_OF_TOML.search(message)
    if found is not None:
        return int(found[1])
    if "(at end of document)" in message:
        with suppress(OSError, UnicodeDecodeError):  # gone since it was read
            return text_of(read_regular_file(path, max_bytes=MAX_CONFIG_BYTES)).count("\n") + 1
    return None


def _refused_where_found(source: Source, found: Found, folder: Path) -> Iterator[Finding]:
    """What works in a file that is named, and is refused in the same file where it is found."""
    if source is None or not is_same_file(found.document.file, folder / FILE_NAME):
        return
    values = found.document.values
    for problem in refusals(values, found.document.folder, found.overrides.values):
        message = f"works while the file is named (--config), and is refused where it is found: {problem.what}"
        yield replace(_problem(problem.field, message, values), check="config_value", status="warning")


def _source(found: Found, path: KeyPath) -> ValueSource | None:
    """Where the value at a path, or the table that it would be in, comes from."""
    sources = (found.source_of(path[:length]) for length in range(len(path), 0, -1))
    file = ValueSource("file", file=found.document.file) if found.document.file else None
    return next((source for source in sources if source.kind != "default"), file)


def _in_order(finding: Finding) -> tuple[bool, int, bool, str]:
    source = finding.source or ValueSource("default")
    return source.kind != "file", source.line or 0, finding.status != "problem", source.variable or ""


_CHECK_AGAIN = "then run `llama-client config check`."
# What the rules look up and the doctor tries: its own findings say more.
_TRIED = {"default_model", "gguf_model", "price", "provider_key", "provider_reachable", "route", "target"}


def configuration_findings(checked: CheckedConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    if checked.found is None and checked.error is None:
        # A `Config` of the program's own.
        return
    yield from _of_file(checked)
    for finding in checked.findings:
        if finding.check not in {*_TRIED, PROBLEM}:
            remedy = None if finding.status == "info" else f"Correct {finding.subject}, {_CHECK_AGAIN}"
            yield replace(finding, remedy=remedy)
    names = override_variables(environ)
    if names:
        message = f"{', '.join(names)} {'overrides' if len(names) == 1 else 'override'} the file"
        yield Finding("config_variables", "configuration", "environment", "info", message, facts={"variables": names})
    yield from _local_only(checked)


def _of_file(checked: CheckedConfig) -> Iterator[Finding]:
    file, error, found = checked.file, checked.error, checked.found
    subject = "configuration" if file is None or found is None else str(file)
    facts: dict[str, Fact] = {}
    if found is not None:
        place = next((place.where for place in found.places if place.state == "taken"), "named" if file else "none")
        facts = {"path": None if file is None else str(file.absolute()), "found_at": place}
    for problem in checked.problems:
        message = f"{problem.subject}: {problem.message}" if problem.subject else problem.message
        remedy = f"Correct {problem.subject or 'it'}, {_CHECK_AGAIN}"
        if error is not None:
            message = str(error)
            if error.reason == "missing":
                remedy = f"Name an existing file in --config or {CONFIG_VARIABLE}, or run `llama-client config init`."
        key = {"key": problem.subject or None, "loads": False}
        yield replace(problem, subject=subject, message=message, remedy=remedy, facts={**facts, **key})
    if checked.problems:
        return
    facts |= {"loads": True, "providers": len(checked.config.providers), "routes": len(checked.config.routes)}
    status: Status = "info" if file is None else "ok"
    message = "no file found; every key has its default" if file is None else "loaded"
    init = "For settings of your own, run `llama-client config init`." if file is None else None
    yield Finding(PROBLEM, "configuration", subject, status, message, init, facts)


def _local_only(checked: CheckedConfig) -> Iterator[Finding]:
    found, config = checked.found, checked.config
    if found is None or not config.local_only or found.values.get("local_only") is not True:
        return
    allowed = config.privacy.allow_hosts
    beyond = f" and {', '.join(allowed)} (privacy.allow_hosts)" if allowed else ""
    message = f"on, by {found.local_only_by}: no host but this machine{beyond} is reached"
    facts = {"allow_hosts": list(allowed), "source": found.local_only_by}
    yield Finding("local_only", "configuration", "local_only", "ok", message, facts=facts)
