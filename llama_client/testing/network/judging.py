"""Whether an address or a name is on this machine, or allowed; else it is refused."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from llama_client.testing.network.guard import (
    Address,
    NetworkAttempt,
    NetworkForbiddenError,
    NetworkGuard,
    guards,
    paused,
    plain,
)

# Sockets that never leave the machine, where this system has them.
_LOCAL_FAMILIES = frozenset(
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG", "AF_SYSTEM") if hasattr(socket, name)
)
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_NOT_THE_CALLER = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib") if sysconfig.get_path(name)
)
_HERE = f"{Path(__file__).parent}{os.sep}"


def judge_address(verb: str, family: int, address: Any) -> None:
    if family in _LOCAL_FAMILIES or address is None:
        return
    if family not in _INTERNET or not isinstance(address, tuple) or not address:
        _refuse(f"{verb} {address!r}", lambda _: False)
        return
    host, port = _text(address[0]), address[1] if len(address) > 1 else None
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    number = _number(host)
    if number is None:
        if not _is_here(host):
            _refuse(f"{verb} {place}", lambda guard: guard._allows_name(host))
    elif not (number.is_loopback or number.is_unspecified):
        _refuse(f"{verb} {place}", lambda guard: guard._allows_address(number))


def judge_name(host: Any) -> None:
    """A number is no name: nothing is asked for it, and connecting to it is judged."""
    name = _text(host)
    if _number(name) is None and not _is_here(name):
        _refuse(f"look up {name}", lambda guard: guard._allows_name(name))


def judge_reverse(host: Any) -> None:
    """The name of an address is asked of a server."""
    number = _number(_text(host))
    if number is None:
        judge_name(host)
    elif not (number.is_loopback or number.is_unspecified):
        _refuse(f"look up the name of {number}", lambda guard: guard._allows_address(number))


def _refuse(what: str, allows: Callable[[NetworkGuard], bool]) -> None:
    """Raises unless every block that is active allows it."""
    if getattr(paused, "now", False):
        return
    # The innermost tells of it, or forgives it.
    refusing = next((guard for guard in reversed(guards.copy()) if not allows(guard)), None)
    if refusing is not None:
        attempt = NetworkAttempt(what, _where(), threading.current_thread().name)
        refusing._remember(attempt)
        raise NetworkForbiddenError(f"no_network forbids to {attempt}")


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else "" if host is None else str(host)


def _is_here(name: str) -> bool:
    """No host at all is every address of this machine."""
    bare = plain(name)
    return bare in ("", "localhost") or bare.endswith(".localhost")


def _number(host: str) -> Address | None:
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # As resolvers read it: 127.1, 2130706433.
        try:
            return ipaddress.ip_address(socket.inet_aton(host)) if host[:1].isdigit() else None
        except (OSError, UnicodeError):
            return None
    return getattr(found, "ipv4_mapped", None) or found


def _where() -> str:
    """The innermost frame of the code under test; of the libraries that it uses where there is none."""
    frame: FrameType | None = sys._getframe(1)
    innermost = None
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_HERE) and not file.startswith("<"):
            place = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
            innermost = innermost or place
            if not file.startswith(_NOT_THE_CALLER):
                return place
        frame = frame.f_back
    return innermost or "unknown code"
