"""`llama-client costs`: what was spent, what of it nobody knows, and what budgets have left."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from llama_client import LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import printable, table_of
from llama_client.costs.charts import is_unpriced, readable
from llama_client.costs.money import shown
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from decimal import Decimal

    from rich.console import Console, RenderableType

    from llama_client.config.schema import Config
    from llama_client.types.report import BudgetState, CostGroup, CostReport, DayCosts

_TERMINAL = "-"
_UNREADABLE = "the ledger cannot be read"
_COLUMNS = ("key", "calls", "input_tokens", "output_tokens", "usd", "unpriced_calls", "errors")
# Of what may be many (a budget for each user, say), as many as are read.
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
    """What was spent, what of it nobody knows, and what budgets have left.

    Every call through this package is written down, whichever program made it: times, tokens and money, never what
    was said. This adds them up, in US dollars. A call whose price nobody knows is counted apart, never as 0.

    \b
    Examples:
      llama-client costs
      llama-client costs --since 7d --by day --plot
      llama-client costs --since 2026-11-01 --by tag:user --csv > november.csv
      llama-client costs --since 30d --by provider --plot costs.png
      llama-client costs --json | jq -r .total_usd
    """
    picture = _picture(plot)
    _require_one_form(as_json=as_json, as_csv=as_csv, charts=plot is not None and picture is None)
    loaded = load_config(config)
    with LlamaClient(loaded) as client:
        try:
            report = client.costs.report(since=since, by=by)
        except InvalidRequestError as error:
            raise failures.in_options(error, command) from error
        # A chart has a bar a day anyway.
        days = client.costs.timeline(since=since, by="target" if by == "day" else by) if plot is not None else []
        budgets = [] if as_json or as_csv else client.costs.budgets()
    if picture is not None:
        _draw(days, picture, report, "target" if by == "day" else by)
    if as_json:
        click.echo(json.dumps(report.model_dump(mode="json")))
    elif as_csv:
        click.echo(_csv(report.groups), nl=False)
    else:
        _show(report, by, days if picture is None else [], budgets, loaded)


def _picture(plot: str | None) -> Path | None:
    """The file to draw into; None: there is none."""
    if plot is None or plot == _TERMINAL:
        return None
    from llama_client.figures import ENDINGS

    path = Path(plot)
    if path.suffix.lower() not in ENDINGS:
        raise click.UsageError(f"--plot: the file must end in {' or '.join(ENDINGS)}, got {plot!r}")
    return path


def _require_one_form(*, as_json: bool, as_csv: bool, charts: bool) -> None:
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are two forms of the same: give one of them")
    if charts and (as_json or as_csv):
        form = "--json" if as_json else "--csv"
        raise click.UsageError(
            f"--plot draws where {form} is printed: give it a FILE.png or FILE.svg, or leave one out"
        )


def _draw(days: Sequence[DayCosts], path: Path, report: CostReport, by: str) -> None:
    from llama_client.costs.charts import save

    if not days:
        click.echo(f"llama-client: no calls, so {printable(str(path))} is not drawn", err=True)
        return
    since = "" if report.since is None else f" since {report.since:%Y-%m-%d %H:%M}"
    try:
        save(days, path, title=f"Costs by {by}{since}")
    except OSError as error:
        raise click.UsageError(
            f"--plot: {printable(str(path))} cannot be written: {error.strerror or error}"
        ) from error
    click.echo(f"The picture is in {printable(str(path))}", err=True)


def _csv(groups: Sequence[CostGroup]) -> str:
    """RFC 4180, but for lines that end as Unix has them."""
    lines = []
    for row in (_COLUMNS, *(_csv_row(group) for group in groups)):
        line = io.StringIO(newline="")
        # With its own line end it would leave carriage returns within values unquoted.
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _csv_row(group: CostGroup) -> tuple[str, ...]:
    values = group.model_dump(mode="json")
    key = printable(group.key) if sys.stdout is not None and sys.stdout.isatty() else group.key
    return (key, *(str(values[name]) for name in _COLUMNS[1:]))


def _show(
    report: CostReport, by: str, days: Sequence[DayCosts], budgets: Sequence[BudgetState], config: Config
) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    if not report.groups:
        console.print(Text(_nothing(report, config)))
    elif days:
        from llama_client.costs.charts import terminal_chart

        for line in terminal_chart(days, console.width, ascii_only=console.options.ascii_only):
            console.print(line)
    else:
        console.print(_table(report.groups, by, console.width))
    lines = [] if not report.groups else [_spent(report), _unpriced(report)]
    if report.unrecorded_calls:
        lines.append(f"{_calls(report.unrecorded_calls)} not written down, or not wholly; nothing above counts them.")
    if lines:
        console.print()
    for said in lines:
        console.print(Text(said))
    _show_budgets(console, budgets, config)


def _nothing(report: CostReport, config: Config) -> str:
    if not config.ledger.enabled:
        return "No calls are written down: the ledger is switched off (ledger.enabled = false)."
    since = "" if report.since is None else f" since {report.since:%Y-%m-%d %H:%M}"
    return (
        f"No calls are written down{since}. Each call through llama_client is, from Python or by this command: "
        'llama-client chat "Why do llamas hum?"'
    )


def _table(groups: Sequence[CostGroup], by: str, width: int) -> RenderableType:
    from llama_client.costs.charts import money_column

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


def _spent(report: CostReport) -> str:
    since = "" if report.since is None else f" since {report.since:%Y-%m-%d %H:%M}"
    return f"{shown(report.total_usd)} spent in {report.calls:,} call{'s' * (report.calls != 1)}{since}."


def _unpriced(report: CostReport) -> str:
    count = report.unpriced_calls
    if not count:
        return "The cost of every call is known."
    names = [readable(group.key) for group in report.groups if group.unpriced_calls]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    verb = "call has" if count == 1 else "calls have"
    return (
        f"{count:,} {verb} a part whose cost nobody knows; the sums hold nothing of it: "
        f"{', '.join(names[:_MAX_NAMED])}{more}"
    )


def _calls(count: int) -> str:
    return f"{count:,} call was" if count == 1 else f"{count:,} calls were"


def _show_budgets(console: Console, budgets: Sequence[BudgetState], config: Config) -> None:
    """Those that have least left come first, where not all are shown."""
    from rich.text import Text

    listed = budgets
    if len(budgets) > _MAX_BUDGETS:
        listed = sorted(budgets, key=lambda state: _left(state) / state.usd)[:_MAX_BUDGETS]
    zone = ZoneInfo(config.timezone)
    for state in listed:
        until = (
            f", resets {state.resets_at.astimezone(zone):%Y-%m-%d %H:%M} {config.timezone}" if state.resets_at else ""
        )
        console.print()
        console.print(Text(f"Budget {readable(state.budget)}: {shown(state.usd)}{until}"))
        left = _left(state)
        rest = f"{shown(left)} left" if left >= 0 else f"over by {shown(-left)}"
        console.print(Text(f"  {shown(state.spent_usd)} spent, {shown(state.reserved_usd)} set aside, {rest}"))
    if len(listed) < len(budgets):
        console.print()
        console.print(Text(f"{len(budgets) - len(listed):,} more budgets, which have more left"))


def _left(state: BudgetState) -> Decimal:
    return state.usd - state.spent_usd - state.reserved_usd
