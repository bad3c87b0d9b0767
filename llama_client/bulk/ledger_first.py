"""A row that is done is in the ledger: its results wait for the rows of its calls."""

from __future__ import annotations

from collections.abc import Callable

# A ledger that cannot be written does not hold up a job for long: once it was too late, it is waited for less.
_PATIENCE_S, _IMPATIENCE_S = 5.0, 0.25


class LedgerFirst:
    """Waits for the ledger. Blocks.

    Args:
        flush: Waits until the ledger rows of calls that have ended are written, at most so many seconds; None: there
            is no ledger.
    """

    def __init__(self, flush: Callable[[float], bool] | None) -> None:
        self._flush = flush
        self._within_s = _PATIENCE_S

    def wait(self) -> None:
        """Where the ledger is too late, that logs it, and the job goes on as calls do."""
        if self._flush is not None:
            self._within_s = _PATIENCE_S if self._flush(self._within_s) else _IMPATIENCE_S
