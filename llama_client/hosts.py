"""Hosts in one form, made once: so what is judged is what is connected to."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from llama_client.imports import ready

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What resolvers take, although not each of it may be registered: underscores, and hyphens at either end.
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
# Of ASCII the same: told by what is left out, as a range to the last character takes milliseconds to compile.
_LABEL_IN_OTHER_SCRIPTS = re.compile(r"(?!xn--)[^\0-,./:-^`{-\x7f]+")
_MAX_NAME_CHARS = 253
# Characters of other scripts take more than one each in ASCII, and some are left out.
_MAX_MAPPED_CHARS = 1000
_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_BRACKETED = re.compile(r"\[[^]]*:[^]]*](:[0-9]*)?")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
# Some systems resolve a number as an address, others as a name.
NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*")
_SPACE = " \t\r\n"
# Names that no name server of the internet has (RFC 6761, 6762, 8375, and ICANN's decision on `internal`).
_NEARBY = (".local", ".internal", ".localhost", ".home.arpa")


class PlainUrl(NamedTuple):
    """A URL whose host is in its one form, so that whatever parses the URL finds the same one."""

    # Parsed again it is the same: the percent sign of a zone is escaped (RFC 6874).
    text: str
    parts: SplitResult
    # As resolvers and sockets take it: a zone is not escaped, and an absolute name keeps its final dot.
    host: str

    @property
    def for_httpx(self) -> str:
        """As HTTPX and the clients on it take it.

        They do not undo the escape of a zone, and refuse what systems read as an address (`127.1`, `0177.0.0.1`).
        """
        host = _read_by_systems(self.host)
        if host == self.host and "%" not in host:
            return self.text
        shown = f"[{host}]" if ":" in host else host
        port = "" if self.parts.port is None else f":{self.parts.port}"
        user, at, _ = self.parts.netloc.rpartition("@")
        return urlunsplit(self.parts._replace(netloc=f"{user}{at}{shown}{port}"))


def plain_url(url: str) -> PlainUrl:
    """Parses a URL.

    Raises:
        ValueError: It has no host, or its port is no number.
    """
    url = url.strip(_SPACE)
    if _CONTROL.search(url):
        # Some parsers leave these out, and so see another host.
        raise ValueError("control characters")
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if "[" in place and not _BRACKETED.fullmatch(place):
        # Python's parser leaves out what stands behind the bracket.
        raise ValueError("not a host")
    host = host_of(_unescaped(parts.hostname or ""))
    escaped = host.replace("%", "%25")
    shown = f"[{escaped}]" if ":" in host else host
    netloc = f"{user}{at}{shown}{'' if parts.port is None else f':{parts.port}'}"
    if not parts.netloc.isascii() or parts.netloc.lower() != netloc.lower():
        parts = parts._replace(netloc=netloc)
        url = urlunsplit(parts)
    return PlainUrl(url, parts, host)


def with_plain_host(url: str) -> str:
    """The URL with its host in its one form.

    Raises:
        ValueError: As `plain_url`.
    """
    return plain_url(url).text


def from_httpx(url: str) -> str:
    """A URL that HTTPX has parsed (`PlainUrl.for_httpx`), with the escape of its zone."""
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if "%" not in place:
        return url
    return urlunsplit(parts._replace(netloc=f"{user}{at}{place.replace('%', '%25', 1)}"))


# Each client that is opened asks for those of all known services.
@lru_cache(maxsize=64)
def host_in(url: str) -> str:
    """The host of a URL as it is connected to; empty: it has none."""
    try:
        return plain_url(url).host
    except ValueError:
        return ""


def name_in(url: str) -> str:
    """The host of a URL to be compared and shown; empty: it has none."""
    return bare(host_in(url))


def host_of(text: str) -> str:
    """A host in its one form: an address, or a name in ASCII (as browsers map it), lower case.

    A final dot stays: it keeps resolvers from trying the name below their search domains.

    Raises:
        ValueError: It is neither.
    """
    address = address_of(text)
    if address is not None:
        return str(address)
    name = text.lower() if text.isascii() else _in_ascii(text)
    relative = name.removesuffix(".")
    if len(relative) > _MAX_NAME_CHARS or not all(map(_LABEL.fullmatch, relative.split("."))):
        raise ValueError("not a host")
    # What other scripts or a final dot make of an address.
    address = address_of(relative)
    return name if address is None else str(address)


def bare(host: str) -> str:
    """A host as others know it, to be compared: without its zone, which only this machine knows, and its final dot."""
    return host.partition("%")[0].removesuffix(".")


def is_nearby(url: str) -> bool:
    """Whether the host of a URL is of this machine or its network, as far as that shows without a name server."""
    name = name_in(url)
    address = address_of(_read_by_systems(name))
    if address is not None:
        return not plain(address).is_global
    return name == "localhost" or (bool(name) and "." not in name) or name.endswith(_NEARBY)


def name_of(text: str) -> str:
    """A host to be compared; empty: it is none."""
    try:
        return bare(host_of(text))
    except ValueError:
        return ""


def address_of(host: str) -> _Address | None:
    """A host that is an IP address, in its usual form; None: it is a name, or none.

    A zone (`fe80::1%eth0`) belongs to addresses that are not global: elsewhere a resolver may take it for a name.
    """
    text, percent, zone = host.partition("%")
    if ":" not in text and not text[-1:].isdigit():
        # Quickly, since most hosts are names.
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if not percent:
        return address
    if address.version == 4 or not _ZONE.fullmatch(zone):
        return None
    if address == ipaddress.IPv6Address(1):
        # Loopback has one zone only.
        return address
    first, second = address.packed[:2]
    # fc00::/7 (unique local); fe80::/10 and fec0::/10 (link and site local).
    has_zones = first & 0xFE == 0xFC or (first == 0xFE and second & 0x80)
    return ipaddress.IPv6Address(f"{text}%{zone}") if has_zones else None


def plain(address: _Address) -> _Address:
    """An IPv4-mapped IPv6 address as IPv4."""
    return getattr(address, "ipv4_mapped", None) or address


def in_own_script(name: str) -> str:
    """A name in ASCII as people write it, where that leads back to it."""
    if "xn--" not in name:
        return name
    try:
        own = ".".join(map(_label_in_own_script, name.split(".")))
        return own if host_of(own) == name else name
    except ValueError:
        return name


def _label_in_own_script(label: str) -> str:
    return label[4:].encode().decode("punycode") if label.startswith("xn--") else label


def _read_by_systems(host: str) -> str:
    """A host as `getaddrinfo` would read it, if that is a number in place of an IPv4 address."""
    if NUMBER.fullmatch(host):
        with suppress(OSError):
            return socket.inet_ntoa(socket.inet_aton(host))
    return host


def _unescaped(host: str) -> str:
    """A URL's host without the escape of its zone. One that is not escaped is taken as it is."""
    address, percent, zone = host.partition("%")
    return f"{address}{percent}{zone[2:] if len(zone) > 2 and zone.startswith('25') else zone}"


def _in_ascii(name: str) -> str:
    # Imported here: it takes 20 ms, and most names are plain.
    ready("idna")
    import idna

    if len(name) > _MAX_MAPPED_CHARS:
        raise ValueError("not a host")
    return ".".join(map(_label_in_ascii, idna.uts46_remap(name, std3_rules=False).split(".")))


def _label_in_ascii(label: str) -> str:
    """A mapped label. Browsers take symbols too, which the registries' rules (`idna.alabel`) do not."""
    if label.isascii():
        return label
    import idna

    if not _LABEL_IN_OTHER_SCRIPTS.fullmatch(label):
        raise ValueError("not a host")
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for at, sign in enumerate(label):
        if sign in "\u200c\u200d" and not idna.valid_contextj(label, at):
            raise ValueError("not a host")
    return f"xn--{label.encode('punycode').decode()}"
