"""What stands around bought GPUs: the computer that is bought with them, and its place in a rack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cache

from llama_client.crossover.assumptions import Assumption, AssumptionLog
from llama_client.crossover.economics import BoughtHardware, CostInputs, Owned, bought_hardware, staircase
from llama_client.crossover.format import counted
from llama_client.crossover.scenario import Purchase
from llama_client.crossover.tables import Gpu, data_of, rows

# What a chip that shares its memory with the processor is bought as.
_WHOLE = "whole computer"


@dataclass(frozen=True, slots=True)
class Computer:
    """A row of `data/computers.toml`."""

    title: str
    gpus: int
    usd: float
    low: float
    high: float
    fits: tuple[str, ...]
    source: str
    memory_kind: str | None = None
    is_sold_full: bool = False
    in_rack: bool = False
    unverified: str | None = None
    as_of: date | None = None


@cache
def _computers() -> tuple[Computer, ...]:
    return tuple(Computer(**(row | {"fits": tuple(row["fits"])})) for row in rows("computers.toml", "computers"))


def computers_for(gpu: Gpu) -> tuple[Computer, ...]:
    """The computers that a GPU goes into; empty: the chip is one of its own."""
    if gpu.memory_kind == "unified":
        return ()
    named = tuple(row for row in _computers() if gpu.name in row.fits)
    return named or tuple(row for row in _computers() if row.memory_kind == gpu.memory_kind)


def is_on_desk(gpu: Gpu) -> bool:
    """Whether what is bought stands in an office or at home, and not in a data centre."""
    return not any(row.in_rack for row in computers_for(gpu))


def with_computer(
    plan: CostInputs, purchase: Purchase, gpu: Gpu | None, tokens_per_day: float | None, log: AssumptionLog
) -> CostInputs:
    """The plan of a purchase with what stands around its GPUs: as given, else of the table."""
    owned = plan.owned
    assert owned is not None
    row = None if gpu is None else _cheapest(plan, owned, purchase, gpu, tokens_per_day)
    if purchase.computer_usd is not None:
        log.given("computer_usd", purchase.computer_usd, unit="USD")
    elif row is not None:
        source = f"a {row.title} of {row.gpus}: {row.source}"
        known = Assumption("computer_usd", row.usd, "USD", source, row.as_of, unverified=row.unverified)
        log.add(replace(known, low=row.low, high=row.high, spread="triangular"))
    if purchase.gpus_per_computer is not None:
        log.given("gpus_per_computer", purchase.gpus_per_computer)
    around = _around(owned, purchase, row, gpu)
    if around.kw_per_gpu:
        place = data_of("computers.toml")["colocation"]
        known = Assumption("colocation_usd_per_kw", place["usd_per_kw"], "USD a month", place["source"], place["as_of"])
        bounds = replace(known, low=place["low"], high=place["high"], spread="triangular")
        around = replace(around, colocation_usd_per_kw=log.add(replace(bounds, unverified=place["unverified"])))
    return replace(plan, owned=around)


def _cheapest(
    plan: CostInputs, owned: Owned, purchase: Purchase, gpu: Gpu, tokens_per_day: float | None
) -> Computer | None:
    """The computer with which a fleet costs the least; without a volume, a large one. None: none is known."""
    known = computers_for(gpu)
    wanted = purchase.gpus_per_computer or plan.n_gpus
    most = max((row.gpus for row in known), default=0)

    def cost(row: Computer) -> float:
        stairs = staircase(replace(plan, owned=_around(owned, purchase, row, gpu)))
        return stairs.usd_per_full_replica if tokens_per_day is None else stairs.usd(tokens_per_day)

    return min((row for row in known if row.gpus >= min(wanted, most)), key=cost, default=None)


def _around(owned: Owned, purchase: Purchase, row: Computer | None, gpu: Gpu | None) -> Owned:
    is_computer = gpu is not None and gpu.memory_kind == "unified"
    title = row.title if row is not None else _WHOLE if is_computer else "computer"
    is_known = row is not None or is_computer or purchase.gpus_per_computer is not None
    needs_place = row is not None and row.in_rack and purchase.colocation_usd_per_month is None
    watts = owned.load_w if gpu is None or gpu.tdp_w is None else max(gpu.tdp_w, owned.load_w)
    return replace(
        owned,
        computer=title if is_known else None,
        gpus_per_computer=purchase.gpus_per_computer or (1 if row is None else row.gpus),
        computer_usd=purchase.computer_usd if purchase.computer_usd is not None else 0.0 if row is None else row.usd,
        is_sold_full=row is not None and row.is_sold_full,
        kw_per_gpu=watts * owned.node_factor / 1000 if needs_place else 0.0,
    )


def hardware_in_words(bought: BoughtHardware) -> str:
    """The hardware, as in `22 GPUs in 3 servers of 8`."""
    if bought.computers is None or bought.computer is None:
        return counted(bought.gpus, "GPU")
    computers = counted(bought.computers, bought.computer)
    if bought.computer == _WHOLE:
        return computers
    room = f" of {bought.gpus_per_computer}" if bought.gpus_per_computer > 1 else ""
    return f"{counted(bought.gpus, 'GPU')} in {computers}{room}"


def hardware_of(plan: CostInputs, tokens_per_day: float) -> BoughtHardware | None:
    """What is bought for a volume; None: it is rented."""
    return bought_hardware(plan, staircase(plan).replicas(tokens_per_day))
