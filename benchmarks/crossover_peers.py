"""What other calculators say to the same cases as this package, as the tables of docs/guides/crossover-compared.md.

Each formula is written down here from its published source, which the page names with its version. Without arguments
the tables are printed; `--write` puts them into the page.

    python benchmarks/crossover_peers.py [--write]
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from llama_client.crossover import ApiPrice, Crossover, Purchase, Scenario, SelfHost, Traffic, evaluate
from llama_client.crossover.format import counted, share, tokens, usd

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "crossover-compared.md"
TABLE = re.compile(r"(?<=<!-- benchmarks/crossover_peers.py --write: (\w{5}) -->\n)(?:\|.*\n)+")
# The day from which ages of figures are counted, whenever the tables are made.
TODAY = date(2026, 11, 30)
DRAWS = 10_000
HOURS_A_MONTH, DAYS_A_MONTH = 730, 730 / 24

# The common case.
VOLUME, OUTPUT_SHARE, PEAK, REQUEST = 2e9, 0.2, 2.5, 2000
GPUS, RENT = 2, 2.69
# What some of them need beside it, for a purchase: infercost's sample profile of H100 SXM.
USD_PER_GPU, GPU_WATTS, MEMORY_GB_PER_S, WEIGHTS_GB = 35_000, 700, 3350, 70.6


@dataclass(frozen=True)
class Api:
    """A price by the token, in US dollars per million."""

    input_usd: float
    output_usd: float
    name: str = ""

    def blended(self, output_share: float = OUTPUT_SHARE) -> float:
        """A million tokens of the mix."""
        return (1 - output_share) * self.input_usd + output_share * self.output_usd

    def usd_per_month(self, days: float = DAYS_A_MONTH) -> float:
        """The common case's bill."""
        return VOLUME * days / 1e6 * self.blended()

    @property
    def prices(self) -> str:
        """As in `$0.10/$0.32`."""
        return f"${self.input_usd:.2f}/${self.output_usd:.2f}"

    @property
    def offer(self) -> ApiPrice:
        """The same for this package."""
        return ApiPrice(input_usd_per_mtok=self.input_usd, output_usd_per_mtok=self.output_usd)


CHEAPEST, DEARER = Api(0.10, 0.32), Api(0.88, 0.88)
APIS = (CHEAPEST, DEARER)
ANSWERS = {"self-host": "self-host", "api": "API", "never": "API", "depends": "depends"}
Row = tuple[str, ...]


def ours(api: Api, purchase: Purchase | None = None) -> Crossover:
    """This package's answer to the common case."""
    machine = SelfHost(
        gpu="h100_sxm",
        n_gpus=GPUS,
        precision="fp8",
        gpu_usd_per_hour=None if purchase else RENT,
        purchase=purchase,
    )
    traffic = Traffic(tokens_per_day=VOLUME, output_share=OUTPUT_SHARE, peak_to_mean=PEAK, tokens_per_request=REQUEST)
    scenario = Scenario(model="llama-3.3-70b", traffic=traffic, self_host=machine, apis=[api.offer])
    return evaluate(scenario, draws=DRAWS, today=TODAY)


def own_rows() -> Iterator[Row]:
    """This package: rented, and bought for the calculators that know purchases alone."""
    for name, purchase in (
        ("**llama-client**, rented", None),
        (f"**llama-client**, bought at {usd(USD_PER_GPU)} a GPU", Purchase(usd_per_gpu=USD_PER_GPU, computer_usd=0)),
    ):
        found = [ours(api, purchase) for api in APIS]
        machines = counted(found[0].replicas(VOLUME), "replica")
        month = usd(found[0].self_host_usd_per_month(VOLUME))
        yield f"{name}", f"{month} a month: {machines}", *(_answer(each) for each in found)


def _answer(found: Crossover) -> str:
    likely, bought = found.probability, found.investment()
    assert likely is not None
    said = [f"{ANSWERS[found.verdict]}: cheaper on own machines in {share(likely)} of the draws"]
    said += [_payback(bought.payback_months)] if bought is not None else []
    return "; ".join(said)


def rent_over_price(_: Crossover) -> Row:
    """Rearchitecting LLMs, listing 12.8: the rate at which one machine's rent is what the API asks."""
    volumes = [GPUS * RENT * 24 / api.blended() * 1e6 for api in APIS]
    return (
        "rent / price",
        f"{usd(GPUS * RENT * HOURS_A_MONTH)} a month: one machine",
        *(f"{_winner(volume < VOLUME)}: from {tokens(volume)} a day on" for volume in volumes),
    )


