"""The connection guard: under `local_only` only loopback and `allow_hosts` are reachable."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from llama_client.errors import LocalOnlyError, LocalOnlyRule
from llama_client.hosts import address_of, bare, host_of, in_own_script, name_in, name_of, plain
from llama_client.process import at_fork

if TYPE_CHECKING:
    from llama_client.config.schema import Config


# Block lists of advertisers in a hosts file have a few MiB.
_MAX_HOSTS_BYTES = 32 << 20
# A write this long after the last one changes the file's time: the coarsest file system clock has steps of 2 s.
_SETTLED_S = 3.0
_MAX_KEPT_NAMES = 256
# Values of `LocalOnlyError.source` that are not names of variables or files.
_SHOWN = {"config": "the program's own configuration", "local_only=True": "the argument local_only"}
# The longest valid host name.
_MAX_SHOWN_CHARS = 253

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# As `socket.getaddrinfo` gives them.
_AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class ConnectionGuard:
    """Decides which hosts may be reached, and refuses what `local_only` forbids."""

    def __init__(self, *, local_only: bool = False, allow_hosts: Iterable[str] = (), source: str | None = None) -> None:
        self.local_only = local_only
        self._source = source
        self._names: set[str] = set()
        self._networks: list[_Network] = []
        for host in allow_hosts:
            try:
                self._networks.append(ipaddress.ip_network(host))
            except ValueError:
                self._names.add(name_of(host))
        self._names.discard("")

    @classmethod
    def of(cls, config: Config) -> ConnectionGuard:
        return cls(
            local_only=config.local_only, allow_hosts=config.privacy.allow_hosts, source=config.local_only_source
        )

    def require_allowed(self, host: str, *, rule: LocalOnlyRule = "connection") -> None:
        """Refuses a host that may not be reached, without resolving it; names in `allow_hosts` are allowed."""
        if self.local_only and name_of(host) not in self._names:
            self._checked_addresses(host, rule)

    def resolve(self, host: str, port: int) -> Sequence[_AddressInfo]:
        """The addresses of a host, as sockets take them."""
        # What was judged is not resolved again.
        flags = socket.AI_NUMERICHOST if self.local_only else 0
        return [
            found
            for address in self.addresses(host, port)
            for found in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)
        ]

    def addresses(self, host: str, port: int, *, rule: LocalOnlyRule = "connection") -> list[str]:
        """The addresses of a host, all of them checked, since the caller may connect to any.

        Raises:
            OSError: It cannot be resolved.
        """
        if not self.local_only:
            return [_with_numbered_zone(host)]
        if name_of(host) not in self._names:
            return list(map(_with_numbered_zone, self._checked_addresses(host, rule)))
        found = socket.getaddrinfo(host_of(host), port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(_text_of(address) for *_, address in found))

    def refuse(self, rule: LocalOnlyRule, what: str) -> None:
        if self.local_only:
            self._refuse(rule, f"local_only is on, which forbids {what}")

    def refuse_redirect(self, url: str, location: str) -> None:
        """Refuses a redirect, also to an allowed host."""
        if self.local_only:
            host = _shown_host(location)
            to = f"to {host}" if host else "elsewhere"
            self._refuse(
                "redirect",
                f"local_only is on, and the server at {_shown_host(url)} redirects {to}",
                "the redirect was not followed; set base_url to the right address",
            )

    def _checked_addresses(self, host: str, rule: LocalOnlyRule) -> list[str]:
        """The addresses of a host whose name is not in `allow_hosts`."""
        found = _known_addresses(host)
        if found is None:
            self._refuse(
                rule,
                f"local_only is on, and {host} is neither this machine nor in privacy.allow_hosts (its name was not "
                "looked up, as that would contact a name server)",
            )
        for address in found:
            ip = _ip(address)
            if not (ip.is_loopback or any(ip in network for network in self._networks)):
                shown = host if host == address else f"{host} ({address})"
                hint = " (write 127.0.0.1 for this machine)" if address in ("0.0.0.0", "::") else ""  # noqa: S104
                self._refuse(
                    rule, f"local_only is on, and {shown} is neither this machine nor in privacy.allow_hosts{hint}"
                )
        return found

    def _refuse(self, rule: LocalOnlyRule, sentence: str, outcome: str = "nothing was sent") -> NoReturn:
        by = "" if self._source is None else f", switched on by {_SHOWN.get(self._source, self._source)}"
        raise LocalOnlyError(f"{sentence}: {outcome} (rule: {rule}{by})", rule=rule, source=self._source)


def _shown_host(url: str) -> str:
    """The host of an untrusted address; empty if it has none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return "".join(sign for sign in host[:_MAX_SHOWN_CHARS] if sign.isprintable())


