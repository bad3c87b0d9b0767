"""`llama-client crossover`: when a machine of one's own is cheaper than an API."""

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

from llama_client.cli.terminal import printable
from llama_client.crossover.choosing import Choice, choose
from llama_client.crossover.evaluation import Crossover, evaluate
from llama_client.crossover.scenario import ApiPrice, Purchase, Scenario, SelfHost, Traffic
from llama_client.errors import InvalidRequestError, ProviderNotInstalledError

if TYPE_CHECKING:
    from llama_client.catalog.catalog import Catalog
    from llama_client.config.schema import Config
    from llama_client.crossover.offers import OwnPrice
    from llama_client.crossover.serving.measured_point import MeasuredPoint
    from llama_client.crossover.tables import Tables

DEFAULT_DRAWS = 10_000
_PICTURES = (".png", ".svg")
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e\d+)?)\s*(?P<unit>[kmgbt]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
# Fields whose option has another name.
_OPTIONS = {
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the configuration and this machine know beside the bundled tables."""

    config: Config
    today: date
    tables: Tables
    catalog: Catalog
    own_prices: tuple[OwnPrice, ...]
    measured: tuple[MeasuredPoint, ...]


@click.command("crossover", short_help="When a machine of your own is cheaper than an API.")
@click.argument("model")
@click.option("--gpu", help="The GPU, as in h100_sxm; by default the cheapest that can be rented and holds the model.")
@click.option("--gpus", "n_gpus", type=int, default=1, show_default=True, help="GPUs of one replica.")
@click.option("--precision", help="bf16, fp8, nvfp4, int4, or GGUF's, as in Q4_K_M; by default the GPU's usual one.")
@click.option("--engine", help="trtllm, vllm, sglang or llama.cpp.")
@click.option("--gpu-usd-per-hour", type=float, help="The rent of one GPU; by default the median of known quotes.")
@click.option("--buy", type=float, metavar="USD", help="Buy instead of rent, at so much a GPU; 0: at the known price.")
@click.option("--months", type=float, help="How long a purchase is written off. [36]")
@click.option("--usd-per-kwh", type=float, help="Electricity of what is bought. [0.13]")
@click.option("--load-w", type=float, help="Watts of a bought GPU at full work; by default from its data sheet.")
@click.option("--idle-w", type=float, help="The same without work.")
@click.option("--tokens-per-second", type=float, help="Output tokens/s of one replica, as you measured it.")
@click.option("--api", "apis", multiple=True, metavar="TARGET", help="provider/model to compare with; may be repeated.")
@click.option("--api-input", type=float, help="An API's price: USD per million input tokens.")
@click.option("--api-output", type=float, help="The same for output.")
@click.option("--api-cached", type=float, help="The same for input that its cache has.")
@click.option("--volume", type=_Tokens(), help="Tokens a day, input and output: 500M, 1.2G; by default all volumes.")
@click.option("--output-share", type=float, help="The share of tokens that is output. [0.2]")
@click.option("--cached-share", type=float, help="The share of input that the API's cache has. [0]")
@click.option("--tokens-per-request", type=float, help="Input and output of a mean call. [2000]")
@click.option("--peak-to-mean", type=float, help="The busiest hour against the mean one. [2.5]")
@click.option("--slo-derate", type=float, help="What is left of the full rate once answers must stay quick.")
@click.option("--tpot-limit-ms", type=float, help="The longest time between two tokens of an answer. [50]")
@click.option("--ttft-limit-s", type=float, help="The longest wait for the first one. [2]")
@click.option("--max-utilisation", type=float, help="What is planned with of that. [0.8]")
@click.option("--min-replicas", type=int, default=1, show_default=True, help="Never fewer.")
@click.option("--spare", type=int, help="Replicas that stand by. [0]")
@click.option("--ops-usd-per-month", type=float, help="Staff. [600 rented, 1500 bought]")
@click.option("--from-ledger", is_flag=True, help="Take volume, shares and peak from your own calls.")
@click.option("--since", metavar="WHEN", help="With --from-ledger: from when on, as in 30d.")
@click.option("--ledger-target", metavar="TARGET", help="With --from-ledger: the calls of one target alone.")
@click.option("--draws", type=int, help=f"Draws of the uncertainty band; 0: none. [{DEFAULT_DRAWS}]")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same band.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a FILE.png or FILE.svg.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write one self-contained page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--config", type=click.Path(), help="The configuration file.")
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
      llama-client crossover llama-3.3-70b --gpu b200_sxm --precision nvfp4 --volume 500M
      llama-client crossover llama-3.1-8b --gpu h100_sxm --api-input 0.18 --api-output 0.18
      llama-client crossover llama-3.3-70b --from-ledger --since 30d --html report.html
      llama-client crossover llama-3.1-8b --gpu rtx_4090 --buy 2000 --plot payback.png
      llama-client crossover llama-3.3-70b --volume 2G --json | jq -r .verdict
    """
    _check(options, plot, html)
    known = _known(config)
    try:
        scenario = _scenario(options, known)
        choice = _evaluated(scenario, known, draws, seed)
    except InvalidRequestError as error:
        raise _by_option(error) from error
    if plot is not None:
        _write(partial(_draw, choice.best), plot, "--plot")
    if html is not None:
        _write(partial(_write_page, choice), html, "--html")
    if as_json:
        from llama_client.crossover.report import as_document, machine

        others = [{"machine": machine(each), "gpu": each.scenario.self_host.gpu} for each in choice.others]
        click.echo(json.dumps(as_document(choice.best) | {"other_machines": others}, default=str))
    else:
        from llama_client.cli.crossover_report import show

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
    from llama_client.crossover.serving.measurements import Measurements
    from llama_client.crossover.users_rows import tables_of

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
    from llama_client.crossover.ledger_traffic import traffic_of

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


def _evaluated(scenario: Scenario, known: _Known, draws: int | None, seed: int) -> Choice:
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
    choice = Choice(run(scenario), ()) if scenario.self_host.gpu else choose(scenario, run, tables=known.tables)
    if draws == 0:
        return choice
    try:
        drawn = run(choice.best.scenario, draws=DEFAULT_DRAWS if draws is None else draws)
    except ProviderNotInstalledError:
        if draws is not None:
            raise
        click.echo('No band of uncertainty: pip install "llama-client[crossover]" for it', err=True)
        return choice
    return replace(choice, best=drawn)


def _draw(crossover: Crossover, path: Path) -> None:
    from llama_client.crossover.pictures.plots import save
    from llama_client.crossover.report import title_of

    save(crossover, path, title=title_of(crossover))


def _write_page(choice: Choice, path: Path) -> None:
    from llama_client.crossover.pictures.report_page import save

    save(choice.best, path, others=choice.others)


def _write(write: Callable[[Path], None], path: Path, option: str) -> None:
    try:
        write(path)
    except OSError as error:
        raise click.UsageError(
            f"{option}: {printable(str(path))} cannot be written: {error.strerror or error}"
        ) from error
    click.echo(f"{'The picture' if option == '--plot' else 'The page'} is in {printable(str(path))}", err=True)


def _by_option(error: InvalidRequestError) -> InvalidRequestError:
    """The same error in the words of the command line: options in the place of fields."""
    options = {each.name: each.opts[0] for each in command.params if isinstance(each, click.Option) and each.name}
    options |= {name.rpartition(".")[2]: option for name, option in _OPTIONS.items()}
    field, text = error.param or "", str(error)
    name = _OPTIONS.get(field) or options.get(field.rpartition(".")[2])
    if name is None or not text.startswith(f"{field}: "):
        return error
    rest = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda word: options.get(word[0], word[0]), text.removeprefix(field))
    return InvalidRequestError(name + rest, param=name)
