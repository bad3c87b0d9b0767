"""What an attempt cost."""

from __future__ import annotations

from decimal import Decimal

from llama_client.types.cost import Cost


def price(*, is_free: bool) -> Cost:
    """The cost of one attempt: nothing on this machine, and unknown, never 0, wherever no price is known."""
    if not is_free:
        return Cost()
    zero = Decimal(0)
    return Cost(usd=zero, status="free", input_usd=zero, cached_usd=zero, output_usd=zero, source="local")
