"""Tables and traffic of the user: `[crossover]` in the configuration, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from llama_client.config.schema import Config
from llama_client.crossover.format import counted
from llama_client.crossover.scenario import Traffic, invalid
from llama_client.crossover.tables import Architecture, Experts, Gpu, GpuPrice, Tables
from llama_client.errors import ConfigError, InvalidRequestError
from llama_client.types.report import TrafficReport


def tables_of(config: Config) -> Tables:
    """The package's tables with the rows of a configuration, which win over those of the same name."""
    own = config.crossover
    models = [dict(row) | {"moe": row.moe and Experts(**dict(row.moe))} for row in own.models]
    tables = Tables.bundled().extended(
        models=[Architecture(**row) for row in models], gpus=[Gpu(**dict(row)) for row in own.gpus]
    )
    prices = []
    for number, price in enumerate(own.gpu_prices):
        field = f"crossover.gpu_prices[{number}].gpu"
        try:
            name = tables.gpu(price.gpu, param=field).name
        except InvalidRequestError as error:
            raise ConfigError(str(error), key=field) from error
        prices.append(GpuPrice(**(dict(price) | {"gpu": name})))
    return tables.extended(gpu_prices=prices)


# Fewer calls are no sample of a day.
_FEW_CALLS = 100


def traffic_of(report: TrafficReport) -> Traffic:
    """The calls of a period as the traffic of a scenario."""
    since = "" if report.since is None else f" since {report.since:%Y-%m-%d %H:%M}"
    if not report.calls:
        sentence = f"no answered call is recorded{since}; give tokens_per_day, or make some calls first"
        raise invalid("from_ledger", sentence)
    if not report.tokens_per_day or not report.output_share:
        raise invalid("from_ledger", f"the recorded calls{since} have no output tokens; give tokens_per_day")
    assert report.mean_input_tokens is not None
    assert report.mean_output_tokens is not None
    days = "a day" if report.days == 1 else f"{report.days:.1f} days"
    return Traffic(
        tokens_per_day=report.tokens_per_day,
        output_share=report.output_share,
        cached_share=report.cached_share,
        tokens_per_request=report.mean_input_tokens + report.mean_output_tokens,
        peak_to_mean=report.peak_to_mean,
        hourly_tokens=tuple(float(hour) for hour in report.hourly_tokens),
        source=f"your ledger: {counted(report.calls, 'call')} in {days}",
        notes=tuple(_notes(report)),
    )


def _notes(report: TrafficReport) -> Iterator[str]:
    if report.calls < _FEW_CALLS:
        yield f"Your ledger has {counted(report.calls, 'call')}: too few to tell load and peak from chance."
    if report.unrecorded_calls:
        yield f"{report.unrecorded_calls:,} calls were not recorded, or not fully; the volume does not include them."
    if report.estimated_calls:
        yield f"The tokens of {report.estimated_calls:,} calls are estimated by their bytes."
    if report.older_calls:
        yield f"{report.older_calls:,} calls are older than 400 days, and left out."