def _text_of(address: Sequence[Any]) -> str:
    """A socket's address as a text, with the zone that stands beside it."""
    zone = address[3] if len(address) > 3 and "%" not in address[0] else 0
    return f"{address[0]}%{zone}" if zone else str(address[0])


def _with_numbered_zone(host: str) -> str:
    """An address whose zone is a number: that of an interface's name depends on the system and on the address."""
    address, percent, zone = host.partition("%")
    if not percent:
        return host
    try:
        number = socket.if_nametoindex(zone)
    except OSError:
        number = 0
    if number:
        return f"{address}%{number}"
    if zone.isdigit():
        return host
    raise OSError(f"this machine has no network interface {zone}")


def _ip(address: str) -> _Address:
    """An address without its zone; an IPv4-mapped IPv6 address as IPv4."""
    return plain(ipaddress.ip_address(address.partition("%")[0]))


def _known_addresses(host: str) -> list[str] | None:
    """The addresses of a host, without a name server; None: unknown."""
    try:
        known = host_of(host)
    except ValueError:
        return None
    if address_of(known) is not None:
        return [known]
    name = bare(known)
    return ["127.0.0.1", "::1"] if _is_localhost(name) else _hosts.addresses(name) or None


def is_this_machine(host: str) -> bool:
    """Whether a host is certainly this machine. No name is resolved: only `localhost` and its subdomains are known."""
    name = name_of(host)
    address = address_of(name)
    return _is_localhost(name) if address is None else plain(address).is_loopback


def leads_here(url: str) -> bool:
    """Whether the host of a URL is certainly this machine."""
    return is_this_machine(name_in(url))


def _is_localhost(name: str) -> bool:
    # By definition (RFC 6761, 6.3), which some systems do not implement: they would ask a name server.
    return name == "localhost" or name.endswith(".localhost")


def hosts_file() -> Path:
    if os.name == "nt":
        return Path(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "drivers", "etc", "hosts")
    return Path("/etc/hosts")


class _Hosts:
    """The addresses in the hosts file, cached by name until it changes: it may be large, and each request asks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._stamp: object = None
        # When the file was first seen so.
        self._seen_s = 0.0
        self._found: dict[str, list[str]] = {}

    def addresses(self, name: str) -> list[str]:
        file = hosts_file()
        try:
            stamp = _stamp(file, file.stat())
            with self._lock:
                if stamp == self._stamp and name in self._found:
                    return self._found[name]
            begun_s = time.monotonic()
            with file.open("rb") as opened:
                status = os.fstat(opened.fileno())
                found = _addresses_of(name, opened.read(_MAX_HOSTS_BYTES))
        except OSError:
            return []
        self._keep(name, found, _stamp(file, status), begun_s, written_s=status.st_mtime)
        return found

    def _keep(self, name: str, found: list[str], stamp: object, begun_s: float, *, written_s: float) -> None:
        with self._lock:
            if stamp != self._stamp:
                self._stamp, self._seen_s = stamp, begun_s
                self._found.clear()
            # A file written just now may change again within the same tick of the file system's clock, which may be
            # ahead of this machine's.
            is_settled = time.time() - written_s > _SETTLED_S or begun_s - self._seen_s > _SETTLED_S
            if is_settled:
                if len(self._found) >= _MAX_KEPT_NAMES:
                    self._found.clear()
                self._found[name] = found


_hosts = _Hosts()
# Another thread of the parent's may be in the middle of an update.
at_fork("after_in_child", _hosts.reset)


def _stamp(file: Path, status: os.stat_result) -> object:
    """Changes when the file is written or replaced."""
    return file, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _addresses_of(name: str, content: bytes) -> list[str]:
    text = content.decode("utf-8", "replace")
    if not text.isascii():
        # Nearly as host names are mapped; that for each name in a large file would take seconds.
        text = unicodedata.normalize("NFKC", text)
    text = text.lower()
    found = (address for form in dict.fromkeys((name, in_own_script(name))) for address in _listed(form, text))
    return list(dict.fromkeys(found))


def _listed(name: str, text: str) -> Iterator[str]:
    """The addresses of a name in the lower-case text of a hosts file."""
    for line in _lines_with(name, text):
        address, *names = line.partition("#")[0].split() or [""]
        if name in (each.removesuffix(".") for each in names):
            found = address_of(address)
            if found is not None:
                yield str(found)


def _lines_with(wanted: str, text: str) -> Iterator[str]:
    """The lines with a word that is, or begins with, a name. Splitting a large file into all lines takes a second."""
    end = 0
    while (at := text.find(wanted, end)) >= 0:
        if not text[at - 1 : at].isspace():
            # Within a longer name, of which a block list may have many.
            end = at + len(wanted)
            continue
        start = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield text[start:end]
