"""A guard that forbids the network: whatever would leave this machine raises, and is raised again at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llama_client.testing.network.guard import NetworkAttempt, NetworkForbiddenError, NetworkGuard, guards, summary
from llama_client.testing.network.hooks import watch

__all__ = ["NetworkAttempt", "NetworkForbiddenError", "NetworkGuard", "no_network"]


@contextmanager
def no_network(allow: Sequence[str] = ()) -> Iterator[NetworkGuard]:
    """Within it, nothing in this process reaches another machine: not by TCP, not by UDP, not to look up a name.

    Loopback, Unix sockets and the name `localhost` are reachable. Anything else raises, in every thread and event loop,
    and is raised again at the end of the block, since programs catch errors. Where the block ends by another error,
    that error gets a note. Blocks may be nested: each of them has to allow an attempt, and the innermost that does not
    remembers it.

    Not seen: connections that were open before, what other processes do (a child of `os.fork` is refused too, but
    are not in the report at the end), code in C that opens sockets of its own, and datagrams that uvloop sends.

    Args:
        allow: Host names, addresses, or networks such as `10.0.0.0/8` that are reachable all the same.

    Yields:
        The guard, whose `attempts` are what was refused so far.

    Raises:
        NetworkForbiddenError: Something tried to leave this machine. It is an `OSError`, after which libraries close
            what they had opened.
        TypeError: `allow` is no list of texts.
        ValueError: A host in it has a scheme, a port or a path.

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
    watch()
    guard = NetworkGuard(allow)
    guards.append(guard)
    try:
        yield guard
    except NetworkForbiddenError:
        raise
    except BaseException as error:
        if guard.attempts:
            error.add_note(summary(guard.attempts))
        raise
    finally:
        guards.remove(guard)
    if guard.attempts:
        raise NetworkForbiddenError(summary(guard.attempts))
