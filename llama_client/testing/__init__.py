"""A test kit for programs that use a chat SDK: this package's, or any other over HTTP."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.ledger import LedgerRow, ledger_rows, spent
    from llama_client.testing.network import NetworkAttempt, NetworkForbiddenError, NetworkGuard, no_network
    from llama_client.testing.seams import using

# Each by the module that has it, which is imported at its first use.
_PLACES = {
    "FakeClock": "clock",
    "LedgerRow": "ledger",
    "ledger_rows": "ledger",
    "spent": "ledger",
    "NetworkAttempt": "network",
    "NetworkForbiddenError": "network",
    "NetworkGuard": "network",
    "no_network": "network",
    "using": "seams",
}
__all__ = [
    "FakeClock",
    "LedgerRow",
    "NetworkAttempt",
    "NetworkForbiddenError",
    "NetworkGuard",
    "ledger_rows",
    "no_network",
    "spent",
    "using",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