def cost_calculator_studio(found: Crossover) -> Row:
    """Whole instances for the busiest time with headroom, in its mode "realistic"; months of 30 days."""
    derate, headroom, least = 0.75, 1.5, 2
    fixed_usd = 1800 + 8000 + 8333  # operations, people, setup
    tokens_per_second = found.plan.tokens_per_second / OUTPUT_SHARE  # its requests count all their tokens
    instances = max(least, math.ceil(VOLUME / 86_400 * PEAK * headroom / (tokens_per_second * derate)))
    month = instances * GPUS * RENT * HOURS_A_MONTH + fixed_usd
    return (
        "ai-cost-calculator-studio",
        f"{usd(month)} a month: {instances} instances",
        *(f"{_winner(month < api.usd_per_month(30))}: {usd(api.usd_per_month(30))}" for api in APIS),
    )


def vllm_cost_meter(found: Crossover) -> Row:
    """The rent over the output tokens that the fleet writes, beside a price of all tokens of its own mix."""
    output_share = 256 / (512 + 256)
    rent = found.replicas(VOLUME) * GPUS * RENT
    usd_per_mtok = rent / (VOLUME * OUTPUT_SHARE / 24 / 1e6)
    prices = [api.blended(output_share) for api in APIS]
    return (
        "vllm-cost-meter",
        f"{usd(usd_per_mtok)} a million output tokens, on {counted(found.replicas(VOLUME), 'replica')}",
        *(f"{_winner(usd_per_mtok < price)}: {usd(price)} a million" for price in prices),
    )


def depth_lens(found: Crossover) -> Row:
    """The rent of the seconds that a call takes; here on a replica that is full all the time."""
    usd_per_call = REQUEST * OUTPUT_SHARE / found.plan.tokens_per_second * GPUS * RENT / 3600
    calls = VOLUME * DAYS_A_MONTH / REQUEST
    prices = [api.blended() * REQUEST / 1e6 for api in APIS]
    return (
        "depth-lens",
        f"{usd(usd_per_call * 1000)} a thousand calls ({usd(usd_per_call * calls)} a month)",
        *(f"{_winner(usd_per_call < price)}: {usd(price * 1000)} a thousand" for price in prices),
    )


def infercost(found: Crossover) -> Row:
    """Price and maintenance over the hours of three years, and measured power, here that of the data sheet."""
    gpus = found.replicas(VOLUME) * GPUS
    years, maintenance, usd_per_kwh, pue = 3, 0.10, 0.12, 1.4
    capital = gpus * USD_PER_GPU * (1 + maintenance) / (years * 8760)
    month = (capital + gpus * GPU_WATTS / 1000 * usd_per_kwh * pue) * HOURS_A_MONTH
    return (
        "infercost",
        f"{usd(month)} a month: {gpus} GPUs that are there",
        *(f"{_winner(month < api.usd_per_month())}: {usd(api.usd_per_month())}" for api in APIS),
    )


def sunkcost(_: Crossover) -> Row:
    """The days after which one machine has saved its price, at the speed of one request at a time."""
    efficiency, usd_per_kwh, end_of_its_slider = 0.75, 0.17, 20e6
    tokens_per_second = GPUS * MEMORY_GB_PER_S / WEIGHTS_GB * efficiency
    volume = min(VOLUME, tokens_per_second / OUTPUT_SHARE * 86_400, end_of_its_slider)
    power = volume * OUTPUT_SHARE / tokens_per_second / 3600 * GPUS * GPU_WATTS / 1000 * usd_per_kwh
    savings = [volume / 1e6 * api.blended() - power for api in APIS]
    months = [GPUS * USD_PER_GPU / saving / DAYS_A_MONTH if saving > 0 else None for saving in savings]
    return (
        "sunkcost",
        f"{usd(GPUS * USD_PER_GPU)} once, {usd(power)} a day: one machine, {tokens(volume)} a day",
        *(f"{_winner(month is not None)}: {_payback(month)}" for month in months),
    )


