"""Whether the bands around rates hold what they should: 80% between the 10th and the 90th percentile.

python benchmarks/throughput_calibration.py [--json]

Each published or measured point is taken out of the tables, with those of nearly the same lengths and load, and
predicted from what is left: by the estimator alone, and scaled from the nearest other point of its configuration. Rows
of rows/llama_served.csv are predicted too, and predict nothing: the estimator was not fitted on them.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

from llama_client.crossover.assumptions import TENTH
from llama_client.crossover.tables import Tables
from llama_client.crossover.throughput.engines import Constants, fitted
from llama_client.crossover.throughput.points import (
    KnownPoint,
    PublishedPoint,
    are_as_long,
    bundled_points,
    estimated_tokens_per_s,
    has_computed_prompts,
    load_apart,
    measured_points,
    nearest,
    published,
)
from llama_client.crossover.throughput.rates import FEW_REQUESTS, estimate_error, weighed
from llama_client.crossover.throughput.replica import Replica, Saturation

ROWS = Path(__file__).resolve().parent / "rows"
# Loads within this factor of one another are nearly the same.
NEARLY = 1.1
BAND = 0.8
LOW_LOAD = 8
RUNGS = ("estimated", "scaled")
FULL, EXPERTS, SINGLE = "dense, full load", "experts, full load", "llama.cpp, one request"
FEW, MANY = f"dense, served, up to {FEW_REQUESTS} at once", "dense, served, more at once"
TUNED, UNTUNED = "vLLM and SGLang, tuned", "vLLM and SGLang as they come"


@dataclass(frozen=True)
class Subject:
    """A point, and all that it is predicted from.

    Attributes:
        kind: What is counted together.
        replica: Its configuration.
        point: The point, as the ladder knows it.
        full: What the estimator says at its lengths and load.
        near: The nearest other point of its configuration; None: there is none.
    """

    kind: str
    replica: Replica
    point: KnownPoint
    full: Saturation
    near: KnownPoint | None


@dataclass(frozen=True)
class Coverage:
    """How many points of a kind lie in the band.

    Attributes:
        rung: `estimated` or `scaled`; of the latter again those from points of a far lower load.
        kind: As of a subject.
        points: How many there are.
        share: Which part of them lies between the 10th and the 90th percentile.
        sigma: The sigma that would hold 80% of them, were it one for all.
    """

    rung: str
    kind: str
    points: int
    share: float
    sigma: float


def subjects(constants: Constants | None = None) -> tuple[Subject, ...]:
    """Every point with lengths that fits its configuration."""
    with (ROWS / "llama_served.csv").open(encoding="utf-8", newline="") as file:
        left_out = list(measured_points(csv.DictReader(file), Tables.bundled()))
    told_from: dict[Replica, list[KnownPoint]] = {}
    found: list[tuple[PublishedPoint, Replica, KnownPoint]] = []
    for points, tells in ((bundled_points(), True), (left_out, False)):
        for point in points:
            replica = Replica(point.model, point.gpu, point.n_gpus, point.precision, point.engine, constants)
            known = published(point, replica)
            if known is not None and has_computed_prompts(known, replica):
                found.append((point, replica, known))
                if tells:
                    told_from.setdefault(replica, []).append(known)
    return tuple(_subject(point, replica, known, told_from.get(replica, ())) for point, replica, known in found)


def _subject(point: PublishedPoint, replica: Replica, known: KnownPoint, others: Sequence[KnownPoint]) -> Subject:
    isl, osl = known.isl, known.osl
    if known.batch is None:
        full = replica.max_output_tokens_per_s(isl, osl)
    else:
        batch = min(known.batch, replica.largest_batch(isl, osl))
        full = Saturation(estimated_tokens_per_s(replica, known), round(batch), 0.0, None, None)
    usable = [other for other in others if _tells(other, known)]
    return Subject(_kind(point), replica, known, full, nearest(usable, replica, full, isl, osl))


def _tells(other: KnownPoint, known: KnownPoint) -> bool:
    """Whether one point of a configuration may tell another: not its like, nor one of a higher load."""
    as_long = are_as_long((other.isl, other.osl), (known.isl, known.osl))
    if known.batch is None or other.batch is None:
        return known.batch is None and not (as_long and other.batch is None)
    as_loaded = max(other.batch / known.batch, known.batch / other.batch) < NEARLY
    return other.batch <= known.batch and not (as_long and as_loaded)


def _kind(point: PublishedPoint) -> str:
    if point.load == "single":
        return SINGLE
    if point.model.moe is not None:
        return EXPERTS
    if point.load == "offline":
        return FULL
    if point.engine == "trtllm":
        assert point.batch is not None
        return FEW if point.batch <= FEW_REQUESTS else MANY
    # NVIDIA's own installations; the band of an estimate is for others'.
    return TUNED if point.id.startswith("measured") else UNTUNED


def told(subject: Subject, rung: str, errors: Mapping[str, float]) -> tuple[float, float] | None:
    """By how much the logarithm of the true rate is off, and the sigma of the band; None: it is not of this rung."""
    if rung == "estimated":
        factor, error = 1.0, estimate_error(subject.replica, subject.full, errors)
    else:
        isl, osl = subject.point.isl, subject.point.osl
        factor, error, is_scaled = weighed(subject.replica, subject.full, subject.near, isl, osl, errors)
        if not is_scaled:
            return None
    return math.log(subject.point.output_tokens_per_s / (subject.full.output_tokens_per_s * factor)), error


def outcomes(
    subjects: Sequence[Subject], rung: str, kind: str | None, errors: Mapping[str, float]
) -> list[tuple[float, float]]:
    """The outcomes of a kind's points, of each that has the rung."""
    every = (told(subject, rung, errors) for subject in subjects if kind in (None, subject.kind))
    return [outcome for outcome in every if outcome is not None]


