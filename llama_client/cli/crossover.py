"""`llama-client crossover`: when self-hosting is cheaper than an API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, printable, table_of
from llama_client.crossover.evaluation import Crossover, RankedMachines, choose, evaluate
from llama_client.crossover.report import (
    assumptions_table,
    machines_table,
    report,
    sentence_of,
    swings_table,
    volumes_table,
)
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic
from llama_client.errors import InvalidRequestError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from llama_client.catalog.catalog import Catalog
    from llama_client.config.schema import Config
    from llama_client.crossover.evaluation import RankedMachines
    from llama_client.crossover.offers import OwnPrice
    from llama_client.crossover.report import Table
    from llama_client.crossover.tables import Tables
    from llama_client.crossover.throughput.points import MeasuredPoint


DEFAULT_DRAWS = 10_000
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\s*(?P<unit>[kmgbt]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
# Heading -> names of the command's parameters.
SECTIONS = {
    "The traffic": (
        *("volume", "from_ledger", "since", "ledger_target"),
        *("output_share", "cached_share", "tokens_per_request", "peak_to_mean"),
    ),
    "Your own machine": ("gpu", "n_gpus", "precision", "engine", "gpu_usd_per_hour", "tokens_per_second"),
    "Bought instead of rented": ("buy", "months", "usd_per_kwh", "load_w", "idle_w"),
    "How it is run": (
        *("tpot_limit_ms", "ttft_limit_s", "slo_derate", "max_utilisation"),
        *("min_replicas", "spare", "ops_usd_per_month"),
    ),
    "The API": ("apis", "api_input", "api_output", "api_cached"),
    "The answer": ("plot", "html", "as_json", "draws", "seed"),
}


class _Tokens(click.ParamType[float]):
    """A number of tokens, as people write it: `500M`, `1.2G`, `20000`."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _AMOUNT.fullmatch(str(value).strip().replace(",", "").replace("_", ""))
        if match is None:
            self.fail(f"{value!r} is no number of tokens, such as 20000, 500M or 1.2G", param, ctx)
        return float(match["number"]) * _UNITS[match["unit"].lower()]


