"""Which venue is the cheapest that meets the deadline: the choice for each group of rows. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from llama_client.bulk.idle.shift import slack_s
from llama_client.bulk.planning.explaining import Chosen, explained
from llama_client.bulk.planning.measure import Group, Measure, Sums, sum_of
from llama_client.bulk.planning.quotes import BulkPlan, VenueQuote
from llama_client.bulk.planning.quoting import DAY_S, Setting, batch_quotes, idle_quote, idle_usd, now_quote
from llama_client.bulk.planning.speeds import UNKNOWN

# Until a rate is measured: what a small account is permitted at the services of the list.
ASSUMED_ROWS_PER_S = 8.0
# Half of the batches at hosted services end within minutes, nine in ten within the hour.
_LONG_BATCH_S = 3600.0
_IN_TIME, _IN_SHORT_TIME = Decimal("0.9"), Decimal("0.5")
# Ending batches that are late takes so long: a request is tried for ten minutes.
_CANCELLING_S = 900.0
# The rows of a late batch may take so much longer than at the rate that is known.
_MARGIN = 2.0
# Of what idle hours can hold by the rate that is known, so much is filled.
_FILLED = 0.8


@dataclass(frozen=True, slots=True)
class Choice:
    """What a job does.

    Attributes:
        plan: As it is told.
        targets: The target of each group's batches, for groups that are handed in.
        idle: How many rows of a group wait for idle hours, the last ones, for groups of which some do.
        rows_per_s: At what rate rows are asked at once, of all groups.
    """

    plan: BulkPlan
    targets: Mapping[tuple[str, ...], str]
    idle: Mapping[tuple[str, ...], int]
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class _Share:
    """What becomes of a group's rows."""

    idle_rows: int
    is_counted_on: bool
    batch: VenueQuote | None
    batch_rows: int
    usd: Decimal | None
    most_usd: Decimal | None
    quotes: tuple[VenueQuote, ...]


def rescue_s(rows: int, rows_per_s: float = ASSUMED_ROWS_PER_S) -> float:
    """How many seconds before the deadline batches are cancelled, so that their rows can be asked at once."""
    return rows / rows_per_s * _MARGIN + _CANCELLING_S


def choose(measure: Measure, setting: Setting) -> Choice:
    """Decides.

    Args:
        measure: The rows.
        setting: What is permitted, and what is known.
    """
    rate = _rate(measure, setting)
    left_s = _time_for_batches(setting, measure.rows, rate)
    idle_s = _idle_time(setting)
    shares: dict[tuple[str, ...], _Share] = {}
    for key, group in measure.groups.items():
        found = _share(key, group, setting, left_s, idle_s)
        shares[key] = found
        known = setting.row_times.get(key)
        if known is not None:
            # Groups share the machine.
            idle_s = max(idle_s - found.idle_rows * known.row_s, 0.0)
    targets = {key: each.batch.target for key, each in shares.items() if each.batch is not None and each.batch_rows}
    idle = {key: each.idle_rows for key, each in shares.items() if each.idle_rows}
    return Choice(_plan(measure, setting, [*shares.values()], left_s), targets, idle, rate)


def _rate(measure: Measure, setting: Setting) -> float:
    """Rows a second that are asked at once, of all groups."""
    needs_s = 0.0
    for key, group in measure.groups.items():
        speed = setting.speeds.get(key, UNKNOWN)
        needs_s = max(needs_s, speed.blocked_s + group.now.rows / (speed.rows_per_s or ASSUMED_ROWS_PER_S))
    return measure.rows / needs_s if needs_s else ASSUMED_ROWS_PER_S


def _time_for_batches(setting: Setting, rows: int, rate: float) -> float:
    """How long batches may run before they would be cancelled."""
    if setting.deadline_s is None:
        # Nobody who names no deadline waits for a day, unless batches alone are asked for.
        return DAY_S if "now" not in setting.venues else 0.0
    return setting.deadline_s - rescue_s(rows, rate)


def _idle_time(setting: Setting) -> float:
    """How long this machine may be counted on."""
    if setting.hours is None:
        return 0.0
    if setting.deadline_s is None:
        return float("inf")
    slack = slack_s(max((each.call_s for each in setting.row_times.values()), default=0.0))
    return setting.hours.open_s(setting.at, setting.at + max(setting.deadline_s - slack, 0.0)) * _FILLED


