"""A plan of a fleet as tables and sentences, and as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from llama_client.crossover.fleets.parts import FleetPlan
from llama_client.crossover.format import counted, figure, in_words, iso_day, share, tokens, usd
from llama_client.crossover.report_tables import Table


def tables(plan: FleetPlan) -> list[Table]:
    """The mix, what else was considered, and what both rest on."""
    parts = [
        [
            part.name,
            "-" if part.replicas is None else f"{part.replicas:,}",
            "-" if part.replica_hours_per_month is None else figure(round(part.replica_hours_per_month)),
            share(part.token_share),
            usd(part.usd_per_month),
        ]
        for part in plan.parts
    ]
    if plan.fixed_usd_per_month:
        parts.append(["staff and disks", "", "", "", usd(plan.fixed_usd_per_month)])
    parts.append(["all", "", "", "", usd(plan.usd_per_month)])
    considered = [
        [each.name, "-" if each.usd_per_month is None else usd(each.usd_per_month), each.why]
        for each in plan.considered
    ]
    rests_on = [
        [
            in_words(each.name),
            f"{figure(each.value)} {each.unit}".strip(),
            each.source
            + (f"; {each.as_of}" if each.as_of is not None else "")
            + (f"; unverified: {each.unverified}" if each.unverified else ""),
        ]
        for each in plan.assumptions
    ]
    heading = f"The cheapest fleet for {tokens(plan.tokens_per_day)} tokens a day, hour by hour"
    return [
        Table(heading, ["part", "at most", "hours a month", "tokens", "a month"], parts, plan.source),
        Table("What else was considered", ["fleet", "a month", "why not"], considered),
        Table("What the fleet rests on", ["figure", "value", "source"], rests_on),
    ]


def notes(plan: FleetPlan) -> Iterator[str]:
    """Why the fleet is so, what waits for replicas that start, and where the batch work goes."""
    yield from plan.explanation
    cold = plan.cold_starts
    if cold.starts_per_day:
        starts = f"{figure(cold.starts_per_day)} starts a day, each of {cold.start_s:.0f} s"
        if cold.waiting_tokens_per_day:
            requests = f"{figure(round(cold.waiting_requests_per_day, 1))} requests a day"
            yield f"{starts}: {requests} wait for one, {cold.longest_wait_s:.0f} s at the longest."
        elif cold.api_tokens_per_day:
            yield f"{starts}: {tokens(cold.api_tokens_per_day)} tokens a day go to the API meanwhile, and none waits."
        else:
            yield f"{starts}; nothing waits for them."
    if plan.batch is not None:
        batch = plan.batch
        text = f"What may wait goes where it is cheapest: {batch.title}"
        if batch.api is not None:
            text += f" ({share(batch.api_share)} of it to {batch.api})"
        if batch.longest_wait_hours:
            text += f"; it waits {counted(batch.longest_wait_hours, 'hour')} at the longest"
        yield f"{text}."


def as_document(plan: FleetPlan) -> dict[str, Any]:
    """The plan as JSON has it; days are text."""
    found = asdict(plan)
    for each in found["assumptions"]:
        each["as_of"] = iso_day(each["as_of"])
    return found | {"notes": list(notes(plan))}
