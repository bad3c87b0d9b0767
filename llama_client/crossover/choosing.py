"""Which machine to compare with where nobody says: of those that can be rented, the one whose tokens cost least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llama_client.crossover.evaluation import Crossover
from llama_client.crossover.scenario import Scenario
from llama_client.crossover.tables import Tables
from llama_client.errors import InvalidRequestError

# Servers have so many GPUs; a replica is never split over more.
_GPUS_OF_A_REPLICA = (1, 2, 4, 8)
_SIZES_TRIED = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """Machines for a scenario, cheapest first.

    Attributes:
        best: The one that is compared.
        others: The next ones.
    """

    best: Crossover
    others: tuple[Crossover, ...]


def choose(scenario: Scenario, evaluate: Callable[[Scenario], Crossover], *, tables: Tables) -> Choice:
    """Evaluates a scenario on each machine that can be rented and holds the model, and puts the cheapest first.

    Each GPU is taken as often as the model needs it, or twice that where this is cheaper, up to eight. The cheapest is
    that whose month costs least at the scenario's volume; without a volume, whose full replica costs least for a token.
    Machines whose rent has no date come last.

    Args:
        scenario: With no `gpu`; its `n_gpus` is not looked at.
        evaluate: How one is evaluated.
        tables: What is known of GPUs and rents.

    Raises:
        InvalidRequestError: No machine does; the message is that of the last one.
    """
    found: list[Crossover] = []
    error = InvalidRequestError("gpu: no GPU of the tables can be rented; name one", param="gpu")
    for gpu in tables.gpus:
        if tables.rents(gpu.name):
            try:
                found.append(_cheapest(scenario, gpu.name, evaluate))
            except InvalidRequestError as refusal:
                error = refusal
    if not found:
        raise error
    ranked = sorted(found, key=lambda each: (_is_undated(each), _cost(each)))
    return Choice(ranked[0], tuple(ranked[1:]))


def _cheapest(scenario: Scenario, gpu: str, evaluate: Callable[[Scenario], Crossover]) -> Crossover:
    """The scenario on the fewest GPUs of a kind that hold the model and answer in time, or on twice as many."""
    found: list[Crossover] = []
    for count in _GPUS_OF_A_REPLICA:
        try:
            found.append(evaluate(replace(scenario, self_host=replace(scenario.self_host, gpu=gpu, n_gpus=count))))
        except InvalidRequestError:
            if not found and count == _GPUS_OF_A_REPLICA[-1]:
                raise
        if len(found) == _SIZES_TRIED:
            break
    return min(found, key=_cost)


def _is_undated(crossover: Crossover) -> bool:
    rent = crossover.resolved.assumption("gpu_usd_per_hour")
    return rent is not None and not rent.is_given and rent.as_of is None


def _cost(crossover: Crossover) -> float:
    volume = crossover.volume
    if volume is not None:
        return crossover.self_host_usd_per_month(volume)
    full = crossover.replica_tokens_per_day
    return (crossover.self_host_usd_per_month(2 * full) - crossover.self_host_usd_per_month(full)) / full
