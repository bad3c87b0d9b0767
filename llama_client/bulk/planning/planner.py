"""Which venue is the cheapest that meets the deadline: the quotes, the choice, and its reasons. No I/O."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from llama_client.bulk.batches.limits import BatchLimits
from llama_client.bulk.planning.pricing import Group, Measure, Sums, sum_of
from llama_client.bulk.planning.quotes import BulkPlan, VenueQuote

# Until a rate is measured: what a small account is permitted at the services of the list.
ASSUMED_ROWS_PER_S = 8.0
# Half of the batches at hosted services end within minutes, nine in ten within the hour.
_USUAL_BATCH_S, _LONG_BATCH_S = 420.0, 3600.0
_IN_TIME, _IN_SHORT_TIME = Decimal("0.9"), Decimal("0.5")
# A batch that has less time is not worth its files.
_SHORTEST_BATCH_S = 900.0
# Ending batches that are late takes so long: a request is tried for ten minutes.
_CANCELLING_S = 900.0
# The rows of a late batch may take so much longer than at the rate that is known.
_MARGIN = 2.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What a job does.

    Attributes:
        plan: As it is told.
        targets: The target of each group's batches, for groups that are handed in.
    """

    plan: BulkPlan
    targets: Mapping[tuple[str, ...], str]


def rescue_s(rows: int, rows_per_s: float = ASSUMED_ROWS_PER_S) -> float:
    """How many seconds before the deadline batches are cancelled, so that their rows can be asked at once."""
    return rows / rows_per_s * _MARGIN + _CANCELLING_S


def choose(
    measure: Measure,
    limits: Mapping[str, BatchLimits],
    *,
    deadline_s: float | None,
    venues: Collection[str],
    has_folder: bool,
    rows_per_s: float = ASSUMED_ROWS_PER_S,
) -> Choice:
    """Decides.

    Args:
        measure: The rows.
        limits: Those of the batch APIs, by target.
        deadline_s: In how many seconds the job should be done; None: no matter.
        venues: Those that are permitted.
        has_folder: Whether the job is kept, so that batches are found again.
        rows_per_s: The rate through the router.
    """
    left_s = _time_for_batches(deadline_s, venues, measure.rows, rows_per_s)
    quotes: list[VenueQuote] = []
    targets: dict[tuple[str, ...], str] = {}
    usd: Decimal | None = Decimal(0)
    most_usd: Decimal | None = Decimal(0)
    batch_rows = rescued = 0
    for key, group in measure.groups.items():
        now = _now(group, measure, deadline_s, venues, rows_per_s)
        batches = _batches(group, limits, left_s, deadline_s, venues, has_folder=has_folder)
        quotes += [now, *batches]
        usable = [each for each in batches if each.is_possible and each.usd is not None]
        best = min(usable, key=lambda each: each.usd or Decimal(0), default=None)
        most_usd = sum_of(most_usd, now.most_usd)
        sums = None if best is None else group.batches[best.target]
        is_cheaper = best is not None and now.usd is not None and sums is not None and _is_cheaper(sums, group)
        if best is None or sums is None or not (is_cheaper or not now.is_possible):
            usd = sum_of(usd, group.now.usd)
            continue
        share = _share_in_time(left_s)
        targets[key] = best.target
        batch_rows += best.rows
        rescued += round(best.rows * (1 - share))
        usd = sum_of(usd, _mixed(sums, group, share))
    return Choice(_plan(measure, deadline_s, batch_rows, rescued, usd, most_usd, quotes, left_s), targets)


def _time_for_batches(deadline_s: float | None, venues: Collection[str], rows: int, rate: float) -> float:
    """How long batches may run before they would be cancelled."""
    if deadline_s is None:
        # Nobody who names no deadline waits for a day, unless batches alone are asked for.
        return _DAY_S if "now" not in venues else 0.0
    return deadline_s - rescue_s(rows, rate)


def _now(group: Group, measure: Measure, deadline_s: float | None, venues: Collection[str], rate: float) -> VenueQuote:
    takes_s = measure.rows / rate
    why, is_possible = f"at {rate:g} rows a second, which nothing has measured yet", "now" in venues
    if not is_possible:
        why = "venues leaves it out; it is for rows that no batch answers"
    elif deadline_s is not None and takes_s > deadline_s:
        why = f"may end later than the deadline, at {rate:g} rows a second, which nothing has measured yet"
    sums = group.now
    return VenueQuote(
        venue="now", target=group.name, rows=sums.rows, is_possible=is_possible, why=why, usd=sums.usd,
        most_usd=sums.most_usd, ends_in_s=takes_s,
    )  # fmt: skip


