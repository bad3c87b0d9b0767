"""What each venue would cost and take, for a group of rows. No I/O."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.bulk.planning.quotes import VenueQuote

if TYPE_CHECKING:
    from llama_client.bulk.batches.limits import BatchLimits
    from llama_client.bulk.idle.hours import IdleHours
    from llama_client.bulk.planning.measure import Group, Sums
    from llama_client.bulk.planning.speeds import RowTime, Speed

DAY_S = 86_400.0
# Half of the batches at hosted services end within minutes.
_USUAL_BATCH_S = 420.0
# A batch that has less time is not worth its files.
_SHORTEST_BATCH_S = 900.0
_PRICE_REMEDY = "set usd_per_hour, or watts and usd_per_kwh, of its provider, or its price in [[prices]]"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a plan is made of, beside the rows.

    Attributes:
        limits: Those of the batch APIs, by target.
        venues: Those that are permitted.
        deadline_s: In how many seconds the job should be done; None: no matter.
        has_folder: Whether the job is kept, so that batches are found again.
        hours: When this machine is idle; None: never.
        at: Unix time.
        speeds: How fast rows are asked at once, by the key of their group; what is absent is unknown.
        row_times: The same for idle hours.
    """

    limits: Mapping[str, BatchLimits]
    venues: Collection[str]
    deadline_s: float | None = None
    has_folder: bool = True
    hours: IdleHours | None = None
    at: float = 0.0
    speeds: Mapping[tuple[str, ...], Speed] = field(default_factory=dict)
    row_times: Mapping[tuple[str, ...], RowTime] = field(default_factory=dict)


def now_quote(group: Group, setting: Setting, speed: Speed) -> VenueQuote:
    """Asking a group's rows at once."""
    sums, is_possible, why = group.now, "now" in setting.venues, speed.why
    takes_s = None if speed.rows_per_s is None else speed.blocked_s + sums.rows / speed.rows_per_s
    if not is_possible:
        why = "venues leaves it out" + ("; it is for rows that no batch answers" if "batch" in setting.venues else "")
    elif setting.deadline_s is not None and takes_s is not None and takes_s > setting.deadline_s:
        why = f"may end later than the deadline, {speed.why}"
    return VenueQuote(
        venue="now", target=group.name, rows=sums.rows, is_possible=is_possible, why=why, usd=sums.usd,
        most_usd=sums.most_usd, ends_in_s=takes_s,
    )  # fmt: skip


def batch_quotes(group: Group, setting: Setting, left_s: float) -> list[VenueQuote]:
    """A batch at each target of a group.

    Args:
        group: The rows.
        setting: What is permitted.
        left_s: How long batches may run before they would be cancelled.
    """
    quotes = []
    for target in group.targets:
        sums, limit = group.batches.get(target.name), setting.limits.get(target.name)
        if sums is None or limit is None:
            why = group.refusals.get(target.name, "it has no batch API")
            quotes.append(VenueQuote(venue="batch", target=target.name, rows=0, is_possible=False, why=why))
            continue
        refusal = _batch_refusal(sums, left_s, setting)
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
                latest_s=setting.deadline_s if setting.deadline_s is not None else float(limit.windows_s[0]),
                parts=parts,
            )
        )
    return quotes


def idle_quote(key: tuple[str, ...], group: Group, setting: Setting, idle_s: float) -> VenueQuote | None:
    """This machine in idle hours; None: no hours are stated.

    Args:
        key: That of the group.
        group: The rows.
        setting: What is permitted, and what is known.
        idle_s: How long the machine may be counted on.
    """
    if setting.hours is None:
        return None
    if group.local is None:
        why = "no target of the rows that can take them runs on this machine"
        return VenueQuote(venue="idle", target=group.name, rows=0, is_possible=False, why=why)
    known, rows = setting.row_times.get(key), group.idle.rows
    usd, why, ends_in_s = idle_usd(key, group, setting), setting.hours.text, None
    if known is None:
        why += "; how fast it answers is unknown, so it is not counted on (llama-client bench measures it)"
        rows = rows if setting.deadline_s is None else 0
    else:
        rows = min(rows, int(idle_s / known.row_s)) if math.isfinite(idle_s) else rows
        why += f"; a row takes about {known.row_s:.3g} s, by {known.calls:,} calls"
        done_at = setting.hours.worked_until(setting.at, rows * known.row_s)
        ends_in_s = None if done_at is None else done_at - setting.at
    if usd is None and (known is not None or not group.usd_per_hour):
        why += f"; its price is unknown: {_PRICE_REMEDY}"
    return VenueQuote(
        venue="idle",
        target=group.local.name,
        rows=rows,
        is_possible=True,
        why=why,
        usd=None if usd is None else usd * rows,
        most_usd=group.idle.most_usd,
        ends_in_s=ends_in_s,
    )


def idle_usd(key: tuple[str, ...], group: Group, setting: Setting) -> Decimal | None:
    """What a row costs at this machine; None: unknown."""
    if group.idle.usd is None or not group.idle.rows:
        return None
    known = setting.row_times.get(key)
    if not group.usd_per_hour:
        return group.idle.usd / group.idle.rows
    # The ledger charges the time of each call.
    return None if known is None else group.usd_per_hour * Decimal(known.call_s) / 3600


def _batch_refusal(sums: Sums, left_s: float, setting: Setting) -> str | None:
    if "batch" not in setting.venues:
        return "venues leaves it out"
    if not setting.has_folder:
        return "the job has no folder in which a batch is found again: give job=, or run it to a file"
    if setting.deadline_s is None and left_s <= 0:
        return "no deadline is given, so all is asked at once; deadline_s=86400 permits batches"
    if left_s < _SHORTEST_BATCH_S:
        return "the deadline is too near: rows of a batch that is late could not be asked in time"
    return "its price is unknown" if sums.usd is None else None
