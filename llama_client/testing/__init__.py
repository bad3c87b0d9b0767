"""A test kit for programs that use a chat SDK: this package's, or any other over HTTP."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.testing.asgi import asgi_client
    from llama_client.testing.cassettes import Cassette, CassetteError, UnrecordedRequestError, recording, replaying
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.faults import FAULTS, Fault, FaultReport, FaultRequest, FaultServer, fault
    from llama_client.testing.faults.batches import BatchPlay, BatchReport, BatchServer
    from llama_client.testing.ledger import LedgerRow, ledger_rows, spent
    from llama_client.testing.network import NetworkAttempt, NetworkForbiddenError, NetworkGuard, no_network
    from llama_client.testing.script.asked import AskedRequest
    from llama_client.testing.script.completions import astream, completion, stream
    from llama_client.testing.script.failures import Failing, fails
    from llama_client.testing.script.fake_provider import FakeProvider
    from llama_client.testing.script.replies import Reply, ScriptedCall, tool_call
    from llama_client.testing.script.script import Script, ScriptError, UnscriptedRequestError
    from llama_client.testing.seams import using

# Names by the module that has them, which is imported at their first use.
_PLACES = {
    "asgi": ("asgi_client",),
    "cassettes": ("Cassette", "CassetteError", "UnrecordedRequestError", "recording", "replaying"),
    "clock": ("FakeClock",),
    "faults.batches": ("BatchPlay", "BatchReport", "BatchServer"),
    "faults": ("FAULTS", "Fault", "FaultReport", "FaultRequest", "FaultServer", "fault"),
    "ledger": ("LedgerRow", "ledger_rows", "spent"),
    "network": ("NetworkAttempt", "NetworkForbiddenError", "NetworkGuard", "no_network"),
    "script.asked": ("AskedRequest",),
    "script.completions": ("astream", "completion", "stream"),
    "script.failures": ("Failing", "fails"),
    "script.fake_provider": ("FakeProvider",),
    "script.replies": ("Reply", "ScriptedCall", "tool_call"),
    "script.script": ("Script", "ScriptError", "UnscriptedRequestError"),
    "seams": ("using",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}
__all__ = [
    "FAULTS",
    "AskedRequest",
    "BatchPlay",
    "BatchReport",
    "BatchServer",
    "Cassette",
    "CassetteError",
    "Failing",
    "FakeClock",
    "FakeProvider",
    "Fault",
    "FaultReport",
    "FaultRequest",
    "FaultServer",
    "LedgerRow",
    "NetworkAttempt",
    "NetworkForbiddenError",
    "NetworkGuard",
    "Reply",
    "Script",
    "ScriptError",
    "ScriptedCall",
    "UnrecordedRequestError",
    "UnscriptedRequestError",
    "asgi_client",
    "astream",
    "completion",
    "fails",
    "fault",
    "ledger_rows",
    "no_network",
    "recording",
    "replaying",
    "spent",
    "stream",
    "tool_call",
    "using",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