_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("--volume", type=_Tokens(), metavar="N", help="Tokens a day, in and out: 500M, 1.2G. [default: any]"),
    click.option("--from-ledger", is_flag=True, help="Take volume, shares and peak from your own calls."),
    click.option("--since", metavar="WHEN", help="With --from-ledger: from when on, as in 30d. [default: all calls]"),
    click.option(
        "--ledger-target",
        metavar="TARGET",
        shell_complete=suggestions.targets,
        help="With --from-ledger: the calls of one target alone.",
    ),
    click.option("--output-share", type=float, metavar="0..1", help="Of all tokens, those of answers. [default: 0.2]"),
    click.option("--cached-share", type=float, metavar="0..1", help="Of input, what the API caches. [default: 0]"),
    click.option("--tokens-per-request", type=float, metavar="N", help="Of a mean call, in and out. [default: 2000]"),
    click.option("--peak-to-mean", type=float, metavar="X", help="The busiest hour over the mean one. [default: 2.5]"),
    click.option(
        "--gpu",
        metavar="NAME",
        shell_complete=suggestions.gpus,
        help="h100_sxm, rtx_4090, ... [default: the cheapest to rent that holds the model]",
    ),
    click.option("--gpus", "n_gpus", type=int, metavar="N", default=1, show_default=True, help="Of one replica."),
    click.option(
        "--precision",
        metavar="NAME",
        shell_complete=suggestions.precisions,
        help="Of the weights: bf16, fp8, nvfp4, int4, Q4_K_M, ... [default: the GPU's usual one]",
    ),
    click.option(
        "--engine",
        metavar="NAME",
        shell_complete=suggestions.engines,
        help="trtllm, vllm, sglang or llama.cpp. [default: the GPU's usual one]",
    ),
    click.option("--gpu-usd-per-hour", type=float, metavar="USD", help="Rent of one GPU. [default: median of quotes]"),
    click.option(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="Output tokens a second of one replica, as you measured it (`llama-client bench`). [default: estimated]",
    ),
    click.option("--buy", type=float, metavar="USD", help="Price of one GPU; 0: the known one. [default: rent]"),
    click.option("--months", type=float, metavar="N", help="Until it is written off. [default: 36]"),
    click.option("--usd-per-kwh", type=float, metavar="USD", help="Electricity. [default: 0.13]"),
    click.option("--load-w", type=float, metavar="W", help="One GPU at full work. [default: its data sheet's]"),
    click.option("--idle-w", type=float, metavar="W", help="One GPU without work. [default: from its data sheet]"),
    click.option("--tpot-limit-ms", type=float, metavar="MS", help="Between two tokens, at most. [default: 50]"),
    click.option("--ttft-limit-s", type=float, metavar="S", help="To the first token, at most. [default: 2]"),
    click.option(
        "--slo-derate",
        type=float,
        metavar="0..1",
        help="What is left of the full rate once answers must be as quick as that. [default: estimated]",
    ),
    click.option("--max-utilisation", type=float, metavar="0..1", help="Planned with, of that. [default: 0.8]"),
    click.option("--min-replicas", type=int, metavar="N", default=1, show_default=True, help="Never fewer."),
    click.option("--spare", type=int, metavar="N", help="Replicas that stand by. [default: 0]"),
    click.option(
        "--ops-usd-per-month", type=float, metavar="USD", help="Staff. [default: 600 where rented, 1500 where bought]"
    ),
    click.option(
        "--api",
        "apis",
        multiple=True,
        metavar="TARGET",
        shell_complete=suggestions.targets,
        help="provider/model to compare with; may be repeated. [default: all who sell it today]",
    ),
    click.option("--api-input", type=float, metavar="USD", help="An API's price for a million input tokens."),
    click.option("--api-output", type=float, metavar="USD", help="The same for output."),
    click.option("--api-cached", type=float, metavar="USD", help="The same for cached input. [default: as input]"),
    click.option(
        "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a FILE.png or FILE.svg."
    ),
    click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it as one page to pass on."),
    click.option(
        "--draws", type=int, metavar="N", help=f"Of the uncertainty band; 0: none. [default: {DEFAULT_DRAWS}]"
    ),
    click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="The same seed: the same band."),
)


def crossover_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


# Columns of words; all others hold figures, and stand on the right.
_WORDS = frozenset({"", "figure", "replica", "value", "source"})


def show(choice: RankedMachines) -> None:
    """Prints it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    crossover, told = choice.best, report(choice.best)
    console.print(Text(one_line(told.sentence), style="bold"))
    console.print()
    for note in (told.binding, *told.notes):
        console.print(Text(one_line(note)))
    _print(console, volumes_table(told))
    _print(console, machines_table(choice.others))
    if told.flips:
        _heading(console, "What would change the answer, each on its own")
        for flip in told.flips:
            console.print(Text(f"- {sentence_of(flip)}"))
    _print(console, swings_table(crossover))
    _print(console, assumptions_table(crossover))
    if told.stale:
        console.print()
        names = ", ".join(each.name.replace("_", " ") for each in told.stale)
        console.print(Text(f"Older than 60 days, check again: {names}."))


def _heading(console: Console, text: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(text, style="bold"))


def _print(console: Console, table: Table | None) -> None:
    if table is None:
        return
    _heading(console, table.heading)
    columns = [(name, name not in _WORDS) for name in table.columns]
    console.print(table_of(columns, table.rows, width=console.width))


_PICTURES = (".png", ".svg")
# Fields whose option has another name.
_OPTION_NAMES = {
    "model": "MODEL",
    "api": "--api",
    "apis": "--api",
    "n_gpus": "--gpus",
    "self_host.n_gpus": "--gpus",
    "traffic.tokens_per_day": "--volume",
    "input_tokens": "--tokens-per-request",
    "output_tokens": "--tokens-per-request",
    "purchase.usd_per_gpu": "--buy",
    "api.input_usd_per_mtok": "--api-input",
    "api.output_usd_per_mtok": "--api-output",
    "api.cached_usd_per_mtok": "--api-cached",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the configuration and this machine know beside the bundled tables."""

    config: Config
    today: date
    tables: Tables
    catalog: Catalog
    own_prices: tuple[OwnPrice, ...]
    measured: tuple[MeasuredPoint, ...]


