"""What a block without a network forbids, allows and remembers."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

# Of more attempts than this the rest is forgotten.
_MAX_ATTEMPTS = 100
_MAX_SHOWN = 10
# Of a host: no scheme, port or path.
_NAME = re.compile(r"[^\s:/]+")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NetworkForbiddenError(OSError):
    """Something tried to leave this machine within `no_network`."""


@dataclass(frozen=True, slots=True)
class NetworkAttempt:
    """Something that was refused.

    Attributes:
        what: Such as `connect to 192.0.2.1:443` or `look up api.example.com`.
        where: The place in the code: file, line and function.
        thread: The name of its thread.
    """

    what: str
    where: str
    thread: str

    def __str__(self) -> str:
        return f"{self.what}, from {self.where} (thread {self.thread})"


class NetworkGuard:
    """What `no_network` gives.

    Attributes:
        attempts: What was refused so far, in order. A test that expects attempts empties the list, and its end then
            raises nothing.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self.attempts: list[NetworkAttempt] = []
        self._names: set[str] = set()
        self._networks: list[_Network] = []
        if isinstance(allow, str | bytes):
            raise TypeError(f"allow: must be a list of hosts, got {allow!r}; say [{allow!r}]")
        for host in allow:
            if not isinstance(host, str):
                raise TypeError(f"allow: must be a list of str, got {host!r} in it")
            try:
                self._networks.append(ipaddress.ip_network(host, strict=False))
            except ValueError:
                if not _NAME.fullmatch(host):
                    raise ValueError(
                        "allow: each must be a host name, an address, or a network such as 10.0.0.0/8, without scheme, "
                        f"port and path, got {host!r}"
                    ) from None
                self._names.add(plain(host))

    def _allows_name(self, name: str) -> bool:
        if plain(name) not in self._names:
            return False
        # A socket is given addresses, so those of an allowed name are allowed.
        with unwatched():
            for *_, address in socket.getaddrinfo(name, None):
                self._networks.append(ipaddress.ip_network(str(address[0]).partition("%")[0]))
        return True

    def _allows_address(self, address: Address) -> bool:
        return any(address in network for network in list(self._networks))

    def _remember(self, attempt: NetworkAttempt) -> None:
        if len(self.attempts) < _MAX_ATTEMPTS:
            self.attempts.append(attempt)


# The blocks that are active, the innermost last.
guards: list[NetworkGuard] = []
# In a thread that looks up a name that is allowed.
paused = threading.local()


@contextmanager
def unwatched() -> Iterator[None]:
    paused.now = True
    try:
        yield
    finally:
        paused.now = False


def summary(attempts: Sequence[NetworkAttempt]) -> str:
    """What was refused, for the error at the end of a block."""
    lines = [f"{len(attempts)} attempts to leave this machine within no_network:" if len(attempts) > 1 else ""]
    lines += [f"  {attempt}" for attempt in attempts[:_MAX_SHOWN]]
    if len(attempts) == 1:
        return f"an attempt to leave this machine within no_network: {attempts[0]}"
    return "\n".join(lines + (["  ..."] if len(attempts) > _MAX_SHOWN else []))


def plain(name: str) -> str:
    return name.lower().removesuffix(".")
