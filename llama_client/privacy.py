"""The guard of connections: under `local_only` nothing but this machine and `allow_hosts` is reached.

It judges addresses after names are resolved, at the place where connections are opened, so that neither a name that
points elsewhere nor a provider's own client gets around it. To ask a name server is to leave this machine too, so names
are resolved here, by the file of hosts; only a name in `allow_hosts` is asked of the system.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from llama_client.errors import LocalOnlyError, LocalOnlyRule

if TYPE_CHECKING:
    from llama_client.config.schema import Config

_ON_WINDOWS = Path(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "drivers", "etc", "hosts")
HOSTS_FILE = _ON_WINDOWS if os.name == "nt" else Path("/etc/hosts")
# Lists of unwanted advertisers, some of which people keep there, have a few MiB.
_MAX_HOSTS_BYTES = 32 << 20
# Of `LocalOnlyError.source`, what is no name of a variable or file.
_SHOWN = {"config": "the program's own configuration", "local_only=True": "the argument local_only"}
_LOOPBACK = ("127.0.0.1", "::1")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConnectionGuard:
    """What may be reached.

    Args:
        local_only: Whether anything is forbidden at all.
        allow_hosts: Names, addresses and networks that may be reached all the same.
        source: What switched `local_only` on, for messages.
    """

    def __init__(self, *, local_only: bool = False, allow_hosts: Iterable[str] = (), source: str | None = None) -> None:
        self.local_only = local_only
        self._source = source
        self._names: set[str] = set()
        self._networks: list[_Network] = []
        for host in allow_hosts:
            try:
                self._networks.append(ipaddress.ip_network(host))
            except ValueError:
                self._names.add(_plain(host))

    @classmethod
    def of(cls, config: Config) -> ConnectionGuard:
        """The guard that a configuration asks for."""
        return cls(
            local_only=config.local_only, allow_hosts=config.privacy.allow_hosts, source=config.local_only_source
        )

    def require_allowed(self, host: str, *, rule: LocalOnlyRule = "connection") -> None:
        """Judges a host before anything is done for it. Asks nobody: a name of `allow_hosts` is allowed as it is.

        Args:
            host: A name or an address.
            rule: Which rule forbids it where it is elsewhere.

        Raises:
            LocalOnlyError: It may not be reached.
        """
        if self.local_only and _plain(host) not in self._names:
            self._judged(host, rule)

    def addresses(self, host: str, port: int, *, rule: LocalOnlyRule = "connection") -> list[str]:
        """The addresses to connect to for a host, all of them judged: which one is used is up to the system.

        Args:
            host: A name or an address.
            port: Of the connection.
            rule: As of `require_allowed`.

        Raises:
            LocalOnlyError: One of them may not be reached, or finding them would leave this machine.
            OSError: A name of `allow_hosts` has none.
        """
        if not self.local_only:
            return [host]
        if _plain(host) not in self._names:
            return self._judged(host, rule)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def refuse(self, rule: LocalOnlyRule, what: str) -> None:
        """Refuses something that would leave this machine by its nature.

        Args:
            rule: Which rule forbids it.
            what: What it is, as the object of "forbids".

        Raises:
            LocalOnlyError: `local_only` is on.
        """
        if self.local_only:
            self._refuse(rule, f"local_only is on, which forbids {what}")

    def _judged(self, host: str, rule: LocalOnlyRule) -> list[str]:
        """The addresses of a host that is in `allow_hosts` under no name."""
        found = _found_here(host)
        if found is None:
            self._refuse(
                rule,
                f"local_only is on, and {host} is neither this machine nor in privacy.allow_hosts (its name was not "
                "looked up, as that would ask somebody else)",
            )
        for address in found:
            if not self._may_reach(address):
                shown = host if host == address else f"{host} ({address})"
                hint = " (write 127.0.0.1 for this machine)" if address in ("0.0.0.0", "::") else ""  # noqa: S104
                self._refuse(
                    rule,
                    f"local_only is on, and {shown} is neither this machine nor in privacy.allow_hosts{hint}",
                )
        return found

    def _may_reach(self, address: str) -> bool:
        ip = _ip(address)
        return ip.is_loopback or any(ip in network for network in self._networks)

    def _refuse(self, rule: LocalOnlyRule, sentence: str) -> NoReturn:
        by = "" if self._source is None else f", switched on by {_SHOWN.get(self._source, self._source)}"
        raise LocalOnlyError(f"{sentence}: nothing was sent (rule: {rule}{by})", rule=rule, source=self._source)


def _plain(host: str) -> str:
    """A host's name without what makes no difference: case, a dot at its end, and letters of other scripts as such."""
    name = host.lower().removesuffix(".")
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _ip(address: str) -> _Address:
    """An address without its zone, and an IPv4 address that is written as one of IPv6 as what it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped or ip


def _found_here(host: str) -> list[str] | None:
    """The addresses of a host as this machine knows them by itself; None: it does not."""
    try:
        _ip(host)
    except ValueError:
        name = _plain(host)
    else:
        return [host]
    if name == "localhost" or name.endswith(".localhost"):
        # By definition (RFC 6761, 6.3). Not every system knows that, and those that do not ask their name server.
        return list(_LOOPBACK)
    return _in_hosts_file(name) or None


def _in_hosts_file(name: str) -> list[str]:
    addresses: list[str] = []
    try:
        with HOSTS_FILE.open("rb") as file:
            lines = file.read(_MAX_HOSTS_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if name in map(_plain, names):
            try:
                _ip(address)
            except ValueError:
                continue
            addresses.append(address)
    return list(dict.fromkeys(addresses))
