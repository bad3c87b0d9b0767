"""What a job would ask, and what it may cost: counted and estimated, nothing is sent."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.bulk.progress_text import about
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client import LlamaClient
    from llama_client.bulk.rows import Row
    from llama_client.types.report import CostEstimate

# Enough for a mean within a few percent where prompts are alike; their estimates take well under a second.
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a job would be. Amounts are in US dollars.

    Attributes:
        rows: How many rows it has.
        sampled: Rows by which the rest is estimated, drawn at random.
        targets: What answers them first.
        input_tokens: The estimated tokens of all prompts.
        output_tokens: The expected tokens of all answers.
        usd: The expected cost; None: a price is unknown.
        most_usd: The cost if each answer is as long as it may be; None: a price, or
            the longest answer, is unknown.
    """

    rows: int
    sampled: int
    targets: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    usd: Decimal | None
    most_usd: Decimal | None

    def lines(self) -> list[str]:
        how = "" if self.sampled == self.rows else f", estimated from {self.sampled:,} of them"
        targets = ", ".join(self.targets[:3]) + (", ..." if len(self.targets) > 3 else "")
        most = "no limit known without --max-tokens" if self.most_usd is None else f"at most {about(self.most_usd)}"
        if self.usd is None:
            cost = "cost unknown: there is no price for a target"
        elif not self.usd and not self.most_usd:
            cost = "cost $0"
        else:
            cost = f"cost about {about(self.usd)}, {most}; retries come on top"
        return [
            f"{self.rows:,} {'row' if self.rows == 1 else 'rows'} for {targets}{how}",
            f"about {self.input_tokens:,} tokens in, {self.output_tokens:,} out",
            cost,
            "nothing was asked",
        ]


def estimated(client: LlamaClient, source: str, **options: Any) -> DryRun:
    """Reads all rows, and estimates a sample of them.

    Raises:
        InvalidRequestError: The input cannot be used, or a row is broken.
        ConfigError: A model is unknown.
    """
    from llama_client.bulk.inputs.opening import open_input

    # The same sample each time: the same command says the same.
    chance, count = random.Random(0), 0  # noqa: S311 - no secret
    sample: list[Row] = []
    for count, row in enumerate(open_input(source, **options).rows(), start=1):
        if len(sample) < _SAMPLE:
            sample.append(row)
        elif (place := chance.randrange(count)) < _SAMPLE:
            sample[place] = row
    if not sample:
        raise InvalidRequestError(f"IN: {source} has no rows")
    estimates = [_of_row(client, row) for row in sample]
    scale = Decimal(count) / len(estimates)
    return DryRun(
        count,
        len(estimates),
        tuple(dict.fromkeys(each.target for each in estimates)),
        int(sum(each.input_tokens for each in estimates) * scale),
        int(sum(each.output_tokens for each in estimates) * scale),
        _total([each.usd for each in estimates], scale),
        _total([each.most_usd for each in estimates], scale),
    )


def _of_row(client: LlamaClient, row: Row) -> CostEstimate:
    most = row.params.get("max_tokens") or row.params.get("max_completion_tokens")
    return client.estimate_cost(row.params["messages"], row.params.get("model"), max_tokens=most)


def _total(amounts: list[Decimal | None], scale: Decimal) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(amounts):
        return None
    return (sum(known, Decimal(0)) * scale).quantize(Decimal("1e-12"))