def pan_et_al(found: Crossover) -> Row:
    """arXiv 2509.18101: one machine's price over what a month of the API costs more than a month of its power."""
    mtok = found.plan.tokens_per_second * 3600 * PAPER_HOURS / 1e6
    power = GPUS * GPU_WATTS / 1000 * PAPER_HOURS * PAPER_USD_PER_KWH
    savings = [mtok * api.blended() - power for api in APIS]
    months = [GPUS * USD_PER_GPU / saving if saving > 0 else None for saving in savings]
    return (
        "Pan et al.",
        f"{usd(GPUS * USD_PER_GPU)} once: one machine, full at {tokens(mtok * 1e6 / DAYS_A_MONTH)} a day",
        *(f"{_winner(month is not None)}: {_payback(month)}" for month in months),
    )


# The capacities that the paper prints are those of 176 hours, 8 on each of 22 days.
PAPER_HOURS = 176
PAPER_OUTPUT_SHARE, PAPER_TOKENS_PER_SECOND, PAPER_USD, PAPER_KW, PAPER_USD_PER_KWH = 2 / 3, 190, 15_000, 0.4, 0.15
# Llama-3.3-70B on one A100: what the paper's table says, where it has the API.
PAPER_CASES = (
    (Api(1.25, 10, "GPT-5"), "17.8 months"),
    (Api(3, 15, "Grok-4"), "11.4 months"),
    (Api(15, 75, "Claude-4 Opus"), "2.3 months"),
    (Api(0.88, 0.88, "the same model"), "not asked"),
    (Api(0.10, 0.32, "the same model"), "not asked"),
)


def paper_rows() -> Iterator[Row]:
    """The paper's own case: as published, and by this package with the paper's assumptions and with its own."""
    own_machine = SelfHost(
        gpu="a100_sxm_80",
        n_gpus=1,
        precision="int4",  # at 8 bits, the weights leave no room for a cache
        purchase=Purchase(usd_per_gpu=PAPER_USD, usd_per_kwh=PAPER_USD_PER_KWH),
    )
    papers_machine = SelfHost(
        total_tokens_per_second=PAPER_TOKENS_PER_SECOND,
        powered_hours_per_month=PAPER_HOURS,
        slo_derate=1,
        max_utilisation=1,
        spare=0,
        ops_usd_per_month=0,
        purchase=Purchase(
            usd_per_gpu=PAPER_USD,
            idle_w=0,
            load_w=PAPER_KW * 1000,
            node_factor=1,
            pue=1,
            usd_per_kwh=PAPER_USD_PER_KWH,
        ),
    )
    for api, published in PAPER_CASES:
        rule = paper_payback(api, None, papers_machine, peak_to_mean=1)
        own = paper_payback(api, "llama-3.3-70b", own_machine, peak_to_mean=None)
        yield f"{api.name}, {api.prices}", published, _months(rule), _months(own)


def paper_payback(api: Api, model: str | None, machine: SelfHost, *, peak_to_mean: float | None) -> float | None:
    """Months until a machine is paid back at the volume that the paper's machine writes."""
    volume = PAPER_TOKENS_PER_SECOND * 3600 * PAPER_HOURS / DAYS_A_MONTH
    traffic = Traffic(tokens_per_day=volume, output_share=PAPER_OUTPUT_SHARE, peak_to_mean=peak_to_mean)
    scenario = Scenario(model=model, traffic=traffic, self_host=machine, apis=[api.offer])
    bought = evaluate(scenario, today=TODAY).investment()
    assert bought is not None
    return bought.payback_months


PEERS = (
    rent_over_price,
    cost_calculator_studio,
    vllm_cost_meter,
    depth_lens,
    infercost,
    sunkcost,
    pan_et_al,
)


def tables() -> dict[str, str]:
    """The page's tables by the names of their places, as Markdown."""
    found = ours(CHEAPEST)
    bill = [f"an API at {api.prices}: {usd(api.usd_per_month())} a month" for api in APIS]
    return {
        "cases": _markdown(("", "own machines", *bill), [*own_rows(), *(peer(found) for peer in PEERS)]),
        "paper": _markdown(
            ("replaced API", "published", "llama-client, with the paper's assumptions", "with its own"),
            list(paper_rows()),
        ),
    }


def _winner(is_own: bool) -> str:
    return "self-host" if is_own else "API"


def _months(months: float | None) -> str:
    return "never" if months is None else f"{months:,.1f} months"


def _payback(months: float | None) -> str:
    return "never pays off" if months is None else f"pays off after {months:,.0f} months"


def _markdown(head: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Prints the tables, or writes them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    made = tables()
    if parser.parse_args().write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(TABLE.sub(lambda place: made[place[1]], text), encoding="utf-8")
    else:
        print("\n".join(made.values()), end="")


if __name__ == "__main__":
    main()
