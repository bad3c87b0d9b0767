"""What is known of a call before it is made."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from llama_client.types.base import AnswerModel


class TokenCount(AnswerModel):
    """How many tokens a prompt has.

    Attributes:
        tokens: Probably.
        most_tokens: At the very most, which is what budgets count with: a token has a byte or more.
        status: `estimated`: by its bytes. Nobody's tokenizer is asked.
    """

    tokens: int
    most_tokens: int
    status: Literal["estimated"] = "estimated"


class CostEstimate(AnswerModel):
    """What a call would cost with the first target that it would ask.

    Attributes:
        target: Who: `provider/model`.
        usd: Probably; None: no price is known.
        most_usd: At the very most, which is what budgets set aside; None: nobody knows.
        status: `free`, `estimated` or `unknown`.
        input_tokens: Of the prompt, probably.
        output_tokens: Of the answer, probably: as long as answers were of late, and at most `max_tokens`.
        source: Where the price comes from.
    """

    target: str
    usd: Decimal | None = None
    most_usd: Decimal | None = None
    status: Literal["free", "estimated", "unknown"] = "unknown"
    input_tokens: int
    output_tokens: int
    source: str | None = None
