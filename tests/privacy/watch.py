"""A watch over a process: where Python itself connects to, sends to, and whose name it asks for.

Native code is not seen from here; for that there is the network namespace of confined.py.
`python -m tests.privacy.watch COMMAND...` runs `llama-client COMMAND...` under it and writes what it saw to the file in
the variable WATCHED_TO.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from pathlib import Path
from typing import Any

# What was asked for outside this machine: the event, and where to.
outside: list[list[str]] = []
_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")
_SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind")


def watch(*, blocks: bool = False) -> None:
    """Begins to watch. There is no end to it but the process's.

    Args:
        blocks: Whether what would leave this machine fails.
    """

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NAMES:
            target = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
        elif event in _SENDS:
            target = arguments[1]
        else:
            return
        if not _is_here(target):
            outside.append([event, str(target)])
            if blocks:
                raise ConnectionRefusedError(f"the watch let nobody through to {target}")

    sys.addaudithook(note)


def _is_here(target: Any) -> bool:
    if isinstance(target, tuple) and target:
        target = target[0]
    if isinstance(target, bytes):
        target = target.decode("latin-1")
    if not isinstance(target, str) or target.startswith(("/", "\0")):
        # No host at all, or a socket that is a file.
        return True
    try:
        return ipaddress.ip_address(target.partition("%")[0]).is_loopback
    except ValueError:
        return target in ("localhost", "")


def main() -> None:
    """Runs the command, watched."""
    from llama_client.cli import main as command

    watch()
    try:
        sys.exit(command())
    finally:
        Path(os.environ["WATCHED_TO"]).write_text(json.dumps(outside), encoding="utf-8")


if __name__ == "__main__":
    main()
