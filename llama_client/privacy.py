"""The guard of connections: under `local_only` nothing but this machine and `allow_hosts` is reached.

It judges addresses after names are resolved, at the place where connections are opened, so that neither a name that
points elsewhere nor a provider's own client gets around it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from llama_client.errors import LocalOnlyError


class ConnectionGuard:
    """What may be reached.

    Args:
        local_only: Whether anything is forbidden at all.
        allow_hosts: Names and addresses that may be reached all the same.
    """

    def __init__(self, *, local_only: bool = False, allow_hosts: Iterable[str] = ()) -> None:
        self.local_only = local_only
        self._allowed = frozenset(host.lower() for host in allow_hosts)

    def check(self, host: str, address: str) -> None:
        """Judges one connection.

        Args:
            host: The name (or address) that was asked for.
            address: The IP address that it means.

        Raises:
            LocalOnlyError: It may not be opened; says which rule forbids it.
        """
        if not self.local_only or _is_loopback(address) or self._allowed & {host.lower(), address.lower()}:
            return
        shown = host if host == address else f"{host} ({address})"
        raise LocalOnlyError(
            f"local_only is on, and {shown} is neither this machine nor in privacy.allow_hosts: nothing was sent"
        )

    def refuse(self, what: str) -> None:
        """Refuses something that would leave this machine by its nature.

        Raises:
            LocalOnlyError: `local_only` is on.
        """
        if self.local_only:
            raise LocalOnlyError(f"local_only is on, which forbids {what}: nothing was sent")


def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
