"""The result of a row, and its form in the journal of a job."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.errors import LlamaClientError
    from llama_client.types.completion import ChatCompletion

Venue = Literal["now", "batch", "idle", "cache"]
"""Where a row was answered: at once through the router, by a provider's batch API, by a model of this machine in idle
hours, or from the response cache."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of a row: an answer or an error.

    Attributes:
        row: The request.
        completion: The answer; None: it failed.
        error: Why it failed; None: it was answered.
        venue: Where.
        usd: What all its attempts cost, in US dollars, those of errors included; None: unknown.
        is_earlier: Whether an earlier run of the job had it.
    """

    row: Row
    completion: ChatCompletion | None
    error: LlamaClientError | None = None
    venue: Venue = "now"
    usd: Decimal | None = None
    is_earlier: bool = False

    @property
    def text(self) -> str | None:
        """The answer's text; None: it failed, or has none."""
        return self.completion.text if self.completion else None
