"""Exchanges of several processes on their way into one cassette: each appends whole lines to a file of its own."""

from __future__ import annotations

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from llama_client.testing.cassettes.exchanges import Exchange
from llama_client.testing.cassettes.files import as_data, of_data
from llama_client.testing.cassettes.tracks import Order

CASSETTE = "cassette.json"
_SUFFIX = ".jsonl"


class Spool:
    """What one process appends. What is appended is there, however the process ends.

    Args:
        folder: Shared by all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._pid = 0
        self._path = folder

    def exchange(self, order: Order, exchange: Exchange) -> None:
        """A new exchange."""
        self._append({"order": order, "exchange": as_data(exchange)})

    def used(self, number: int) -> None:
        """An exchange of the cassette has answered."""
        self._append({"used": number})

    def missing(self, message: str) -> None:
        """A request had no answer."""
        self._append({"missing": message})

    def _append(self, item: dict[str, Any]) -> None:
        # Escaped, so that it is a line in any encoding.
        line = json.dumps(item).encode() + b"\n"
        with self._lock:
            if self._pid != os.getpid():
                # Also a forked one has a file of its own.
                self._pid = os.getpid()
                self._path = self._folder / f"{self._pid}-{secrets.token_hex(4)}{_SUFFIX}"
            with self._path.open("ab") as file:
                file.write(line)


class Spooled(NamedTuple):
    """What all processes have appended.

    Attributes:
        exchanges: In the order in which their requests were sent.
        used: The numbers of the cassette's exchanges that have answered.
        missing: What had no answer.
    """

    exchanges: list[Exchange]
    used: list[int]
    missing: list[str]


def collected(folder: Path) -> Spooled:
    """What all processes have appended; a line that is cut was under way when its process was killed."""
    found: list[tuple[Order, Exchange]] = []
    used: set[int] = set()
    missing: list[str] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                item = json.loads(line) if line.endswith(b"\n") else {}
                if "exchange" in item:
                    at_ns, number = item["order"]
                    found.append(((at_ns, number), of_data(item["exchange"])))
            except (ValueError, ValidationError):
                continue
            if "used" in item:
                used.add(item["used"])
            if "missing" in item:
                missing.append(item["missing"])
    found.sort(key=lambda pair: pair[0])
    return Spooled([exchange for _, exchange in found], sorted(used), missing)
