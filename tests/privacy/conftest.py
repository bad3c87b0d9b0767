"""What the tests of `local_only` share: names that lead somewhere, a server that is here, and a watch over lookups."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_client import local_only as privacy
from llama_client.testing.loopback import WireServer
from tests.privacy.asking import ADDRESSES, answer_all
from tests.wire.sending import forget_variables


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_variables(monkeypatch)


@pytest.fixture
def there() -> Iterator[WireServer]:
    """A server on this machine that answers every kind of provider."""
    with WireServer(answer_all) as server:
        yield server


@pytest.fixture(autouse=True)
def hosts_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's file of hosts, with the names of the tests."""
    lines = ["# the names of the tests", "999.1.1.1 far.test"]
    lines += [f"{address}\t{name.upper()} other-{name}" for name, all_of in ADDRESSES.items() for address in all_of]
    file = tmp_path / "hosts"
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    monkeypatch.setattr(privacy, "hosts_file", lambda: file)
    return file


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that somebody asked the system for, which knows none."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def resolved(host: Any, *rest: Any, **more: Any) -> Any:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            asked.append(host)
            if host not in ADDRESSES:
                raise socket.gaierror(socket.EAI_NONAME, "unknown to the tests") from None
            host = ADDRESSES[host][0]
        return resolve(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return asked
