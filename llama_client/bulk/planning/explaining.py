"""What a job is going to do, and why, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_client.bulk.planning.measure import Measure
    from llama_client.bulk.planning.quotes import VenueQuote
    from llama_client.bulk.planning.quoting import Setting


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen.

    Attributes:
        usd: What is expected; None: unknown.
        idle_rows: How many rows wait for idle hours.
        batch_rows: How many go to batches.
        rescued: How many of these are expected to be late.
        left_s: How long batches may run.
        are_counted_on: Whether `usd` is with what idle hours answer.
    """

    usd: Decimal | None
    idle_rows: int
    batch_rows: int
    rescued: int
    left_s: float
    are_counted_on: bool


def explained(measure: Measure, setting: Setting, quotes: Sequence[VenueQuote], chosen: Chosen) -> str:
    """The sentences.

    Args:
        measure: The rows of the job.
        setting: What was permitted, and what was known.
        quotes: The price of every venue.
        chosen: What was chosen.
    """
    rows, usd = measure.rows, chosen.usd
    cost = "an unknown amount" if usd is None else f"about ${usd:.6f}" if usd else "nothing"
    said: list[str] = []
    if measure.kept_rows:
        have = "row has its answer" if measure.kept_rows == 1 else "rows have their answers"
        said.append(f"{measure.kept_rows:,} {have} in the cache, for nothing.")
        if not rows:
            return said[0]
        said.append("Of the others:")
    if chosen.idle_rows:
        said += _idle(rows, setting, quotes, chosen, cost)
    if chosen.batch_rows:
        names = _names(quotes, "batch")
        until = (
            "at their end"
            if setting.deadline_s is None
            else f"after {duration(chosen.left_s)}, in time for the deadline,"
        )
        said.append(
            f"{chosen.batch_rows:,} of {rows:,} rows go to batches of {names}, the least expected cost ({cost})."
        )
        said.append(f"What has no answer {until} is asked at once; about {chosen.rescued:,} rows are expected to be.")
    rest = rows - chosen.idle_rows - chosen.batch_rows
    if rest == rows:
        all_are = "The row is" if rows == 1 else f"All {rows:,} rows are"
        said += [f"{all_are} asked at once, for {cost}.", *_why_at_once(quotes)]
    elif rest and chosen.idle_rows:
        said.append(f"{rest:,} {'row is' if rest == 1 else 'rows are'} asked at once.")
    if not chosen.idle_rows:
        said += _why_not_idle(quotes)
    if rest or setting.deadline_s is not None:
        said += _speeds(quotes)
    return " ".join(said)


def _idle(rows: int, setting: Setting, quotes: Sequence[VenueQuote], chosen: Chosen, cost: str) -> list[str]:
    hours = "" if setting.hours is None else f" {setting.hours.text}"
    wait = f"{chosen.idle_rows:,} of {rows:,} {'row waits' if rows == 1 else 'rows wait'}"
    said = [f"{wait} for the idle hours{hours} of {_names(quotes, 'idle')}."]
    if chosen.are_counted_on:
        said.append(f"All rows cost {cost}, the least that is expected.")
    else:
        said.append(
            f"How fast it answers is unknown, so it is not counted on: at the most likely all rows cost {cost}."
        )
    if setting.deadline_s is None:
        return said
    if "now" in setting.venues:
        said.append("What they do not answer is asked at once, in time for the deadline.")
    else:
        in_time = sum(each.rows for each in quotes if each.venue == "idle")
        if any(each.venue == "idle" and each.is_possible and each.ends_in_s is None for each in quotes):
            said.append("How fast it answers is unknown, so whether they are done before the deadline is, too.")
        elif in_time < chosen.idle_rows:
            said.append(f"About {in_time:,} are expected before the deadline; the others have no other venue.")
    return said


def _why_at_once(quotes: Sequence[VenueQuote]) -> list[str]:
    batches = [f"{each.target}: {each.why}" for each in quotes if each.venue == "batch" and not each.is_possible]
    return [f"No batches: {'; '.join(dict.fromkeys(batches[:3]))}." if batches else "No batch is cheaper."]


def _why_not_idle(quotes: Sequence[VenueQuote]) -> list[str]:
    idle = [f"{each.target}: {each.why}" for each in quotes if each.venue == "idle"]
    return [f"No idle hours: {'; '.join(dict.fromkeys(idle[:3]))}."] if idle else []


def _speeds(quotes: Sequence[VenueQuote]) -> list[str]:
    """How long asking at once takes."""
    at_once = [each for each in quotes if each.venue == "now" and each.is_possible]
    unknown = dict.fromkeys(each.target for each in at_once if each.ends_in_s is None)
    if unknown:
        return [f"How fast {' and '.join([*unknown][:3])} answers is unknown, so when it ends is, too."]
    slowest = max(at_once, key=lambda each: each.ends_in_s or 0.0, default=None)
    if slowest is None or slowest.ends_in_s is None:
        return []
    return [f"Asking all of it at once takes about {duration(slowest.ends_in_s)} ({slowest.why})."]


def _names(quotes: Sequence[VenueQuote], venue: str) -> str:
    usable = (each.target for each in quotes if each.venue == venue and each.is_possible)
    return " and ".join(dict.fromkeys(usable))


def duration(seconds: float) -> str:
    """In hours or minutes, for people."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
