"""`llama-client crossover`: when self-hosting is cheaper than an API."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option, name_option
from llama_client.cli.terminal import answer_console, is_terminal, one_line, printable, table_of
from llama_client.crossover.assumptions import STALE_AFTER_DAYS
from llama_client.crossover.evaluation import Crossover, RankedMachines, cheapest_machine, evaluate
from llama_client.crossover.format import in_words
from llama_client.crossover.headline import machine, title_of
from llama_client.crossover.offers import Offers, OwnPrice, offer_named, offers_of
from llama_client.crossover.report import as_document, report
from llama_client.crossover.report_tables import tables
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic
from llama_client.errors import InvalidRequestError, MissingExtraError
from llama_client.figures import ENDINGS

if TYPE_CHECKING:
    from rich.console import Console

    from llama_client.catalog.catalog import Catalog
    from llama_client.config.schema import Config
    from llama_client.crossover.fleets.parts import FleetPlan
    from llama_client.crossover.report_tables import Table
    from llama_client.crossover.tables import Tables
    from llama_client.crossover.throughput.points import MeasuredPoint

DEFAULT_DRAWS = 10_000
_FILE = click.Path(path_type=Path)
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\s*(?P<unit>[kmgbt]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_OF_MACHINE = ("gpu", "n_gpus", "precision", "engine", "gpu_usd_per_hour", "tokens_per_second")
_OF_PURCHASE = (
    *("computer_usd", "gpus_per_computer", "colocation_usd_per_month"),
    *("months", "usd_per_kwh", "load_w", "idle_w"),
)
_OF_OPERATION = (
    *("tpot_limit_ms", "ttft_limit_s", "slo_derate", "max_utilisation", "own_cached_share", "grid_g_per_kwh"),
    *("min_replicas", "spare", "ops_usd_per_month"),
)
# Heading -> names of the command's parameters.
SECTIONS = {
    "The traffic": (
        *("tokens_per_day", "from_ledger", "since", "ledger_target"),
        *("output_share", "cached_share", "tokens_per_request", "peak_to_mean", "hours"),
    ),
    "Your own machine": _OF_MACHINE,
    "Bought instead of rented": ("usd_per_gpu", *_OF_PURCHASE),
    "How it is run": _OF_OPERATION,
    "The API": ("apis", "api_input", "api_output", "api_cached"),
    "The answer": ("fleet", "plot", "html", "as_json", "draws", "seed"),
}


def _tokens(text: str) -> float:
    """A number of tokens, with or without a unit: `500M`, `1.2G`, `20000`."""
    match = _AMOUNT.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if match is None:
        raise click.BadParameter(f"{text!r} is no number of tokens, such as 20000, 500M or 1.2G")
    return float(match["number"]) * _UNITS[match["unit"].lower()]


def _figure(flag: str, metavar: str, text: str, *field: str) -> Callable[..., Any]:
    return click.option(flag, *field, type=float, metavar=metavar, help=text)


# Columns of words; all others hold figures, and are aligned right.
_WORDS = frozenset({"", "figure", "replica", "value", "source", "age", "seller", "why", "part", "fleet", "why not"})


def show(machines: RankedMachines, fleet: FleetPlan | None = None) -> None:
    from rich.text import Text

    console = answer_console()
    text = report(machines.best)
    console.print(Text(one_line(text.sentence), style="bold"))
    console.print()
    for note in (text.binding, *text.notes):
        console.print(Text(one_line(note)))
    for table in tables(text, machines.best, machines.others):
        _print(table, console)
    if fleet is not None:
        from llama_client.crossover.fleets import report as fleets

        mix, *others = fleets.tables(fleet)
        _print(mix, console)
        console.print()
        for note in fleets.notes(fleet):
            console.print(Text(one_line(note)))
        for table in others:
            _print(table, console)
    if text.stale:
        console.print()
        names = ", ".join(in_words(each.name) for each in text.stale)
        console.print(Text(f"Older than {STALE_AFTER_DAYS} days, check again: {names}."))


def _print(table: Table, console: Console) -> None:
    from rich.text import Text

    console.print()
    if len(table.columns) == 1:
        console.print(Text(f"{table.heading}, {table.columns[0]}", style="bold"))
        for (line,) in table.rows:
            console.print(Text(f"- {line}"))
    else:
        console.print(Text(table.heading, style="bold"))
        columns = [(name, name not in _WORDS) for name in table.columns]
        console.print(table_of(columns, table.rows, width=console.width))


# Options that are not named like their field.
_OPTION_NAMES = {
    "api": "--api",
    "input_tokens": "--tokens-per-request",
    "output_tokens": "--tokens-per-request",
    "api.input_usd_per_mtok": "--api-input",
    "api.output_usd_per_mtok": "--api-output",
    "api.cached_usd_per_mtok": "--api-cached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The facts for a comparison: bundled, of the configuration, and measured on this machine."""

    config: Config
    today: date
    tables: Tables
    catalog: Catalog
    own_prices: tuple[OwnPrice, ...]
    measured: tuple[MeasuredPoint, ...]

    def of_offers(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("tables", "today", "catalog", "own_prices")}


