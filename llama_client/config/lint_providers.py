"""What is found of providers: keys that are not there, or where everybody sees them, and files that are not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from llama_client.config.clouds import CLOUDS
from llama_client.config.lint_subject import LISTED_KINDS, Lint, Subject
from llama_client.config.masking import is_variable_name
from llama_client.config.providers import GgufProvider, HttpProvider


def provider_lints(subject: Subject) -> Iterator[Lint]:
    """What is found."""
    yield from _keys(subject)
    yield from _files(subject)


def _keys(subject: Subject) -> Iterator[Lint]:
    providers = subject.config.providers
    for name, table in providers.items():
        if isinstance(table, HttpProvider) and not subject.is_broken(name):
            yield from _key(subject, name, table)
    for named in subject.names:
        if named.provider not in LISTED_KINDS or named.provider in providers:
            continue
        variable = CLOUDS[named.provider].key_variable
        if not subject.environ.get(variable):
            what = f"there is no key for {named.provider}: the variable {variable} is not set"
            yield Lint("warning", named.key, what)


def _key(subject: Subject, name: str, table: HttpProvider) -> Iterator[Lint]:
    where = f"providers.{name}"
    is_of_variable = subject.found.source_of(("providers", name, "api_key")).kind == "environment"
    if table.api_key is not None and not is_of_variable:
        better = "better the name of a variable (api_key_env), a file (api_key_file) or a command (api_key_command)"
        yield Lint("warning", f"{where}.api_key", f"whoever can read the configuration can read this key: {better}")
    if table.api_key_env is not None:
        if not is_variable_name(table.api_key_env, subject.environ):
            what = "looks like a key: here stands the name of the variable that holds it"
            yield Lint("warning", f"{where}.api_key_env", what)
        elif not subject.environ.get(table.api_key_env):
            yield Lint("warning", f"{where}.api_key_env", f"the variable {table.api_key_env} is not set")
    if table.api_key_command is not None and shutil.which(table.api_key_command[0]) is None:
        yield Lint("warning", f"{where}.api_key_command", "there is no such command on this machine")
    has_source = any((table.api_key, table.api_key_env, table.api_key_file, table.api_key_command))
    needs_one = table.kind in LISTED_KINDS or (table.kind == "openai" and table.base_url is None)
    if not needs_one or has_source:
        return
    variable = CLOUDS[table.kind].key_variable
    if not subject.environ.get(variable):
        what = f"there is no key: set the variable {variable}, or api_key_env, api_key_file or api_key_command"
        yield Lint("warning", where, what)


def _files(subject: Subject) -> Iterator[Lint]:
    for name, table in subject.config.providers.items():
        where = f"providers.{name}"
        files: list[tuple[str, Path | None]]
        if isinstance(table, GgufProvider):
            files = [("model_path", table.model_path), ("mmproj", table.mmproj)]
            files += [(f"lora[{number}].path", adapter.path) for number, adapter in enumerate(table.lora)]
        else:
            files = [("api_key_file", table.api_key_file), ("ca_file", table.ca_file)]
        for key, path in files:
            if path is not None and not path.is_file():
                yield Lint("error", f"{where}.{key}", f"there is no file {path}")