@click.command("crossover", cls=HelpPage, sections=SECTIONS, exits={0: "whatever the answer is", 2: EXITS[2]})
@click.argument("model", shell_complete=suggestions.architectures)
@crossover_options
@json_option
@config_option
def command(
    as_json: bool,
    config: str | None,
    plot: Path | None,
    html: Path | None,
    draws: int | None,
    seed: int,
    **options: Any,
) -> None:
    """When a machine of your own is cheaper than an API.

    Compares what MODEL costs by the token with what it costs on machines of your own: whole replicas, sized for the
    busiest hour, with staff. Says on which volumes either is cheaper, why, what it rests on, and what would change it.
    "Never" and "no API sells this" are answers.

    \b
    Examples:
      llama-client crossover llama-3.3-70b
      llama-client crossover llama-3.3-70b --gpu b200_sxm --volume 500M
      llama-client crossover llama-3.1-8b --gpu h100_sxm \\
        --api-input 0.18 --api-output 0.18
      llama-client crossover llama-3.3-70b --from-ledger --html report.html
      llama-client crossover llama-3.1-8b --gpu rtx_4090 --buy 2000 --plot x.png
      llama-client crossover llama-3.3-70b --volume 2G --json | jq -r .verdict
    """
    _check(options, plot, html)
    known = _known(config)
    try:
        scenario = _scenario(options, known)
        choice = _evaluated(scenario, known, draws, seed)
    except InvalidRequestError as error:
        raise failures.in_options(error, command, names=_OPTION_NAMES) from error
    if plot is not None:
        _write(partial(_draw, choice.best), plot, "--plot")
    if html is not None:
        _write(partial(_write_page, choice), html, "--html")
    if as_json:
        from llama_client.crossover.report import as_document, machine

        others = [{"machine": machine(each), "gpu": each.scenario.self_host.gpu} for each in choice.others]
        click.echo(json.dumps(as_document(choice.best) | {"other_machines": others}, default=str))
    else:
        show(choice)


