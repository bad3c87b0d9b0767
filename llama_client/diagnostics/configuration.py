"""The doctor's findings on the configuration: which is used, whether it loads, and what it forbids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from llama_client.config.environment import CONFIG_VARIABLE, override_variables
from llama_client.diagnostics.config_check import CheckedConfig
from llama_client.diagnostics.finding import Fact, Finding, Status

# What the rules look up and the doctor tries: its own findings say more.
_CHECK_AGAIN = "then run `llama-client config check`."
_TRIED = {"default_model", "gguf_model", "price", "provider_key", "provider_reachable", "route", "target"}


def configuration_findings(checked: CheckedConfig, environ: Mapping[str, str]) -> Iterator[Finding]:
    if checked.found is None and checked.error is None:
        # A `Config` of the program's own.
        return
    yield from _file(checked)
    for finding in checked.findings:
        if finding.check not in {*_TRIED, "config_file"}:
            remedy = None if finding.status == "info" else f"Correct {finding.subject}, {_CHECK_AGAIN}"
            yield replace(finding, remedy=remedy)
    names = override_variables(environ)
    if names:
        message = f"{', '.join(names)} {'overrides' if len(names) == 1 else 'override'} the file"
        yield Finding("config_variables", "configuration", "environment", "info", message, facts={"variables": names})
    yield from _local_only(checked)


def _file(checked: CheckedConfig) -> Iterator[Finding]:
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
    yield Finding("config_file", "configuration", subject, status, message, init, facts)


def _local_only(checked: CheckedConfig) -> Iterator[Finding]:
    found, config = checked.found, checked.config
    if found is None or not config.local_only or found.values.get("local_only") is not True:
        return
    allowed = config.privacy.allow_hosts
    beyond = f" and {', '.join(allowed)} (privacy.allow_hosts)" if allowed else ""
    message = f"on, by {found.local_only_by}: no host but this machine{beyond} is reached"
    facts = {"allow_hosts": list(allowed), "source": found.local_only_by}
    yield Finding("local_only", "configuration", "local_only", "ok", message, facts=facts)
