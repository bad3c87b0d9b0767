"""A test kit for programs that use a chat SDK: this package's, or any other over HTTP."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.testing.asgi import asgi_client
    from llama_client.testing.asked import AskedRequest
    from llama_client.testing.clock import FakeClock
    from llama_client.testing.completions import astream, completion, stream
    from llama_client.testing.replies import Reply, ScriptedCall, tool_call
    from llama_client.testing.script import FakeProvider
    from llama_client.testing.script_failures import Failing, fails
    from llama_client.testing.script_queue import Script, ScriptError, UnscriptedRequestError

# Each by the module that has it, which is imported at its first use.
_PLACES = {
    "AskedRequest": "asked",
    "FakeClock": "clock",
    "asgi_client": "asgi",
    "astream": "completions",
    "completion": "completions",
    "stream": "completions",
    "Failing": "script_failures",
    "Reply": "replies",
    "ScriptedCall": "replies",
    "fails": "script_failures",
    "tool_call": "replies",
    "FakeProvider": "script",
    "Script": "script_queue",
    "ScriptError": "script_queue",
    "UnscriptedRequestError": "script_queue",
}
__all__ = [
    "AskedRequest",
    "Failing",
    "FakeClock",
    "FakeProvider",
    "Reply",
    "Script",
    "ScriptError",
    "ScriptedCall",
    "UnscriptedRequestError",
    "asgi_client",
    "astream",
    "completion",
    "fails",
    "stream",
    "tool_call",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