def inside(outcomes: Sequence[tuple[float, float]]) -> float:
    """Which part of the points lies in the band."""
    return sum(abs(off) <= TENTH * error for off, error in outcomes) / len(outcomes)


def sigma_of(offs: Sequence[float]) -> float:
    """The sigma of a lognormal band that holds 80% of the points."""
    return sorted(map(abs, offs))[math.ceil(len(offs) * BAND) - 1] / TENTH


def coverages(subjects: Sequence[Subject], errors: Mapping[str, float]) -> list[Coverage]:
    """Every rung and kind, then each rung, then all together."""
    counted = [subject for subject in subjects if subject.kind != TUNED]
    found, every = [], []
    for rung in RUNGS:
        # How a point of a tuned server scales, it tells; not what others' servers reach.
        of = counted if rung == "estimated" else subjects
        for kind in [*sorted({subject.kind for subject in of}), None]:
            lot = outcomes(of, rung, kind, errors)
            if lot:
                found.append(Coverage(rung, kind or "all", len(lot), inside(lot), sigma_of([off for off, _ in lot])))
            if kind is None:
                every += lot
    found.append(Coverage("all", "all", len(every), inside(every), sigma_of([off for off, _ in every])))
    for kind in (MANY, TUNED):
        lot = from_low_loads(subjects, kind, errors)
        rung = "from an eighth of the load or less"
        found.append(Coverage(rung, kind, len(lot), inside(lot), sigma_of([off for off, _ in lot])))
    return found


def calibrated(of: Sequence[Subject], errors: Mapping[str, float]) -> dict[str, float]:
    """The sigmas with which the bands hold 80%, of what can be counted; `errors` has the others."""
    # What an estimate is off by, no sigma changes.
    keys = ("few_requests", "many_requests", "moe", "drift", "load_drift", "expert_drift")
    found: dict[str, float] = {**dict.fromkeys(keys, 1.0), **errors}
    off = {kind: [off for off, _ in outcomes(of, "estimated", kind, found)] for kind in (FULL, EXPERTS, FEW, MANY)}
    found |= {
        "few_requests": sigma_of(off[FEW]),
        "many_requests": sigma_of([*off[FULL], *off[MANY]]),
        "moe": sigma_of(off[EXPERTS]),
    }

    def holds(kind: str, key: str, drift: float) -> float:
        return inside(outcomes(of, "scaled", kind, {**found, key: drift}))

    found["drift"] = _least(partial(holds, FULL, "drift"))
    found["expert_drift"] = _least(partial(holds, EXPERTS, "expert_drift"))
    # Of engines whose estimates are not sure, so that the point decides.
    found["load_drift"] = _least(lambda drift: inside(from_low_loads(of, TUNED, {**found, "load_drift": drift})))
    return found


def from_low_loads(subjects: Sequence[Subject], kind: str, errors: Mapping[str, float]) -> list[tuple[float, float]]:
    """Each point of a kind, predicted from every one of its configuration with an eighth of its load or less.

    As where a user measured a few requests at once, and asks for a full load.
    """
    lot = []
    by_replica: dict[Replica, list[Subject]] = {}
    for subject in subjects:
        by_replica.setdefault(subject.replica, []).append(subject)
    for alike in by_replica.values():
        for one, other in permutations(alike, 2):
            if other.kind != kind or one.point.batch is None or other.point.batch is None:
                continue
            if load_apart(one.point, other.point.batch) >= math.log(LOW_LOAD):
                isl, osl = other.point.isl, other.point.osl
                factor, error, _ = weighed(other.replica, other.full, one.point, isl, osl, errors)
                lot.append((math.log(other.point.output_tokens_per_s / other.full.output_tokens_per_s / factor), error))
    return lot


def _least(share: Callable[[float], float]) -> float:
    """The least drift with which the band holds 80%, to two digits."""
    return next((drift / 1000 for drift in range(10, 500, 5) if share(drift / 1000) >= BAND), 0.5)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="print the rows as JSON instead")
    as_json = parser.parse_args().json
    every = list(subjects())
    rows = coverages(every, fitted().errors)
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(f"{'rung':36}{'kind':34}{'points':>8}{'in the 80% band':>18}{'sigma for 80%':>16}")
    for row in rows:
        print(f"{row.rung:36}{row.kind:34}{row.points:8}{row.share:18.0%}{row.sigma:16.3f}")
    random.Random(6).shuffle(every)
    for one, other in ((every[::2], every[1::2]), (every[1::2], every[::2])):
        found = coverages(other, calibrated(one, fitted().errors))
        share = next(row.share for row in found if row.rung == row.kind == "all")
        print(f"all of one half, with bands that are calibrated on the other: {share:.0%}")


if __name__ == "__main__":
    main()
