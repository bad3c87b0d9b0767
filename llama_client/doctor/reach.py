"""Who may be asked at all: what `local_only`, `--offline` and a configuration that nobody can read allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llama_client.doctor.findings import Status
from llama_client.errors import LocalOnlyError
from llama_client.privacy import is_this_machine

if TYPE_CHECKING:
    from llama_client.privacy import ConnectionGuard


@dataclass(frozen=True, slots=True)
class Barred:
    """Why somebody is not asked."""

    status: Status
    message: str
    remedy: str | None
    rule: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be asked.

    Attributes:
        guard: The client's own guard of connections.
        offline: Nothing beyond this machine is asked.
        is_known: Whether the configuration could be read.
        wrong_tables: The providers whose tables are wrong.
    """

    guard: ConnectionGuard
    offline: bool
    is_known: bool
    wrong_tables: frozenset[str] = frozenset()

    def bars(self, name: str, url: str, *, is_configured: bool) -> Barred | None:
        """Why a provider is not asked; None: it is. Nobody is asked for that either.

        Args:
            name: Its name.
            url: Where it is.
            is_configured: Whether the configuration has a table for it.
        """
        host = urlsplit(url).hostname or ""
        if name in self.wrong_tables:
            return Barred("skipped", "not asked: its table in the configuration is wrong", None, "configuration")
        if is_this_machine(host):
            return None
        if not self.is_known:
            why = "not asked: the configuration cannot be used, and it may say local_only"
            return Barred("skipped", why, None, "configuration")
        try:
            self.guard.require_allowed(host)
        except LocalOnlyError as error:
            return forbidden(error, host, is_configured=is_configured)
        if self.offline:
            return Barred("skipped", "not asked: --offline", None, "offline")
        return None


def forbidden(error: LocalOnlyError, host: str, *, is_configured: bool) -> Barred:
    """`local_only` forbids it, which is as it should be where nobody configured it."""
    remedies = {
        "connection": f'Add "{host}" to privacy.allow_hosts if it may be reached, or remove its table.',
        "proxy": "Remove its proxy, or its table.",
        "key_command": "Read its key from api_key_file or api_key_env.",
    }
    remedy = remedies.get(error.rule, "Remove its table, or switch local_only off.")
    status: Status = "warning" if is_configured else "info"
    return Barred(status, f"never asked: {error}", remedy if is_configured else None, "local_only")
