"""The table of privacy: what `local_only` may reach beside this machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

from llama_client.config.tables import ConfigTable, Name
from llama_client.validation import broken_rule, quoted

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
# What looks like a number is read as an address by some systems and as a name by others.
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*")
_EXPECTED = "must be a name (gpu-box.lan), an IP address (10.0.0.5) or a network (10.0.0.0/24)"


def _host(text: str) -> str:
    """A host in the one form in which it is compared."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _name(text)
    if network.prefixlen == 0:
        raise broken_rule("", f"{text} is every address there is: switch local_only off instead")
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise broken_rule("", f"{text} is no network: did you mean {network}?")
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.num_addresses == 1:
        return str(mapped)
    return str(network if "/" in text else network.network_address)


def _name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            name = ""
    if len(name) > 253 or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        without = " without scheme, port, path or wildcard" if any(mark in text for mark in ":/*[") else ""
        raise broken_rule("", f"{_EXPECTED}{without}, got {quoted(text)}")
    return name


class Privacy(ConfigTable):
    """What `local_only` may reach beside this machine.

    Attributes:
        allow_hosts: Names (exactly these, not what is below them; whatever addresses they have), IP addresses, and
            networks such as `10.0.0.0/24`. Every port of them.
    """

    allow_hosts: tuple[Annotated[Name, AfterValidator(_host)], ...] = ()
