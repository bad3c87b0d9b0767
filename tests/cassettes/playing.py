"""Records calls to a server on loopback, and asks the same again without a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_client.testing.cassettes import Cassette, cassette
from tests.routing.asking import ask_all

# They differ from call to call, or depend on the machine.
_OWN = frozenset(("request_id", "timing", "latency_s", "ttft_s", "waited_s"))


@contextmanager
def no_sockets() -> Iterator[None]:
    """Nothing connects within it."""
    connect = socket.socket.connect

    def refused(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a replay tried to reach {address}")

    socket.socket.connect = refused  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


def plain(value: Any) -> Any:
    """What is equal in a recording and its replay."""
    if isinstance(value, Exception):
        attempts = [plain(each.model_dump()) for each in getattr(value, "attempts", ())]
        fields = {name: getattr(value, name, None) for name in ("http_status", "body", "retry_after_s", "retryable")}
        return type(value).__name__, str(value), fields, plain(type(value.__cause__).__name__), attempts
    if hasattr(value, "model_dump"):
        return plain(value.model_dump()) | {"raw": getattr(value, "raw", None)}
    if isinstance(value, dict):
        return {name: plain(below) for name, below in value.items() if name not in _OWN}
    if isinstance(value, str) and value.startswith("req_"):
        # Ours, where a server has none.
        return "req_"
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def both(
    path: Path, configuration: dict[str, Any], mode: str, calls: int = 1, **params: Any
) -> tuple[list[Any], list[Any], Cassette]:
    """The outcomes of some calls as recorded, and as replayed."""
    with cassette(path, "record"):
        recorded = ask_all(configuration, mode, calls, **params)
    with no_sockets(), cassette(path) as tape:
        replayed = ask_all(configuration, mode, calls, **params)
    return [plain(each) for each in recorded], [plain(each) for each in replayed], tape
