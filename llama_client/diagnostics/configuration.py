"""Checks which configuration is used, whether it loads, and what it forbids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.config.environment import CACHE_VARIABLE, CONFIG_VARIABLE, PREFIX
from llama_client.config.load import find_config
from llama_client.config.schema import Config
from llama_client.diagnostics.config_check import ConfigProblem, all_problems
from llama_client.diagnostics.finding import Fact, Finding
from llama_client.diagnostics.machine import DiagnosticsOptions, Environment
from llama_client.errors import ConfigError

if TYPE_CHECKING:
    from llama_client.config.effective import Found


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The configuration that the rest is looked at with."""

    config: Config
    is_right: bool = True
    is_known: bool = True
    wrong_tables: frozenset[str] = frozenset()
    is_default_wrong: bool = False
    file: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def read(wanted: DiagnosticsOptions, surroundings: Environment) -> LoadedConfig:
    """Finds and reads the configuration; a wrong one is a finding."""
    if isinstance(wanted.source, Config):
        return LoadedConfig(wanted.source)
    environ = surroundings.environ
    try:
        found = find_config(wanted.source, environ=environ, working_folder=surroundings.folder)
        config, problems = all_problems(found.values, folder=found.document.folder)
    except ConfigError as error:
        finding = _wrong("configuration", str(error), _remedy_unreadable(error), {"key": error.key})
        return LoadedConfig(Config(local_only=True), False, False, findings=(finding, *_variables(environ)))
    redirected = [ConfigProblem(problem.field, problem.what) for problem in found.redirections()]
    if redirected:
        # It would send keys elsewhere, so nothing is asked of anybody with it.
        config = Config(local_only=True)
    wrong = [*redirected, *problems]
    findings = (*_file(found, config, wrong), *_variables(environ), *_local_only(config, found))
    if not wrong:
        read_config = config.made_local_only(found.local_only_by) if config.local_only else config
        return LoadedConfig(read_config, file=found.document.file, values=found.values, findings=findings)
    fields = [problem.path or tuple(problem.field.split(".")) for problem in wrong]
    if any(path[:1] in ((), ("local_only",), ("privacy",), ("providers",)) and len(path) < 2 for path in fields):
        config = config.made_local_only("config")
    return LoadedConfig(
        config,
        is_right=False,
        is_known=not redirected,
        wrong_tables=frozenset(str(path[1]) for path in fields if path[:1] == ("providers",) and len(path) > 1),
        is_default_wrong=any(path[:1] == ("default_model",) for path in fields),
        file=found.document.file,
        values=found.values,
        findings=findings,
    )


def _file(found: Found, config: Config, wrong: Sequence[ConfigProblem]) -> list[Finding]:
    """The file, or each thing that is wrong with it."""
    file = found.document.file
    how = next((place.where for place in found.places if place.state == "taken"), "named" if file else "none")
    facts: dict[str, Fact] = {"path": None if file is None else str(file.absolute()), "found_at": how}
    subject = "configuration" if file is None else str(file)
    if wrong:
        return [
            _wrong(
                subject,
                problem.sentence,
                f"Correct {problem.field or 'it'}, then run `llama-client config check`.",
                {**facts, "key": problem.field},
            )
            for problem in wrong
        ]
    facts |= {"loads": True, "providers": len(config.providers), "routes": len(config.routes)}
    if file is None:
        message = "there is no file, and none is needed: everything has its default"
        remedy = "For settings of your own, run `llama-client config init`."
        return [Finding("config_file", "configuration", subject, "info", message, remedy, facts)]
    return [Finding("config_file", "configuration", subject, "ok", "read", facts=facts)]


def _wrong(subject: str, message: str, remedy: str, facts: Mapping[str, Fact]) -> Finding:
    return Finding("config_file", "configuration", subject, "problem", message, remedy, {**facts, "loads": False})


def _remedy_unreadable(error: ConfigError) -> str:
    if error.reason == "missing":
        return f"Name a file that is there, in --config or {CONFIG_VARIABLE}, or make one: `llama-client config init`."
    return "Correct it, then run `llama-client config check`."


def _variables(environ: Mapping[str, str]) -> list[Finding]:
    """The variables that change the configuration; by their names, since their values may be secret."""
    names = sorted(n for n in environ if n.startswith(PREFIX) and n not in (CONFIG_VARIABLE, CACHE_VARIABLE))
    if not names:
        return []
    verb = "changes" if len(names) == 1 else "change"
    message = f"{', '.join(names)} {verb} what the file says"
    return [Finding("config_variables", "configuration", "environment", "info", message, facts={"variables": names})]


def _local_only(config: Config, found: Found) -> list[Finding]:
    if config.local_only is not True or found.values.get("local_only") is not True:
        return []
    allowed = config.privacy.allow_hosts
    beyond = f" and {', '.join(allowed)} (privacy.allow_hosts)" if allowed else ""
    message = f"on, by {found.local_only_by}: nothing but this machine{beyond} is reached"
    facts: dict[str, Fact] = {"allow_hosts": list(allowed), "source": found.local_only_by}
    return [Finding("local_only", "configuration", "local_only", "ok", message, facts=facts)]