@click.command("crossover", cls=HelpPage, sections=SECTIONS, exits={0: "whatever the answer is", 2: EXITS[2]})
@click.argument("model", required=False, shell_complete=suggestions.architectures)
@click.option(
    "--volume", "tokens_per_day", type=_tokens, metavar="N", help="Tokens a day, in and out: 500M, 1.2G. [default: any]"
)
@click.option("--from-ledger", is_flag=True, help="Take volume, shares and peak from your own calls.")
@click.option("--since", metavar="WHEN", help="With --from-ledger: from when on, as in 30d. [default: all calls]")
@click.option(
    "--ledger-target",
    metavar="TARGET",
    shell_complete=suggestions.targets,
    help="With --from-ledger: the calls of one target alone.",
)
@_figure("--output-share", "0..1", "Output's share of all tokens. [default: 0.2]")
@_figure("--cached-share", "0..1", "The share of input that the API caches. [default: 0]")
@_figure("--tokens-per-request", "N", "Of a mean call, in and out. [default: 2000]")
@_figure("--peak-to-mean", "X", "The busiest hour over the mean one. [default: 2.5]")
@click.option(
    "--hours", type=_FILE, metavar="FILE", help="Tokens of each hour, a line an hour: a day, a week or years."
)
@name_option("--gpu", suggestions.gpus, "h100_sxm, rtx_4090, ... [default: the cheapest that holds the model]")
@click.option("--gpus", "n_gpus", type=int, metavar="N", help="Of one replica. [default: as many as it needs]")
@name_option(
    "--precision",
    suggestions.precisions,
    "Of the weights: bf16, fp8, nvfp4, int4, Q4_K_M, ... [default: the GPU's usual one]",
)
@name_option("--engine", suggestions.engines, "trtllm, vllm, sglang or llama.cpp. [default: the GPU's usual one]")
@_figure("--gpu-usd-per-hour", "USD", "Rent of one GPU. [default: median of quotes]")
@_figure(
    "--tokens-per-second",
    "N",
    "Output tokens a second of one replica, as you measured it (`llama-client bench`). [default: estimated]",
)
@_figure("--buy", "USD", "Price of one GPU, or of a Mac; 0: the known one. [default: rent]", "usd_per_gpu")
@_figure("--computer-usd", "USD", "A computer around the GPUs, without them; 0: none. [default: of a table]")
@click.option(
    "--gpus-per-computer", type=int, metavar="N", help="It has room for. [default: of the computer that costs least]"
)
@_figure("--colocation-usd-per-month", "USD", "A replica's place in a data centre. [default: by power, for servers]")
@_figure("--months", "N", "Period of depreciation. [default: 36]")
@_figure("--usd-per-kwh", "USD", "Electricity. [default: 0.13]")
@_figure("--load-w", "W", "One GPU under full load. [default: its data sheet's]")
@_figure("--idle-w", "W", "One idle GPU. [default: from its data sheet]")
@_figure("--tpot-limit-ms", "MS", "Between two tokens, at most. [default: 50]")
@_figure("--ttft-limit-s", "S", "To the first token, at most. [default: 2]")
@_figure("--slo-derate", "0..1", "The share of the full rate within these limits. [default: estimated]")
@_figure("--max-utilisation", "0..1", "The share of that to plan with. [default: 0.8]")
@_figure("--own-cached-share", "0..1", "The share of input in its prefix cache. [default: as --cached-share]")
@_figure("--grid-g-per-kwh", "G", "CO2 of its electricity, in grams. [default: 366]")
@click.option("--min-replicas", type=int, metavar="N", default=1, show_default=True, help="Replicas at least.")
@click.option("--spare", type=int, metavar="N", help="Spare replicas. [default: 0]")
@_figure("--ops-usd-per-month", "USD", "Staff. [default: 600 where rented, 1500 where bought]")
@click.option(
    "--api",
    "apis",
    multiple=True,
    metavar="TARGET",
    shell_complete=suggestions.targets,
    help="provider/model to compare with; may be repeated. [default: all that sell it today]",
)
@_figure("--api-input", "USD", "An API's price for a million input tokens.")
@_figure("--api-output", "USD", "The same for output.")
@_figure("--api-cached", "USD", "The same for cached input. [default: as input]")
@click.option(
    "--fleet", is_flag=True, help="Also the cheapest fleet by the hour: reserved, on demand, bought, serverless, API."
)
@click.option("--plot", type=_FILE, metavar="FILE", help="Plot it into a FILE.png or FILE.svg.")
@click.option("--html", type=_FILE, metavar="FILE", help="Write it as one self-contained page.")
@click.option("--draws", type=int, metavar="N", help=f"Of the uncertainty band; 0: none. [default: {DEFAULT_DRAWS}]")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="The same seed: the same band.")
@json_option
@config_option
def command(
    as_json: bool,
    config: str | None,
    plot: Path | None,
    html: Path | None,
    draws: int | None,
    seed: int,
    fleet: bool,
    **options: Any,
) -> None:
    """When a machine of your own is cheaper than an API.

    Compares the price of MODEL by the token with the cost of your own machines: whole replicas, sized for the busiest
    hour, with staff. The answer: the volumes at which either is cheaper, the reasons, all assumptions, and what would
    change it. "Never" and "no API sells this" are answers. Without a MODEL, on a terminal, it asks for what it needs.

    \b
    Examples:
      llama-client crossover
      llama-client crossover llama-3.3-70b
      llama-client crossover llama-3.3-70b --gpu b200_sxm --volume 500M
      llama-client crossover llama-3.1-8b --gpu h100_sxm \\
        --api-input 0.18 --api-output 0.18
      llama-client crossover llama-3.3-70b --from-ledger --html report.html
      llama-client crossover llama-3.1-8b --gpu rtx_4090 --buy 2000 --plot x.png
      llama-client crossover llama-3.3-70b --hours tokens.csv --fleet
      llama-client crossover llama-3.3-70b --volume 2G --json | jq -r .verdict
    """
    _check(options, plot, html)
    known = _known(config)
    if options["model"] is None:
        options |= _answers(known, as_json=as_json)
    try:
        machines = _evaluated(_scenario(options, known), known, draws, seed)
        planned = _planned(machines.best, known) if fleet else None
    except InvalidRequestError as error:
        raise failures.in_options(error, command, names=_OPTION_NAMES) from error
    if plot is not None or html is not None:
        from llama_client.crossover.plots.plots import save_page, save_sheet

        if plot is not None:
            _write(partial(save_sheet, machines.best, title=title_of(machines.best)), plot, "--plot")
        if html is not None:
            _write(partial(save_page, machines.best, others=machines.others, fleet=planned), html, "--html")
    if as_json:
        others = [{"machine": machine(each), "gpu": each.scenario.self_host.gpu} for each in machines.others]
        found = as_document(machines.best) | {"other_machines": others}
        if planned is not None:
            from llama_client.crossover.fleets import report as fleets

            found["fleet"] = fleets.as_document(planned)
        click.echo(json.dumps(found, default=str))
    else:
        show(machines, planned)


