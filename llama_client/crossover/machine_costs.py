"""What a GPU costs where nobody says: the median of its rents, or a purchase at a known price with its power."""

from __future__ import annotations

import statistics

from llama_client.crossover.assumptions import Assumption, default, given
from llama_client.crossover.book import Book
from llama_client.crossover.economics import Owned
from llama_client.crossover.scenario import Purchase, SelfHost
from llama_client.crossover.tables import Gpu, Tables
from llama_client.errors import InvalidRequestError


def rent(host: SelfHost, gpu: Gpu | None, tables: Tables, book: Book) -> float:
    """US dollars for an hour of one GPU: as given, else the median of what is asked on demand.

    Raises:
        InvalidRequestError: Nobody is known to rent it out.
    """
    if host.gpu_usd_per_hour is not None:
        return book.add(given("gpu_usd_per_hour", host.gpu_usd_per_hour, unit="USD"))
    if gpu is None:
        raise InvalidRequestError(
            "self_host.gpu_usd_per_hour: is required where the GPU is not one of the tables",
            param="self_host.gpu_usd_per_hour",
        )
    quotes = tables.rents(gpu.name)
    if not quotes:
        raise InvalidRequestError(
            f"self_host.gpu_usd_per_hour: nobody is known to rent out a {gpu.title}; give gpu_usd_per_hour, or buy it",
            param="self_host.gpu_usd_per_hour",
        )
    prices = [float(quote.usd_per_gpu_hour) for quote in quotes]
    dated = [quote.as_of for quote in quotes if quote.as_of is not None]
    doubts = [quote.unverified for quote in quotes if quote.unverified]
    one = quotes[0]
    between = f"the median of {len(quotes)} quotes from {one.provider} to {quotes[-1].provider}"
    return book.add(
        Assumption(
            name="gpu_usd_per_hour",
            value=statistics.median(prices),
            unit="USD",
            source=between if len(quotes) > 1 else f"{one.provider}: {one.source}",
            as_of=min(dated, default=None),
            low=prices[0],
            high=prices[-1],
            spread="quotes",
            quotes=tuple(prices),
            unverified=f"{len(doubts)} of {len(quotes)}: {'; '.join(sorted(set(doubts)))}" if doubts else None,
        )
    )


def owned(purchase: Purchase, gpu: Gpu | None, tables: Tables, book: Book) -> Owned:
    """A purchase in numbers.

    Raises:
        InvalidRequestError: Its price or its power is not given, and nobody here knows.
    """
    quote = None if gpu is None else tables.purchase(gpu.name)
    if purchase.usd_per_gpu is None and quote is None:
        raise InvalidRequestError(
            "purchase.usd_per_gpu: nobody here knows what this machine costs; give its price",
            param="purchase.usd_per_gpu",
        )
    if purchase.usd_per_gpu is not None:
        price = book.add(given("usd_per_gpu", purchase.usd_per_gpu, unit="USD"))
    else:
        assert quote is not None
        usd = float(quote.usd_per_gpu)
        found = Assumption(
            "usd_per_gpu",
            usd,
            "USD",
            quote.source,
            quote.as_of,
            low=usd * 0.7,
            high=usd * 1.3,
            unverified=quote.unverified,
        )
        price = book.add(found)
    idle, load = _power(purchase, gpu, book)
    return Owned(
        usd_per_gpu=price,
        months=book.figure("months", purchase.months),
        residual_share=book.figure("residual_share", purchase.residual_share),
        yearly_interest=book.figure("yearly_interest", purchase.yearly_interest),
        idle_w=idle,
        load_w=load,
        node_factor=book.figure("node_factor", purchase.node_factor),
        pue=book.figure("pue", purchase.pue),
        usd_per_kwh=book.figure("usd_per_kwh", purchase.usd_per_kwh, unit="USD"),
        colocation_usd_per_month=purchase.colocation_usd_per_month,
        support_share_per_year=purchase.support_share_per_year,
    )


def _power(purchase: Purchase, gpu: Gpu | None, book: Book) -> tuple[float, float]:
    """A GPU's watts without work and at full work: as given, else by shares of what its maker names."""
    tdp = None if gpu is None else gpu.tdp_w
    watts = []
    for name, row, value in (
        ("idle_w", "idle_share_of_tdp", purchase.idle_w),
        ("load_w", "load_share_of_tdp", purchase.load_w),
    ):
        if value is not None:
            watts.append(book.add(given(name, value, unit="W")))
            continue
        if tdp is None:
            raise InvalidRequestError(
                f"purchase.{name}: is required, since nobody here knows what this machine draws",
                param=f"purchase.{name}",
            )
        share = default(row)
        watts.append(
            book.add(
                Assumption(
                    name,
                    tdp * float(share.value),
                    "W",
                    f"{float(share.value):g} of {tdp:g} W: {share.source}",
                    share.as_of,
                    is_judgement=share.is_judgement,
                )
            )
        )
    return min(watts), max(watts)
