"""A guard that forbids the network: whatever would leave this machine raises, and is told at the end of the test."""

from __future__ import annotations

import ipaddress
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from types import FrameType
from typing import Any

# Of more attempts than this the rest is forgotten.
_MAX_ATTEMPTS = 100
_MAX_TOLD = 10
# Sockets that never leave the machine, where this system has them.
_LOCAL_FAMILIES = frozenset(
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG", "AF_SYSTEM") if hasattr(socket, name)
)
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_NOT_THE_CALLER = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib") if sysconfig.get_path(name)
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
        for host in allow:
            try:
                self._networks.append(ipaddress.ip_network(host, strict=False))
            except ValueError:
                self._names.add(_plain(host))

    def _allows_name(self, name: str) -> bool:
        if _plain(name) not in self._names:
            return False
        # A socket is given addresses, so those of an allowed name are allowed.
        with _unwatched():
            for *_, address in socket.getaddrinfo(name, None):
                self._networks.append(ipaddress.ip_network(str(address[0]).partition("%")[0]))
        return True

    def _allows_address(self, address: _Address) -> bool:
        return any(address in network for network in list(self._networks))

    def _remember(self, attempt: NetworkAttempt) -> None:
        if len(self.attempts) < _MAX_ATTEMPTS:
            self.attempts.append(attempt)


@contextmanager
def no_network(allow: Sequence[str] = ()) -> Iterator[NetworkGuard]:
    """Within it, nothing in this process reaches another machine: not by TCP, not by UDP, not to look up a name.

    Loopback, Unix sockets and the name `localhost` are reachable. Anything else raises, in every thread and event loop,
    and is raised again at the end of the block, since programs catch errors. Where the block ends by another error,
    that error gets a note. Blocks may be nested: each of them has to allow an attempt, and the innermost that does not
    remembers it.

    Not seen: connections that were open before, what other processes do (a child of `os.fork` is refused too, but
    cannot be told of at the end), code in C that opens sockets of its own, and datagrams that uvloop sends.

    Args:
        allow: Host names, addresses, or networks such as `10.0.0.0/8` that are reachable all the same.

    Yields:
        The guard, whose `attempts` are what was refused so far.

    Raises:
        NetworkForbiddenError: Something tried to leave this machine. It is an `OSError`, after which libraries close
            what they had opened.

    Example:
        >>> import socket
        >>> from llama_client.testing.network import NetworkForbiddenError, no_network
        >>> with no_network() as guard:
        ...     try:
        ...         socket.create_connection(("192.0.2.1", 443))
        ...     except NetworkForbiddenError:
        ...         pass
        ...     print(guard.attempts.pop().what)
        connect to 192.0.2.1:443
    """
    _watch()
    guard = NetworkGuard(allow)
    _guards.append(guard)
    try:
        yield guard
    except NetworkForbiddenError:
        raise
    except BaseException as error:
        if guard.attempts:
            error.add_note(_told(guard.attempts))
        raise
    finally:
        _guards.remove(guard)
    if guard.attempts:
        raise NetworkForbiddenError(_told(guard.attempts))


def _told(attempts: Sequence[NetworkAttempt]) -> str:
    lines = [f"{len(attempts)} attempts to leave this machine within no_network:" if len(attempts) > 1 else ""]
    lines += [f"  {attempt}" for attempt in attempts[:_MAX_TOLD]]
    if len(attempts) == 1:
        return f"an attempt to leave this machine within no_network: {attempts[0]}"
    return "\n".join(lines + (["  ..."] if len(attempts) > _MAX_TOLD else []))


_guards: list[NetworkGuard] = []
_paused = threading.local()
_watching = threading.Lock()
_is_watched: set[str] = set()


def _watch() -> None:
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


@contextmanager
def _unwatched() -> Iterator[None]:
    _paused.now = True
    try:
        yield
    finally:
        _paused.now = False


def _hook(event: str, values: tuple[Any, ...]) -> None:
    # Of all events of the interpreter: first what tells nearly all of them apart.
    if not _guards or not event.startswith("socket."):
        return
    match event:
        case "socket.connect":
            _judge_address("connect to", values[0].family, values[1])
        case "socket.sendto" | "socket.sendmsg":
            _judge_address("send to", values[0].family, values[1])
        case "socket.getaddrinfo" | "socket.gethostbyname":
            _judge_name(values[0])
        case "socket.gethostbyaddr":
            _judge_reverse(values[0])
        case "socket.getnameinfo":
            _judge_reverse(values[0][0])


def _judge_address(verb: str, family: int, address: Any) -> None:
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


def _judge_name(host: Any) -> None:
    """A number is no name: nothing is asked for it, and connecting to it is judged."""
    name = _text(host)
    if _number(name) is None and not _is_here(name):
        _refuse(f"look up {name}", lambda guard: guard._allows_name(name))


def _judge_reverse(host: Any) -> None:
    """The name of an address is asked of a server."""
    number = _number(_text(host))
    if number is None:
        _judge_name(host)
    elif not (number.is_loopback or number.is_unspecified):
        _refuse(f"look up the name of {number}", lambda guard: guard._allows_address(number))


def _refuse(what: str, allows: Callable[[NetworkGuard], bool]) -> None:
    """Raises unless every block that is active allows it."""
    if getattr(_paused, "now", False):
        return
    # The innermost tells of it, or forgives it.
    refusing = next((guard for guard in reversed(_guards.copy()) if not allows(guard)), None)
    if refusing is not None:
        attempt = NetworkAttempt(what, _where(), threading.current_thread().name)
        refusing._remember(attempt)
        raise NetworkForbiddenError(f"no_network forbids to {attempt}")


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else "" if host is None else str(host)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _is_here(name: str) -> bool:
    """No host at all is every address of this machine."""
    plain = _plain(name)
    return plain in ("", "localhost") or plain.endswith(".localhost")


def _number(host: str) -> _Address | None:
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
        if file != __file__ and not file.startswith("<"):
            place = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
            innermost = innermost or place
            if not file.startswith(_NOT_THE_CALLER):
                return place
        frame = frame.f_back
    return innermost or "unknown code"


def _judged(method: Callable[..., Any], judge: Callable[..., None]) -> Callable[..., Any]:
    @wraps(method)
    def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _guards:
            judge(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return asked


def _of_connect(connection: socket.socket, address: Any) -> None:
    _judge_address("connect to", connection.family, address)


def _of_send(connection: socket.socket, *values: Any) -> None:
    _judge_address("send to", connection.family, values[-1])


def _of_connection(_loop: object, _factory: object, host: Any = None, port: Any = None, **_more: object) -> None:
    if host is not None:
        _judge_address("connect to", socket.AF_INET, (host, port))


def _of_datagrams(
    _loop: object, _factory: object, _local: object = None, remote_addr: Any = None, **_more: object
) -> None:
    if remote_addr is not None:
        _judge_address("send to", socket.AF_INET, remote_addr)


def _of_lookup(_loop: object, host: Any, *_more: object, **_options: object) -> None:
    _judge_name(host)


def _of_overlapped(_proactor: object, connection: socket.socket, address: Any) -> None:
    _judge_address("connect to", connection.family, address)


def _of_overlapped_datagram(
    _proactor: object, connection: socket.socket, _data: object, _flags: int = 0, addr: Any = None
) -> None:
    _judge_address("send to", connection.family, addr)


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
