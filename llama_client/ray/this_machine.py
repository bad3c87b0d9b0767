"""Whether a Ray cluster is this machine, as `local_only` wants it: by its address, and by where it says that it is."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from llama_client.errors import LocalOnlyError
from llama_client.hosts import address_of, plain_url
from llama_client.local_only import ConnectionGuard
from llama_client.redaction import MASK, without_credentials

if TYPE_CHECKING:
    from llama_client.config.schema import Config

# Addresses without a host: Ray looks for a cluster that runs here, or starts one.
_NO_HOST = ("auto", "local")
# Other schemes are those of modules, which may connect to anywhere.
_SCHEME = "ray"
_BROADCAST = ip_address("255.255.255.255")


def require_address_here(address: str, config: Config) -> None:
    """Raises `LocalOnlyError` where an address is that of another machine. Nothing is resolved or connected to."""
    if not config.local_only or address in _NO_HOST:
        return
    scheme, separator, place = address.partition("://")
    if separator and scheme != _SCHEME:
        raise _refused(address, config)
    try:
        url = plain_url(f"{_SCHEME}://{place if separator else address}")
        _require_allowed(url.host, address, config)
    except ValueError:
        raise _refused(address, config) from None
    if any((url.parts.path, url.parts.query, url.parts.fragment, "@" in url.parts.netloc)):
        # What resolves the address may see another host in it.
        raise _refused(address, config)


def require_cluster_here(ray: Any, config: Config) -> None:
    """Raises `LocalOnlyError` where a cluster that is connected to, or the node of its driver, is another machine.

    A forwarded port has a local address, and leads to another machine.
    """
    if not config.local_only:
        return
    context = ray.get_runtime_context()
    own = context.get_node_id()
    for place in (context.gcs_address, *(each["NodeManagerAddress"] for each in ray.nodes() if each["NodeID"] == own)):
        try:
            host = plain_url(f"{_SCHEME}://{place}").host
        except ValueError:
            raise _refused(place, config) from None
        if not _is_own(host):
            _require_allowed(host, place, config)


def _require_allowed(host: str, address: str, config: Config) -> None:
    try:
        ConnectionGuard.of(config).require_allowed(host)
    except LocalOnlyError:
        raise _refused(address, config) from None


def _is_own(host: str) -> bool:
    """Whether an IP address is one of this machine's interfaces: only such a one can be bound."""
    address = address_of(host)
    if address is None or address.is_unspecified or address.is_multicast or address == _BROADCAST:
        # These can be bound too.
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.bind((socket.inet_ntop(family, socket.inet_pton(family, host)), 0))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return True


def _refused(address: str, config: Config) -> LocalOnlyError:
    shown = without_credentials(address, mark=MASK)
    return LocalOnlyError(
        f"ray_address: {shown} is not this machine, and prompts would go there; leave it out, write 127.0.0.1 for this "
        "machine, or put its host into privacy.allow_hosts",
        rule="connection",
        source=config.local_only_source,
    )