def _check(options: dict[str, Any], plot: Path | None, html: Path | None) -> None:
    """What contradicts itself, before anything is read or written."""
    for name in ("gpu", "precision", "engine", "since", "ledger_target"):
        if options[name] is not None and not options[name].strip():
            raise click.UsageError(f"--{name.replace('_', '-')}: must not be empty")
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise click.UsageError(f"--plot: the file must end in {' or '.join(_PICTURES)}, got {str(plot)!r}")
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--html: the file must end in .html, got {str(html)!r}")
    if (options["api_input"] is None) != (options["api_output"] is None):
        missing = "--api-output" if options["api_output"] is None else "--api-input"
        raise click.UsageError(f"{missing}: is required beside the other price")
    if options["api_cached"] is not None and options["api_input"] is None:
        raise click.UsageError("--api-cached: goes with --api-input and --api-output")
    if not options["from_ledger"] and (options["since"] or options["ledger_target"]):
        raise click.UsageError("--since and --ledger-target go with --from-ledger")
    if options["buy"] is not None and options["gpu_usd_per_hour"] is not None:
        raise click.UsageError("--buy and --gpu-usd-per-hour: a machine is bought or rented; give one of them")
    if options["buy"] is not None and options["buy"] < 0:
        raise click.UsageError(f"--buy: must be a number of US dollars, 0 for the known price, got {options['buy']:g}")
    if options["buy"] is None:
        for name in ("months", "usd_per_kwh", "load_w", "idle_w"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')}: goes with --buy")
    if options["gpu"] is None and (options["n_gpus"] != 1 or options["tokens_per_second"] is not None):
        given = "--gpus" if options["n_gpus"] != 1 else "--tokens-per-second"
        raise click.UsageError(f"{given}: needs --gpu, since it is about one kind of machine")
    if options["gpu"] is None and options["buy"] is not None:
        raise click.UsageError("--buy: needs --gpu")


def _known(config: str | None) -> _Known:
    from llama_client import load_config
    from llama_client.catalog.catalog import Catalog
    from llama_client.crossover.offers import OwnPrice
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
    traffic = _traffic(options, known.config)
    purchase = None
    if options["buy"] is not None:
        purchase = Purchase(
            usd_per_gpu=options["buy"] or None,
            **{name: options[name] for name in ("months", "usd_per_kwh", "load_w", "idle_w")},
        )
    names = (
        *("gpu", "n_gpus", "precision", "engine", "gpu_usd_per_hour", "tokens_per_second", "slo_derate"),
        *("tpot_limit_ms", "ttft_limit_s", "max_utilisation", "min_replicas", "spare", "ops_usd_per_month"),
    )
    host = SelfHost(purchase=purchase, **{name: options[name] for name in names})
    return Scenario(model=options["model"], traffic=traffic, self_host=host, apis=_apis(options, known))


def _traffic(options: dict[str, Any], config: Config) -> Traffic:
    """From the options; what they leave out, from the ledger where it was asked for."""
    names = ("output_share", "cached_share", "tokens_per_request", "peak_to_mean")
    said = {name: options[name] for name in names if options[name] is not None}
    if options["volume"] is not None:
        said["tokens_per_day"] = options["volume"]
    if not options["from_ledger"]:
        return Traffic(**said)
    from llama_client import LlamaClient
    from llama_client.crossover.user_tables import traffic_of

    if not config.ledger.enabled:
        raise click.UsageError("--from-ledger: the ledger is switched off (ledger.enabled = false)")

    with LlamaClient(config) as client:
        report = client.costs.traffic(since=options["since"], target=options["ledger_target"])
    traffic = replace(traffic_of(report), **said)
    # Another peak than the ledger's is another curve.
    return replace(traffic, hourly_tokens=()) if "peak_to_mean" in said else traffic


def _apis(options: dict[str, Any], known: _Known) -> tuple[ApiPrice, ...] | None:
    from llama_client.crossover.offers import offer_named

    found = []
    for target in options["apis"]:
        try:
            model = known.tables.model(options["model"])
        except InvalidRequestError:
            model = None
        found.append(
            offer_named(
                target,
                model=model,
                tables=known.tables,
                today=known.today,
                catalog=known.catalog,
                own_prices=known.own_prices,
            )
        )
    if options["api_input"] is not None:
        found.append(
            ApiPrice(
                input_usd_per_mtok=options["api_input"],
                output_usd_per_mtok=options["api_output"],
                cached_usd_per_mtok=options["api_cached"],
            )
        )
    return tuple(found) or None


def _evaluated(scenario: Scenario, known: _Known, draws: int | None, seed: int) -> RankedMachines:
    """The scenario on its machine, or on the cheapest; drawn where numpy is there or was asked for."""
    from llama_client.crossover.offers import offers_of

    offers = None
    if scenario.apis is None and scenario.model is not None:
        offers = offers_of(
            known.tables.model(scenario.model),
            tables=known.tables,
            today=known.today,
            catalog=known.catalog,
            own_prices=known.own_prices,
        )
    run: Callable[..., Crossover] = partial(
        evaluate, tables=known.tables, offers=offers, measured=known.measured, seed=seed, today=known.today
    )
    choice = RankedMachines(run(scenario), ()) if scenario.self_host.gpu else choose(scenario, run, tables=known.tables)
    if draws == 0:
        return choice
    try:
        drawn = run(choice.best.scenario, draws=DEFAULT_DRAWS if draws is None else draws)
    except MissingExtraError:
        if draws is not None:
            raise
        click.echo('No band of uncertainty: pip install "llama-client[crossover]" for it', err=True)
        return choice
    return replace(choice, best=drawn)


def _draw(crossover: Crossover, path: Path) -> None:
    from llama_client.crossover.plots.plots import save_sheet
    from llama_client.crossover.report import title_of

    save_sheet(crossover, path, title=title_of(crossover))


def _write_page(choice: RankedMachines, path: Path) -> None:
    from llama_client.crossover.plots.plots import save_page

    save_page(choice.best, path, others=choice.others)


def _write(write: Callable[[Path], None], path: Path, option: str) -> None:
    try:
        write(path)
    except OSError as error:
        raise click.UsageError(
            f"{option}: {printable(str(path))} cannot be written: {error.strerror or error}"
        ) from error
    click.echo(f"{'The picture' if option == '--plot' else 'The page'} is in {printable(str(path))}", err=True)