def _batches(
    group: Group,
    limits: Mapping[str, BatchLimits],
    left_s: float,
    deadline_s: float | None,
    venues: Collection[str],
    *,
    has_folder: bool,
) -> list[VenueQuote]:
    quotes = []
    for target in group.targets:
        sums, limit = group.batches.get(target.name), limits.get(target.name)
        if sums is None or limit is None:
            why = group.refusals.get(target.name, "it has no batch API")
            quotes.append(VenueQuote(venue="batch", target=target.name, rows=0, is_possible=False, why=why))
            continue
        refusal = _refusal(sums, left_s, deadline_s, venues, has_folder=has_folder)
        parts = max(math.ceil(sums.rows / limit.max_lines), math.ceil(sums.size_bytes / limit.max_bytes))
        quotes.append(
            VenueQuote(
                venue="batch",
                target=target.name,
                rows=sums.rows,
                is_possible=refusal is None,
                why=refusal or f"{limit.title}: usually minutes, at most {limit.windows_s[0] // 3600} h",
                usd=sums.usd,
                most_usd=sums.most_usd,
                ends_in_s=_USUAL_BATCH_S,
                latest_s=deadline_s if deadline_s is not None else float(limit.windows_s[0]),
                parts=parts,
            )
        )
    return quotes


def _refusal(
    sums: Sums, left_s: float, deadline_s: float | None, venues: Collection[str], *, has_folder: bool
) -> str | None:
    if "batch" not in venues:
        return "venues leaves it out"
    if not has_folder:
        return "the job has no folder in which a batch is found again: give job=, or run it to a file"
    if deadline_s is None and left_s <= 0:
        return "no deadline is given, so all is asked at once; deadline_s=86400 permits batches"
    if left_s < _SHORTEST_BATCH_S:
        return "the deadline is too near: rows of a batch that is late could not be asked in time"
    return "its price is unknown" if sums.usd is None else None


def _is_cheaper(sums: Sums, group: Group) -> bool:
    """For each row: a batch may hold fewer rows than the group has."""
    if sums.usd is None or group.now.usd is None or not sums.rows:
        return False
    return sums.usd / sums.rows < group.now.usd / group.now.rows


def _share_in_time(left_s: float) -> Decimal:
    return _IN_TIME if left_s >= _LONG_BATCH_S else _IN_SHORT_TIME


def _mixed(sums: Sums, group: Group, share: Decimal) -> Decimal | None:
    if sums.usd is None or group.now.usd is None:
        return None
    at_once = group.now.usd / group.now.rows
    return sums.usd * share + at_once * (group.now.rows - sums.rows * share)


def _plan(
    measure: Measure,
    deadline_s: float | None,
    batch_rows: int,
    rescued: int,
    usd: Decimal | None,
    most_usd: Decimal | None,
    quotes: list[VenueQuote],
    left_s: float,
) -> BulkPlan:
    cost = "an unknown amount" if usd is None else f"about ${usd:.6f}" if usd else "nothing"
    all_are = "The row is" if measure.rows == 1 else f"All {measure.rows:,} rows are"
    if batch_rows:
        usable = (each.target for each in quotes if each.venue == "batch" and each.is_possible)
        names = " and ".join(dict.fromkeys(usable))
        until = "at their end" if deadline_s is None else f"after {_duration(left_s)}, in time for the deadline,"
        said = (
            f"{batch_rows:,} of {measure.rows:,} rows go to batches of {names}, the least expected cost ({cost}). "
            f"What has no answer {until} is asked at once; about {rescued:,} rows are expected to be."
        )
    else:
        reasons = [f"{each.target}: {each.why}" for each in quotes if each.venue == "batch" and not each.is_possible]
        dear = "" if reasons else "No batch is cheaper."
        said = f"{all_are} asked at once, for {cost}. " + (
            f"No batches: {'; '.join(dict.fromkeys(reasons[:3]))}." if reasons else dear
        )
    return BulkPlan(
        rows=measure.rows,
        input_tokens=round(measure.input_tokens),
        output_tokens=round(measure.output_tokens),
        deadline_s=deadline_s,
        venue="batch" if batch_rows * 2 > measure.rows else "now",
        batch_rows=batch_rows,
        rescued_rows=rescued,
        usd=usd,
        most_usd=most_usd,
        quotes=tuple(quotes),
        explanation=said.strip(),
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
