"""A server for the package's own wire, without sockets: any bytes, in any pieces, sync and async."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from llama_client.clock import Clock
from llama_client.config.schema import Config, read_config
from llama_client.providers.gguf.store import ModelStore
from llama_client.providers.http import async_wire, sync_wire
from llama_client.providers.registry import Providers

KINDS = ("openai", "groq", "together", "ollama")


class _Socket(socket.socket):
    """Receives what the script says, then the end."""

    pieces: list[bytes]

    def recv(self, _size: int, _flags: int = 0, /) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def send(self, data: Any, _flags: int = 0, /) -> int:
        return len(data)


class _Transport(asyncio.Transport):
    """Hands over the script's pieces one a turn of the loop, once a request was written, then the end."""

    def __init__(self, protocol: Any, pieces: list[bytes]) -> None:
        super().__init__()
        self._protocol = protocol
        self._pieces = pieces
        self._is_paused = self._is_closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self._soon(self._hand_over)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._soon(self._hand_over)

    def abort(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._soon(self._protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self._is_closed

    def _hand_over(self) -> None:
        if self._is_paused or self._is_closed:
            return
        if self._pieces:
            self._protocol.data_received(self._pieces.pop(0))
            self._soon(self._hand_over)
        else:
            self._protocol.eof_received()
            self.abort()

    @staticmethod
    def _soon(call: Any, *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(call, *arguments)


class Server:
    """What servers answer next: `answers`, each as its pieces; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[Sequence[bytes]] = [()]

    def next(self) -> list[bytes]:
        return list(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


@contextmanager
def scripted() -> Iterator[Server]:
    """Each new connection of the package's own wire leads to the server."""
    server = Server()

    def connected(_self: object, _origin: object, _waits: object) -> socket.socket:
        made = _Socket()
        made.pieces = server.next()
        return made

    async def aconnected(_self: object, origin: Any, _waits: object) -> async_wire._LoopConnection:
        connection = async_wire._LoopConnection(origin, asyncio.get_running_loop())
        connection.connection_made(_Transport(connection, server.next()))
        return connection

    with (
        patch.object(sync_wire.SyncWire, "_connected", connected),
        patch.object(async_wire.AsyncWire, "_connected", aconnected),
    ):
        yield server


def configuration(key: str) -> Config:
    """A provider of each kind, by its kind's name, all at an address that nothing connects to."""
    tables: dict[str, Any] = {kind: {"base_url": "http://127.0.0.1:9/v1", "api_key": key} for kind in KINDS}
    return read_config({"providers": tables}, origin="fuzz")


def providers(key: str, *, environ: Mapping[str, str] | None = None) -> Providers:
    """The same, opened."""
    store = ModelStore(Path(os.devnull))
    # `created` of an answer would differ between two readings.
    clock = Clock(wall=lambda: 1_800_000_000.0)
    return Providers(configuration(key), store, clock, environ=environ or {})
