"""Hosts in one form, made once: so what is judged is what is connected to."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME_CHARS = 253
_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_BRACKETED = re.compile(r"\[[^]]*](:[0-9]*)?")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


def address_of(host: str) -> _Address | None:
    """A host that is an IP address, in its usual form; None: it is a name, or none.

    A zone (`fe80::1%eth0`) belongs to link-local addresses: elsewhere a resolver may take it for a name.
    """
    text, percent, zone = host.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not percent:
        return address
    # In a URL the percent sign itself is escaped (RFC 6874).
    zone = zone.removeprefix("25")
    if address.version == 4 or not _ZONE.fullmatch(zone):
        return None
    if address.is_loopback:
        # It has one zone only.
        return address
    return ipaddress.IPv6Address(f"{text}%{zone}") if address.is_link_local else None


def plain(address: _Address) -> _Address:
    """An IPv4-mapped IPv6 address as IPv4."""
    return getattr(address, "ipv4_mapped", None) or address


def host_of(text: str) -> str:
    """A host in its one form: an address, or a name in ASCII (as browsers map it), lower case, without a final dot.

    Raises:
        ValueError: It is neither.
    """
    address = address_of(text)
    if address is not None:
        return str(address)
    name = text.lower()
    if not text.isascii() or "xn--" in name:
        # Imported here: it takes 20 ms, and most names are plain.
        import idna

        name = idna.encode(text, uts46=True).decode("ascii").lower()
    name = name.removesuffix(".")
    if len(name) > _MAX_NAME_CHARS or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("not a host")
    # What other scripts write as an address.
    address = None if text.isascii() else address_of(name)
    return name if address is None else str(address)


def with_plain_host(url: str) -> str:
    """A URL whose host is in its one form, so that whatever parses the URL finds the same one.

    Raises:
        ValueError: It has no host, or its port is no number.
    """
    if _CONTROL.search(url):
        # Some parsers leave these out, and so see another host.
        raise ValueError("control characters")
    parts = urlsplit(url)
    if "[" in parts.netloc and not _BRACKETED.fullmatch(parts.netloc.rpartition("@")[2]):
        # Python's parser leaves out what stands behind the bracket.
        raise ValueError("not a host")
    host = host_of(parts.hostname or "")
    user, at, _ = parts.netloc.rpartition("@")
    netloc = user + at + (f"[{host}]" if ":" in host else host) + ("" if parts.port is None else f":{parts.port}")
    if parts.netloc.isascii() and parts.netloc.lower() == netloc.lower():
        return url
    return urlunsplit(parts._replace(netloc=netloc))
