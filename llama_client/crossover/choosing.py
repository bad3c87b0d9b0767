"""Which machine to compare with where nobody says: of those that can be rented, the one whose tokens cost least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llama_client.crossover.evaluation import Crossover
from llama_client.crossover.scenario import Scenario
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

# Servers have so many GPUs; a replica is never split over more.
_GPUS_OF_A_REPLICA = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Choice:
    """Machines for a scenario, cheapest first.

    Attributes:
        best: The one that is compared.
        others: The next ones.
        refused: Those that could not be calculated, and why.
    """

    best: Crossover
    others: tuple[Crossover, ...]
    refused: tuple[tuple[str, InvalidRequestError], ...]


def choose(scenario: Scenario, evaluate: Callable[[Scenario], Crossover], *, tables: Tables) -> Choice:
    """Evaluates a scenario on each machine that can be rented and holds the model, and puts the cheapest first.

    Each GPU is taken as often as the model needs it, up to eight. The cheapest is that whose month costs least at the
    scenario's volume; without a volume, whose full replica costs least for a token.

    Args:
        scenario: With no `gpu`; its `n_gpus` is not looked at.
        evaluate: How one is evaluated.
        tables: What is known of GPUs and rents.

    Raises:
        InvalidRequestError: No machine does; the message is that of the last one.
    """
    found: list[Crossover] = []
    refused: list[tuple[str, InvalidRequestError]] = []
    for gpu in tables.gpus:
        if not tables.rents(gpu.name):
            continue
        crossover, error = _smallest(scenario, gpu.name, evaluate)
        if crossover is not None:
            found.append(crossover)
        elif error is not None:
            refused.append((gpu.name, error))
    if not found:
        raise refused[-1][1]
    ranked = sorted(found, key=_cost)
    return Choice(ranked[0], tuple(ranked[1:]), tuple(refused))


def _smallest(
    scenario: Scenario, gpu: str, evaluate: Callable[[Scenario], Crossover], counts: Sequence[int] = _GPUS_OF_A_REPLICA
) -> tuple[Crossover | None, InvalidRequestError | None]:
    """The scenario on the fewest GPUs of a kind that hold the model and answer in time."""
    error = None
    for count in counts:
        try:
            return evaluate(replace(scenario, self_host=replace(scenario.self_host, gpu=gpu, n_gpus=count))), None
        except InvalidRequestError as refusal:
            error = refusal
    return None, error


def _cost(crossover: Crossover) -> float:
    volume = crossover.volume
    if volume is not None:
        return crossover.self_host_usd_per_month(volume)
    full = crossover.replica_tokens_per_day
    return (crossover.self_host_usd_per_month(2 * full) - crossover.self_host_usd_per_month(full)) / full
