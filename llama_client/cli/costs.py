"""`llama-client costs`: what was spent, what of it is unknown, and what budgets have left."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from llama_client import LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import answer_console, is_terminal, printable, table_of
from llama_client.costs.charts import is_unpriced, money_column, readable
from llama_client.costs.money import shown
from llama_client.errors import InvalidRequestError
from llama_client.figures import ENDINGS

if TYPE_CHECKING:
    from decimal import Decimal

    from rich.console import RenderableType

    from llama_client.config.schema import Config
    from llama_client.types.report import BudgetState, CostGroup, CostReport, DayCosts

_TERMINAL = "-"
_UNREADABLE = "the ledger cannot be read"
_COLUMNS = (
    "key", "calls", "input_tokens", "output_tokens", "usd", "unpriced_calls", "errors", "cached_calls", "saved_usd",
)  # fmt: skip
# There may be many (a budget for each user, say); more are not shown.
_MAX_BUDGETS, _MAX_NAMED = 20, 5


@click.command("costs", cls=HelpPage, exits={0: "also where nothing was spent", 1: _UNREADABLE, 2: EXITS[2]})
@click.option(
    "--since", metavar="WHEN", help="From when on: an age (7d, 24h, 30m) or a day (2026-11-01). [default: everything]"
)
@click.option(
    "--by",
    default="target",
    show_default=True,
    metavar="WHAT",
    shell_complete=suggestions.groups,
    help="Add up by provider, target, route, day or tag:KEY.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV, for spreadsheets.")
@click.option(
    "--plot",
    is_flag=False,
    flag_value=_TERMINAL,
    metavar="[FILE]",
    shell_complete=suggestions.files,
    help="Draw a bar for each day: on the terminal, or into a FILE.png or FILE.svg (which needs the extra plot).",
)
@config_option
def command(since: str | None, by: str, as_json: bool, as_csv: bool, plot: str | None, config: str | None) -> None:
    """What was spent, what of it is unknown, and what budgets have left.

    Every call through this package is recorded, of whichever program: times, tokens and money, never prompts or
    answers. This sums them up, in US dollars. Calls of unknown cost are counted apart, never as 0.

    \b
    Examples:
      llama-client costs
      llama-client costs --since 7d --by day --plot
      llama-client costs --since 2026-11-01 --by tag:user --csv > november.csv
      llama-client costs --since 30d --by provider --plot costs.png
      llama-client costs --json | jq -r .total_usd
    """
    picture = None if plot is None or plot == _TERMINAL else Path(plot)
    _check_forms(as_json=as_json, as_csv=as_csv, charts=plot == _TERMINAL, picture=picture)
    loaded = load_config(config)
    # A chart has a bar a day anyway.
    layers = "target" if by == "day" else by
    with LlamaClient(loaded) as client:
        try:
            report = client.costs.report(since=since, by=by)
        except InvalidRequestError as error:
            raise failures.in_options(error, command) from error
        days = client.costs.timeline(since=since, by=layers) if plot is not None else []
        budgets = [] if as_json or as_csv else client.costs.budgets()
    if picture is not None:
        _draw(days, picture, f"Costs by {layers}{_since(report)}")
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json")))
    elif as_csv:
        click.echo(_csv(report.groups), nl=False)
    else:
        _show(report, by, days if picture is None else [], budgets, loaded)


def _check_forms(*, as_json: bool, as_csv: bool, charts: bool, picture: Path | None) -> None:
    if picture is not None and picture.suffix.lower() not in ENDINGS:
        raise click.UsageError(f"--plot: the file must end in {' or '.join(ENDINGS)}, got {str(picture)!r}")
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other: give one of them")
    if charts and (as_json or as_csv):
        form = "--json" if as_json else "--csv"
        raise click.UsageError(f"--plot and {form} both print: give --plot a FILE.png or FILE.svg, or leave one out")


def _draw(days: Sequence[DayCosts], path: Path, title: str) -> None:
    from llama_client.costs.charts import save

    name = printable(str(path))
    if not days:
        click.echo(f"llama-client: no calls, so {name} is not drawn", err=True)
        return
    try:
        save(days, path, title=title)
    except OSError as error:
        raise click.UsageError(f"--plot: {name} cannot be written: {error.strerror or error}") from error
    click.echo(f"Wrote {name}", err=True)


def _since(report: CostReport) -> str:
    return "" if report.since is None else f" since {report.since:%Y-%m-%d %H:%M}"


def _csv(groups: Sequence[CostGroup]) -> str:
    """RFC 4180, but with Unix line ends."""
    lines = []
    for row in (_COLUMNS, *(_csv_row(group) for group in groups)):
        line = io.StringIO(newline="")
        # With another terminator it would leave carriage returns within values unquoted.
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _csv_row(group: CostGroup) -> tuple[str, ...]:
    values = group.model_dump(mode="json")
    key = printable(group.key) if is_terminal(sys.stdout) else group.key
    return (key, *(str(values[name]) for name in _COLUMNS[1:]))


def _show(
    report: CostReport, by: str, days: Sequence[DayCosts], budgets: Sequence[BudgetState], config: Config
) -> None:
    from llama_client.costs.charts import terminal_chart

    console = answer_console()
    if not report.groups:
        console.print(_no_calls(report, config))
    elif days:
        for line in terminal_chart(days, console.width, ascii_only=console.options.ascii_only):
            console.print(line)
    else:
        console.print(_table(report.groups, by, console.width))
    lines = []
    if report.groups:
        calls = f"{report.calls:,} call{'s' * (report.calls != 1)}"
        lines = [f"{shown(report.total_usd)} spent in {calls}{_since(report)}.", _unpriced(report)]
    if report.cached_calls:
        were = "call was" if report.cached_calls == 1 else "calls were"
        lines.append(
            f"{report.cached_calls:,} {were} answered from the cache; the answers had cost {shown(report.saved_usd)}."
        )
    if report.unrecorded_calls:
        were = "call was" if report.unrecorded_calls == 1 else "calls were"
        lines.append(f"{report.unrecorded_calls:,} {were} not recorded, or not completely, and not included above.")
    blank = [""] if lines else []
    for text in (*blank, *lines, *_budget_lines(budgets, config)):
        console.print(text)


def _no_calls(report: CostReport, config: Config) -> str:
    if not config.ledger.enabled:
        return "No calls are recorded: the ledger is off (ledger.enabled = false)."
    return (
        f"No calls are recorded{_since(report)}. Each call through llama_client is, from Python or by this command: "
        'llama-client chat "Why do llamas hum?"'
    )


def _table(groups: Sequence[CostGroup], by: str, width: int) -> RenderableType:
    names = ("calls", "input", "output", "spent", "unpriced", "errors")
    rows = [
        [
            readable(group.key),
            f"{group.calls:,}",
            f"{group.input_tokens:,}",
            f"{group.output_tokens:,}",
            "-" if is_unpriced(group) else usd,
            f"{group.unpriced_calls:,}" if group.unpriced_calls else "",
            f"{group.errors:,}" if group.errors else "",
        ]
        for group, usd in zip(groups, money_column([group.usd for group in groups]), strict=True)
    ]
    return table_of([(by, False), *((name, True) for name in names)], rows, width=width)


def _unpriced(report: CostReport) -> str:
    count = report.unpriced_calls
    if not count:
        return "The cost of every call is known."
    names = [readable(group.key) for group in report.groups if group.unpriced_calls]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    verb = "call has" if count == 1 else "calls have"
    return f"{count:,} {verb} a part of unknown cost, not included in the sums: {', '.join(names[:_MAX_NAMED])}{more}"


def _budget_lines(budgets: Sequence[BudgetState], config: Config) -> Iterator[str]:
    """Where there are too many to show, those with the least left."""
    listed = budgets
    if len(budgets) > _MAX_BUDGETS:
        listed = sorted(budgets, key=lambda state: _left(state) / state.usd)[:_MAX_BUDGETS]
    zone = ZoneInfo(config.timezone)
    for state in listed:
        resets = f"{state.resets_at.astimezone(zone):%Y-%m-%d %H:%M}" if state.resets_at else None
        until = f", resets {resets} {config.timezone}" if resets else ""
        left = _left(state)
        rest = f"{shown(left)} left" if left >= 0 else f"over by {shown(-left)}"
        yield ""
        yield f"Budget {readable(state.budget)}: {shown(state.usd)}{until}"
        yield f"  {shown(state.spent_usd)} spent, {shown(state.reserved_usd)} reserved, {rest}"
    if len(listed) < len(budgets):
        yield ""
        yield f"{len(budgets) - len(listed):,} more budgets with more left"


def _left(state: BudgetState) -> Decimal:
    return state.usd - state.spent_usd - state.reserved_usd
