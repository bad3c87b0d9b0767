"""The rows of one call in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llama_client.costs.rows import (
    CALL,
    ERROR,
    PROVIDER,
    TARGET,
    UNPRICED_CALL,
    UNPRICED_PROVIDER,
    UNPRICED_TARGET,
    Row,
)

if TYPE_CHECKING:
    from llama_client.costs.bills import Tokens
    from llama_client.costs.ledger import Ledger
    from llama_client.routing.candidates import Candidate
    from llama_client.types.attempt import Attempt


class Entries:
    """Hands a call's attempts to the ledger, each once.

    Args:
        ledger: Where they go.
        request_id: Ours, of the call.
        tags: The call's labels.
    """

    def __init__(self, ledger: Ledger, request_id: str, tags: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._request_id = request_id
        self._tags = tags
        self._counted: set[tuple[int, str]] = set()
        self._is_recorded = True

    def add(self, attempt: Attempt, candidate: Candidate, number: int, at: float, tokens: Tokens | None) -> None:
        """Hands one over.

        Args:
            attempt: What became of it.
            candidate: Who was asked, or passed over.
            number: Which of the call's attempts it is, from 1.
            at: When it began, in seconds since the Unix epoch.
            tokens: What is charged for.
        """
        target = candidate.target
        counts = self._count("", CALL)
        if attempt.outcome != "skipped":
            # Who was not asked has had no call.
            counts |= self._count(target.provider_name, PROVIDER) | self._count(target.name, TARGET)
        if attempt.cost is not None and attempt.cost.usd is None:
            counts |= self._count("", UNPRICED_CALL)
            counts |= self._count(target.provider_name, UNPRICED_PROVIDER) | self._count(target.name, UNPRICED_TARGET)
        if attempt.outcome in ("error", "interrupted"):
            counts |= ERROR
        row = Row(
            at,
            self._request_id,
            number,
            candidate.route,
            target.provider_name,
            target.model,
            self._tags,
            attempt,
            tokens,
            counts,
        )
        if not self._ledger.put(row) and self._is_recorded:
            self._is_recorded = False
            self._ledger.count_unrecorded()

    def _count(self, name: str, what: int) -> int:
        """`what` for the first row of its kind in this call, else 0."""
        if (what, name) in self._counted:
            return 0
        self._counted.add((what, name))
        return what
