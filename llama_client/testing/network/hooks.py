"""Where the interpreter and event loops tell of connections, datagrams and names before they happen."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from llama_client.testing.network.guard import guards
from llama_client.testing.network.judging import judge_address, judge_name, judge_reverse

_watching = threading.Lock()
_is_watched: set[str] = set()


def watch() -> None:
    """From now on the hook is asked; Python has no way to remove one."""
    with _watching:
        if not _is_watched:
            sys.addaudithook(_hook)
        for module, name, methods in _METHODS:
            # What is not imported is not used.
            if module not in _is_watched and module in sys.modules:
                _is_watched.add(module)
                owner = getattr(import_module(module), name)
                for method, judge in methods.items():
                    setattr(owner, method, _judged(getattr(owner, method), judge))


def _hook(event: str, values: tuple[Any, ...]) -> None:
    # Of all events of the interpreter: first what tells nearly all of them apart.
    if not guards or not event.startswith("socket."):
        return
    match event:
        case "socket.connect":
            judge_address("connect to", values[0].family, values[1])
        case "socket.sendto" | "socket.sendmsg":
            judge_address("send to", values[0].family, values[1])
        case "socket.getaddrinfo" | "socket.gethostbyname":
            judge_name(values[0])
        case "socket.gethostbyaddr":
            judge_reverse(values[0])
        case "socket.getnameinfo":
            judge_reverse(values[0][0])


def _judged(method: Callable[..., Any], judge: Callable[..., None]) -> Callable[..., Any]:
    @wraps(method)
    def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if guards:
            judge(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return asked


def _of_connect(connection: socket.socket, address: Any) -> None:
    judge_address("connect to", connection.family, address)


def _of_send(connection: socket.socket, *values: Any) -> None:
    judge_address("send to", connection.family, values[-1])


def _of_connection(_loop: object, _factory: object, host: Any = None, port: Any = None, **_more: object) -> None:
    if host is not None:
        judge_address("connect to", socket.AF_INET, (host, port))


def _of_datagrams(
    _loop: object, _factory: object, _local: object = None, remote_addr: Any = None, **_more: object
) -> None:
    if remote_addr is not None:
        judge_address("send to", socket.AF_INET, remote_addr)


def _of_lookup(_loop: object, host: Any, *_more: object, **_options: object) -> None:
    judge_name(host)


def _of_overlapped(_proactor: object, connection: socket.socket, address: Any) -> None:
    judge_address("connect to", connection.family, address)


def _of_overlapped_datagram(
    _proactor: object, connection: socket.socket, _data: object, _flags: int = 0, addr: Any = None
) -> None:
    judge_address("send to", connection.family, addr)


# Module, class, and methods that the interpreter's events tell of too late, or not at all.
_METHODS: tuple[tuple[str, str, dict[str, Callable[..., None]]], ...] = (
    # A name is looked up before the event.
    ("socket", "socket", {"connect": _of_connect, "connect_ex": _of_connect, "sendto": _of_send}),
    # Event loops that connect in C.
    (
        "uvloop",
        "Loop",
        {"create_connection": _of_connection, "create_datagram_endpoint": _of_datagrams, "getaddrinfo": _of_lookup},
    ),
    (
        "asyncio.windows_events",
        "IocpProactor",
        {"connect": _of_overlapped, "sendto": _of_overlapped_datagram},
    ),
)
