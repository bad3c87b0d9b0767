"""What a plan of a fleet consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from llama_client.crossover.assumptions import Assumption
from llama_client.crossover.scenario import FleetKind

Placement: TypeAlias = Literal["at once", "api batch", "idle hours", "together"]


@dataclass(frozen=True, slots=True)
class FleetPart:
    """One kind of supply in a fleet.

    Attributes:
        kind: The kind.
        name: The same in words, with the seller where one is known.
        replicas: The most that run at once, spare ones included; None: an API.
        replica_hours_per_month: What is paid for; None: an API.
        usd_per_month: Its cost, without staff.
        token_share: The share of all tokens that it serves.
    """

    kind: FleetKind
    name: str
    replicas: int | None
    replica_hours_per_month: float | None
    usd_per_month: float
    token_share: float


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Replicas that start, and what comes meanwhile.

    Attributes:
        starts_per_day: Starts of replicas.
        start_s: How long one takes.
        waiting_tokens_per_day: Tokens of requests that wait for a start.
        waiting_requests_per_day: The same in requests of mean length.
        longest_wait_s: The longest wait for a start.
        api_tokens_per_day: Tokens that go to the API instead of waiting.
    """

    starts_per_day: float
    start_s: float
    waiting_tokens_per_day: float
    waiting_requests_per_day: float
    longest_wait_s: float
    api_tokens_per_day: float


@dataclass(frozen=True, slots=True)
class BatchWork:
    """Where the work goes that may wait.

    Attributes:
        placement: The place.
        title: The same in words.
        api: The API that takes some of it; None: none does.
        api_share: The share of it that goes there, at the batch price.
        moved_share: The share of it that machines serve, in this hour or a later one.
        longest_wait_hours: The longest that any of that waits.
    """

    placement: Placement
    title: str
    api: str | None
    api_share: float
    moved_share: float
    longest_wait_hours: int


@dataclass(frozen=True, slots=True)
class Considered:
    """An alternative that lost.

    Attributes:
        name: What it is.
        usd_per_month: Its cost with staff; None: it is not possible.
        why: Why it lost.
    """

    name: str
    usd_per_month: float | None
    why: str


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The cheapest fleet for a load by the hour.

    Attributes:
        hours: The hours of the curve, which repeats.
        tokens_per_day: Its mean volume.
        peak_to_mean: Its busiest hour against the mean one.
        source: Where the curve comes from.
        replica_tokens_per_hour: What one replica serves in an hour, within limits, utilisation and headroom.
        usd_per_month: All of it, with staff.
        parts: What it consists of, steadiest first.
        fixed_usd_per_month: Staff and disks.
        cold_starts: How often replicas start, and what waits for them.
        batch: Where the work goes that may wait; None: none may.
        considered: What else was considered, and why it lost.
        explanation: Why it is so, in sentences, and which of its prices are in doubt.
        assumptions: The figures that it rests on beside those of the crossover.
    """

    hours: int
    tokens_per_day: float
    peak_to_mean: float
    source: str
    replica_tokens_per_hour: float
    usd_per_month: float
    parts: tuple[FleetPart, ...]
    fixed_usd_per_month: float
    cold_starts: ColdStarts
    batch: BatchWork | None
    considered: tuple[Considered, ...]
    explanation: tuple[str, ...]
    assumptions: tuple[Assumption, ...]

    def part(self, kind: FleetKind) -> FleetPart | None:
        """The part of a kind; None: it has none.

        Args:
            kind: The kind.
        """
        return next((part for part in self.parts if part.kind == kind), None)