def _planned(crossover: Crossover, known: _Known) -> FleetPlan:
    from llama_client.crossover.fleets.plan import plan_fleet

    return plan_fleet(crossover, tables=known.tables)


def _answers(known: _Known, *, as_json: bool) -> dict[str, Any]:
    """What the user answers on a terminal; an error where there is none."""
    if as_json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise click.UsageError("MODEL: is missing, as in llama-3.3-70b; on a terminal it would be asked for")
    from llama_client.cli.crossover_questions import ask
    from llama_client.crossover.fitting.machines import this_machine

    return ask(known.tables, _tokens, this_machine(tables=known.tables))


def _check(options: dict[str, Any], plot: Path | None, html: Path | None) -> None:
    """Refuses options that contradict each other, before any file is read or written."""
    for name in ("gpu", "precision", "engine", "since", "ledger_target"):
        if options[name] is not None and not options[name].strip():
            raise click.UsageError(f"--{name.replace('_', '-')}: must not be empty")
    if plot is not None and plot.suffix.lower() not in ENDINGS:
        raise click.UsageError(f"--plot: the file must end in {' or '.join(ENDINGS)}, got {str(plot)!r}")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--html: the file must end in .html, got {str(html)!r}")
    if (options["api_input"] is None) != (options["api_output"] is None):
        missing = "--api-output" if options["api_output"] is None else "--api-input"
        raise click.UsageError(f"{missing}: is required beside the other price")
    if options["api_cached"] is not None and options["api_input"] is None:
        raise click.UsageError("--api-cached: goes with --api-input and --api-output")
    if options["hours"] is not None and (options["from_ledger"] or options["peak_to_mean"] is not None):
        other = "--from-ledger" if options["from_ledger"] else "--peak-to-mean"
        raise click.UsageError(f"--hours: has the load and its peak; leave out {other}")
    if not options["from_ledger"] and (options["since"] or options["ledger_target"]):
        raise click.UsageError("--since and --ledger-target go with --from-ledger")
    price = options["usd_per_gpu"]
    if price is not None and options["gpu_usd_per_hour"] is not None:
        raise click.UsageError("--buy and --gpu-usd-per-hour: a machine is bought or rented; give one of them")
    if price is not None and price < 0:
        raise click.UsageError(f"--buy: must be a number of US dollars, 0 for the known price, got {price:g}")
    of_purchase = [name for name in _OF_PURCHASE if options[name] is not None]
    if price is None and of_purchase:
        raise click.UsageError(f"--{of_purchase[0].replace('_', '-')}: goes with --buy")
    if options["gpu"] is None and (options["n_gpus"] is not None or options["tokens_per_second"] is not None):
        given = "--gpus" if options["n_gpus"] is not None else "--tokens-per-second"
        raise click.UsageError(f"{given}: needs --gpu: it holds for one kind of machine")
    if options["gpu"] is None and price:
        raise click.UsageError("--buy: a price needs --gpu, whose price it is; 0 takes the known ones")


