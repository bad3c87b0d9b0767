"""The rows of a job, added up by the targets that may answer them: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.costs.money import added

if TYPE_CHECKING:
    from llama_client.routing.targets import Target


@dataclass(slots=True)
class Sums:
    """Of many rows. Amounts are in US dollars; None: unknown."""

    rows: int = 0
    size_bytes: int = 0
    usd: Decimal | None = Decimal(0)
    most_usd: Decimal | None = Decimal(0)

    def add(self, usd: Decimal | None, most_usd: Decimal | None, size_bytes: int = 0) -> None:
        self.rows += 1
        self.size_bytes += size_bytes
        self.usd = sum_of(self.usd, usd)
        self.most_usd = sum_of(self.most_usd, most_usd)


@dataclass(slots=True)
class Group:
    """The rows that may be answered by the same targets.

    Attributes:
        targets: In the order in which the router tries them.
        at_once: Those of them that are asked at once, in the same order.
        now: All of its rows, through the router.
        batches: Those that a batch may hold, by target.
        refusals: Why targets get none, by target.
        local: The target that answers in idle hours; None: none of this machine can.
        idle: All of its rows, there. Of a machine that is paid by the hour `usd` is without its time.
        usd_per_hour: What an hour of that machine costs.
        input_tokens: Of all prompts, estimated.
        output_tokens: Of all answers, estimated.
    """

    targets: tuple[Target, ...]
    at_once: tuple[Target, ...]
    now: Sums = field(default_factory=Sums)
    batches: dict[str, Sums] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    local: Target | None = None
    idle: Sums = field(default_factory=Sums)
    usd_per_hour: Decimal = Decimal(0)
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    @property
    def name(self) -> str:
        return ", ".join(target.name for target in self.at_once)


@dataclass(slots=True)
class Measure:
    """All rows of a job, in memory that does not grow with their number.

    Attributes:
        groups: By the targets that may answer them.
        rows: How many there are, but for those whose answers the cache has.
        input_tokens: Of all prompts, estimated.
        output_tokens: Of all answers, estimated.
        kept_rows: How many have their answers in the cache.
    """

    groups: dict[tuple[str, ...], Group] = field(default_factory=dict)
    rows: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    kept_rows: int = 0


def sum_of(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else added(one, other)
