"""What a call cost."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from llama_client.types.base import AnswerModel

CostStatus = Literal["exact", "estimated", "free", "unknown"]


class Cost(AnswerModel):
    """Money, in US dollars.

    Attributes:
        usd: The total; None where no price is known. Never 0 for want of a price.
        status: The worst of its parts: `free` (nobody is paid by the token), `exact`, `estimated`, `unknown`.
        input_usd: For prompt tokens that were not cached.
        cached_usd: For cached prompt tokens.
        output_usd: For the answer. The three add up to `usd`.
        source: Where the price comes from.
        effective_from: Since when that price holds.
    """

    usd: Decimal | None = None
    status: CostStatus = "unknown"
    input_usd: Decimal | None = None
    cached_usd: Decimal | None = None
    output_usd: Decimal | None = None
    source: str | None = None
    effective_from: date | None = None
