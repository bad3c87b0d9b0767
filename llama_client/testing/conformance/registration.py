"""Makes a provider known to this process's clients without installing the package that adds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from llama_client.config.environment import PREFIX
from llama_client.providers import services
from llama_client.providers.services import SERVICES, Service


class _Beside:
    """What stands in for an entry point."""

    dist = None
    module = "a row that was given to the conformance suite"
    value = module

    def __init__(self, row: Service) -> None:
        self.name = row.name
        self._row = row

    def load(self) -> Service:
        return self._row


@contextmanager
def registered(row: Service) -> Iterator[str]:
    """Within it, clients know the row, as they know those of installed packages; gives its name.

    Args:
        row: The row.

    Raises:
        ValueError: It is another row than that of the built-in service of its name.
    """
    if SERVICES.get(row.name) is row or row.name == "gguf":
        with _no_settings():
            yield row.name
        return
    if row.name in SERVICES:
        raise ValueError(f"a built-in service is named {row.name!r}, and clients ask that: name the row otherwise")
    before = services._entry_points
    entries = {**before(), row.name: _Beside(replace(row))}
    services._entry_points = lambda: entries  # type: ignore[assignment]
    _forget()
    try:
        with _no_settings():
            yield row.name
    finally:
        services._entry_points = before
        _forget()


@contextmanager
def _no_settings() -> Iterator[None]:
    """Without the variables of the environment that configure clients: the suite's configuration is its own."""
    taken = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(PREFIX)}
    try:
        yield
    finally:
        os.environ.update(taken)


def _forget() -> None:
    for computed in (services.service_of, services.known_catalog, services.plugin_problems):
        computed.cache_clear()