def _known(config: str | None) -> _Known:
    from llama_client import load_config
    from llama_client.catalog.catalog import Catalog
    from llama_client.crossover.throughput.measurements import Measurements
    from llama_client.crossover.user_tables import tables_of

    loaded = load_config(config)
    today = datetime.now(UTC).date()
    prices = [
        OwnPrice(row.target, row.input_usd_per_mtok, row.output_usd_per_mtok, row.cached_usd_per_mtok)
        for row in loaded.prices
        if row.service_tier is None and row.holds_on(today)
    ]
    return _Known(
        config=loaded,
        today=today,
        tables=tables_of(loaded),
        catalog=Catalog.bundled().extended([row.as_row() for row in loaded.models]),
        own_prices=tuple(prices),
        measured=Measurements.of_user().read().points,
    )


def _scenario(options: dict[str, Any], known: _Known) -> Scenario:
    purchase, price = None, options["usd_per_gpu"]
    if price is not None:
        purchase = Purchase(usd_per_gpu=price or None, **{name: options[name] for name in _OF_PURCHASE})
    host = SelfHost(purchase=purchase, **{name: options[name] for name in (*_OF_MACHINE, *_OF_OPERATION)})
    traffic = _traffic(options, known.config)
    return Scenario(model=options["model"], traffic=traffic, self_host=host, apis=_apis(options, known))


