"""How many GPUs a replica has, where none is given: the fewest that hold the model in time, or twice as many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from llama_client.crossover.parallelism import proposed
from llama_client.crossover.precisions import canonical
from llama_client.crossover.resolve import has_own_rate, served_as
from llama_client.crossover.scenario import Scenario
from llama_client.crossover.tables import Tables
from llama_client.crossover.throughput.points import CPU, MeasuredPoint, is_usable
from llama_client.crossover.throughput.replica import Replica
from llama_client.errors import InvalidRequestError

_Answer = TypeVar("_Answer")


def possible_sizes(scenario: Scenario, tables: Tables, measured: Sequence[MeasuredPoint]) -> list[int]:
    """The numbers of GPUs to try, the smallest first: those that engines take, and those that were measured."""
    host = scenario.self_host
    if host.gpu in (None, CPU) or scenario.model is None:
        return [1]
    gpu = tables.gpu(host.gpu, param="self_host.gpu")
    model = tables.find_model(scenario.model)
    if model is None:
        # Resolving says what is wrong; a measured rate needs no row.
        return [1]
    precision_given = None if host.precision is None else canonical(host.precision, param="self_host.precision")
    precision, engine = served_as(host, precision_given, model, gpu, 1, ())
    # A chip with the memory of its computer is alone there.
    sizes = [1] if gpu.memory_kind == "unified" else proposed(model, engine)
    if not has_own_rate(host):
        own = {
            point.n_gpus
            for point in measured
            if (point.model, point.gpu) == (model.name, gpu.name)
            and precision_given in (None, point.precision)
            and (host.engine is None or engine == point.engine)
            and is_usable(point, model, gpu)
        }
        # Own measurements mean that machine.
        return sorted(own or sizes)
    # A given rate is proof that it ran: on as few as hold the model.
    held = (size for size in sizes if _holds(Replica(model, gpu, size, precision, engine)))
    return [next(held, 1)]


def smallest(
    sizes: Sequence[int],
    scenario: Scenario,
    evaluate: Callable[[Scenario], _Answer],
    *,
    is_in_time: Callable[[_Answer], bool],
    cost: Callable[[_Answer], float],
) -> _Answer:
    """The scenario on the fewest GPUs that hold the model in time, or on twice as many if that is cheaper."""

    def at(size: int) -> _Answer:
        return evaluate(replace(scenario, self_host=replace(scenario.self_host, n_gpus=size)))

    late: list[_Answer] = []
    refusals: list[InvalidRequestError] = []
    for size in sizes:
        try:
            answer = at(size)
        except InvalidRequestError as refusal:
            refusals.append(refusal)
            continue
        if not is_in_time(answer):
            late.append(answer)
        elif 2 * size in sizes:
            return min(answer, at(2 * size), key=cost)
        else:
            return answer
    if not late:
        raise refusals[-1]
    return min(late, key=cost)


def _holds(replica: Replica) -> bool:
    try:
        return replica.largest_batch(1, 1) > 0
    except InvalidRequestError:
        return False
