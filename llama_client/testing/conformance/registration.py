"""Makes a provider known to this process's clients without installing the package that adds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

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
        row: The row. The name of a built-in service stands for that service.
    """
    if SERVICES.get(row.name) is row or row.name == "gguf":
        yield row.name
        return
    before = services._entry_points
    entries = {**before(), row.name: _Beside(replace(row))}
    services._entry_points = lambda: entries  # type: ignore[assignment]
    _forget()
    try:
        yield row.name
    finally:
        services._entry_points = before
        _forget()


def _forget() -> None:
    for computed in (services.service_of, services.known_catalog, services.plugin_problems):
        computed.cache_clear()