def _traffic(options: dict[str, Any], config: Config) -> Traffic:
    """The traffic of the options; with --from-ledger, other figures from the ledger."""
    names = ("tokens_per_day", "output_share", "cached_share", "tokens_per_request", "peak_to_mean")
    own = {name: options[name] for name in names if options[name] is not None}
    if options["hours"] is not None:
        return _of_file(options["hours"], own)
    if not options["from_ledger"]:
        return Traffic(**own)
    from llama_client import LlamaClient
    from llama_client.crossover.user_tables import traffic_of

    if not config.ledger.enabled:
        raise click.UsageError("--from-ledger: the ledger is switched off (ledger.enabled = false)")
    with LlamaClient(config) as client:
        report = client.costs.traffic(since=options["since"], target=options["ledger_target"])
    traffic = replace(traffic_of(report), **own)
    # A given peak replaces the ledger's curve.
    return replace(traffic, hourly_tokens=()) if "peak_to_mean" in own else traffic


def _of_file(path: Path, own: dict[str, Any]) -> Traffic:
    from llama_client.crossover.fleets.load import HourlyLoad, read_hours

    load = HourlyLoad.of(read_hours(path))
    usual = {"tokens_per_day": load.tokens_per_day, "peak_to_mean": load.peak_to_mean}
    return Traffic(**(usual | own), hourly_tokens=load.tokens, source=f"{len(load.tokens):,} hours of {path.name}")


def _apis(options: dict[str, Any], known: _Known) -> tuple[ApiPrice, ...] | None:
    model = known.tables.find_model(options["model"])
    found = [offer_named(target, model=model, **known.of_offers()) for target in options["apis"]]
    if options["api_input"] is not None:
        prices = {f"{kind}_usd_per_mtok": options[f"api_{kind}"] for kind in ("input", "output", "cached")}
        found.append(ApiPrice(**prices))
    return tuple(found) or None


def _evaluated(scenario: Scenario, known: _Known, draws: int | None, seed: int) -> RankedMachines:
    """The scenario on its machine, or on the cheapest; with draws where numpy is installed or they were asked for."""
    offers = None
    if scenario.apis is None and scenario.model is not None:
        offers = _offers(scenario.model, known)
    run: Callable[..., Crossover] = partial(
        evaluate, tables=known.tables, offers=offers, measured=known.measured, seed=seed, today=known.today
    )
    if scenario.self_host.gpu:
        machines = RankedMachines(run(scenario), ())
    else:
        machines = cheapest_machine(scenario, run, tables=known.tables)
    if draws == 0:
        return machines
    try:
        drawn = run(machines.best.scenario, draws=DEFAULT_DRAWS if draws is None else draws)
    except MissingExtraError:
        if draws is not None:
            raise
        click.echo('No band of uncertainty: pip install "llama-client[crossover]" for it', err=True)
        return machines
    return replace(machines, best=drawn)


def _offers(model: str, known: _Known) -> Offers | None:
    """Who sells a model; None: neither the tables nor the market know it, and a comparison says so."""
    found = offers_of(model, **known.of_offers())
    return found if found.current or found.ended or found.unpriced else None


def _write(write: Callable[[Path], None], path: Path, option: str) -> None:
    try:
        write(path)
    except OSError as error:
        raise click.UsageError(
            f"{option}: {printable(str(path))} cannot be written: {error.strerror or error}"
        ) from error
    click.echo(f"{'The picture' if option == '--plot' else 'The page'} is in {printable(str(path))}", err=True)