def _share(key: tuple[str, ...], group: Group, setting: Setting, left_s: float, idle_s: float) -> _Share:
    now = now_quote(group, setting, setting.speeds.get(key, UNKNOWN))
    batches = batch_quotes(group, setting, left_s)
    quotes = [now, *batches]
    best = _best(batches, group, is_now_possible=now.is_possible)
    share = _share_in_time(left_s)
    rows = group.now.rows
    elsewhere = group.now.usd if best is None else _mixed(group.batches[best.target], group, share)
    idle = idle_quote(key, group, setting, idle_s)
    row_usd = idle_usd(key, group, setting)
    idle_rows, is_counted_on = 0, True
    if idle is not None:
        quotes.append(idle)
        is_forced = "now" not in setting.venues and best is None
        if idle.is_possible and (is_forced or _is_no_dearer(row_usd, elsewhere, rows)):
            is_known = key in setting.row_times or setting.deadline_s is None
            idle_rows = group.idle.rows if is_forced or (not is_known and best is None) else idle.rows
            # Without a rate it may answer none of them before the deadline.
            is_counted_on = is_known or is_forced
    rest = rows - (idle_rows if is_counted_on else 0)
    usd = None if elsewhere is None else elsewhere * rest / rows
    if not rest:
        usd = Decimal(0)
    if is_counted_on and idle_rows:
        usd = sum_of(usd, None if row_usd is None else row_usd * idle_rows)
    batch_rows = 0 if best is None else round(best.rows * (rows - idle_rows) / rows)
    most = _most(group, setting, idle_rows)
    return _Share(idle_rows, is_counted_on, best, batch_rows, usd, most, tuple(quotes))


def _best(batches: list[VenueQuote], group: Group, *, is_now_possible: bool) -> VenueQuote | None:
    """The batch to use, if any."""
    usable = [each for each in batches if each.is_possible and each.usd is not None]
    best = min(usable, key=lambda each: each.usd or Decimal(0), default=None)
    if best is None or (is_now_possible and not _is_cheaper(group.batches[best.target], group)):
        return None
    return best


def _is_cheaper(sums: Sums, group: Group) -> bool:
    """For each row: a batch may hold fewer rows than the group has."""
    if sums.usd is None or group.now.usd is None or not sums.rows:
        return False
    return sums.usd / sums.rows < group.now.usd / group.now.rows


def _is_no_dearer(row_usd: Decimal | None, elsewhere: Decimal | None, rows: int) -> bool:
    """Whether idle hours are not more expensive: they are named so that they be used."""
    return row_usd is not None and (elsewhere is None or row_usd * rows <= elsewhere)


def _most(group: Group, setting: Setting, idle_rows: int) -> Decimal | None:
    if not idle_rows:
        return group.now.most_usd
    if "now" not in setting.venues and idle_rows == group.now.rows:
        return group.idle.most_usd
    # Each row may be paid at this machine, and then elsewhere.
    return sum_of(group.now.most_usd, group.idle.most_usd)


def _share_in_time(left_s: float) -> Decimal:
    return _IN_TIME if left_s >= _LONG_BATCH_S else _IN_SHORT_TIME


def _mixed(sums: Sums, group: Group, share: Decimal) -> Decimal | None:
    if sums.usd is None or group.now.usd is None:
        return None
    at_once = group.now.usd / group.now.rows
    return sums.usd * share + at_once * (group.now.rows - sums.rows * share)


def _plan(measure: Measure, setting: Setting, shares: list[_Share], left_s: float) -> BulkPlan:
    usd: Decimal | None = Decimal(0)
    most_usd: Decimal | None = Decimal(0)
    rescued = 0
    for each in shares:
        usd, most_usd = sum_of(usd, each.usd), sum_of(most_usd, each.most_usd)
        rescued += round(each.batch_rows * (1 - _share_in_time(left_s)))
    batch_rows, idle_rows = sum(each.batch_rows for each in shares), sum(each.idle_rows for each in shares)
    quotes = tuple(quote for each in shares for quote in each.quotes)
    chosen = Chosen(
        usd, idle_rows, batch_rows, rescued, left_s, are_counted_on=all(each.is_counted_on for each in shares)
    )
    return BulkPlan(
        rows=measure.rows + measure.kept_rows,
        kept_rows=measure.kept_rows,
        input_tokens=round(measure.input_tokens),
        output_tokens=round(measure.output_tokens),
        deadline_s=setting.deadline_s,
        venue="batch" if batch_rows * 2 > measure.rows else "idle" if idle_rows * 2 > measure.rows else "now",
        batch_rows=batch_rows,
        idle_rows=idle_rows,
        rescued_rows=rescued,
        usd=usd,
        most_usd=most_usd,
        quotes=quotes,
        explanation=explained(measure, setting, quotes, chosen),
    )
