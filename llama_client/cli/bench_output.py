"""How a measurement is shown: a sentence, a table by concurrency, what is odd about it, and where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.cli.terminal import one_line, table_of
from llama_client.costs.money import shown
from llama_client.crossover.serving.measured_point import CPU

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llama_client.cli.bench_subject import Subject
    from llama_client.crossover.bench.levels import Level, Spread
    from llama_client.crossover.bench.measure import BenchRun

# Lengths that are further from what was asked for are told.
_NEAR = 0.1
# A server that sends fewer pieces for a token sends bursts.
_FINE_PIECES = 0.5
# Each column's name, and what stands above it in two lines where there is room for a table.
_COLUMNS = {
    "at once": "at once",
    "tokens/s": "tokens/s",
    "ttft ms p50": "ttft ms\np50",
    "ttft ms p95": "\np95",
    "tpot ms p50": "tpot ms\np50",
    "tpot ms p95": "\np95",
    "tokens in": "tokens\nin",
    "tokens out": "\nout",
    "requests": "requests",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Keeping:
    """What became of a measurement.

    Attributes:
        wanted: Whether it was to be kept.
        file: Where it is; None: nowhere.
        levels: How many levels of it are.
        impossible: What is wrong with those that no such machine gives, each in a sentence.
        problem: Why it could not be written; None: it was, or nothing was to be.
    """

    wanted: bool
    file: Path | None = None
    levels: int = 0
    impossible: Sequence[str] = ()
    problem: str | None = None


def show(run: BenchRun, subject: Subject, keeping: Keeping) -> None:
    """Prints it for people.

    Args:
        run: The measurement.
        subject: What was measured.
        keeping: What became of it.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    console.print(Text(_sentence(run, subject)))
    if any(level.answered for level in run.levels):
        console.print()
        console.print(_table(run.levels, console.width))
    lines = [*notes(run, subject), *_impossible(keeping), _cost(run)]
    if keeping.wanted:
        lines += _kept(run, subject, keeping)
    for line in lines:
        console.print()
        console.print(Text(one_line(line)))


def document(run: BenchRun, subject: Subject, keeping: Keeping, day: date) -> dict[str, Any]:
    """The same for programs. Money is text, so that it is exact; what is not known is null."""
    plan = run.plan
    return {
        "target": plan.target,
        "measured_on": day.isoformat(),
        "model": subject.model,
        "gpu": subject.gpu,
        "n_gpus": subject.n_gpus,
        "precision": subject.precision,
        "engine": subject.engine,
        "asked": {"input_tokens": plan.input_tokens, "output_tokens": plan.output_tokens},
        "levels": [_level(level) for level in run.levels],
        "usd": None if run.unpriced_requests and not run.is_free else f"{run.usd:f}",
        "unpriced_requests": 0 if run.is_free else run.unpriced_requests,
        "notes": [*notes(run, subject), *_impossible(keeping)],
        "stored_in": None if keeping.file is None else str(keeping.file),
        "stored_levels": keeping.levels,
        "stopped": run.stopped,
    }


def notes(run: BenchRun, subject: Subject) -> list[str]:
    """What to know before the figures are believed."""
    levels, plan = [level for level in run.levels if level.answered], run.plan
    found = []
    read, written = _mean_tokens(levels)
    if levels and written < plan.output_tokens * (1 - _NEAR):
        hint = "" if plan.ignore_eos else "; a server that knows ignore_eos does not with --ignore-eos"
        found.append(
            f"The model stopped early: its answers have {written:.0f} tokens on average, not {plan.output_tokens}. The "
            f"figures are of what came{hint}."
        )
    if levels and abs(read - plan.input_tokens) > plan.input_tokens * _NEAR:
        found.append(f"The prompts have {read:.0f} tokens on average, not {plan.input_tokens}.")
    if any(level.overcounted for level in levels):
        found.append(
            f"The server told of more output tokens than the {plan.output_tokens} that it was asked for at most, which "
            "is not believed: these answers are estimated by their bytes, and such a level is not stored."
        )
    if any(level.estimated > level.overcounted for level in levels):
        found.append("The server told no counts of tokens for some answers; they are estimated by their bytes.")
    if any((level.pieces_per_token or 1.0) < _FINE_PIECES for level in levels):
        found.append("The answers came in pieces of several tokens: the first token is there when the first piece is.")
    brief = [level for level in levels if not level.is_steady]
    if brief:
        found.append(
            f"Too short for a steady phase at {_listed(brief)} at once: tokens/s is over the whole time there, start "
            "and end included, so rather too low. More --requests or --seconds helps."
        )
    if subject.at_once is not None and any(level.concurrency > subject.at_once for level in levels):
        found.append(
            f"Only {subject.at_once} at once are let through here (n_parallel or max_concurrency): more wait, and that "
            "is in the time to the first token."
        )
    failed = [level for level in run.levels if level.failed]
    for level in failed:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(level.errors.items()))
        found.append(f"At {level.concurrency} at once failed: {kinds}.")
    return found


def _cost(run: BenchRun) -> str:
    """What it cost, in a sentence."""
    if run.is_free:
        return "It cost nothing by the token."
    if run.unpriced_requests:
        known = f", beside the {shown(run.usd)} of the others" if run.usd else ""
        return f"No price is known for {run.unpriced_requests:,} of its requests{known}."
    return f"It cost {shown(run.usd)}."


def _sentence(run: BenchRun, subject: Subject) -> str:
    best = max(run.levels, key=lambda level: level.output_tokens_per_s or 0.0, default=None)
    if best is None or best.output_tokens_per_s is None:
        return one_line(f"{run.plan.target} answered nothing that could be measured.")
    one = run.levels[0]
    single = f", {_number(one.output_tokens_per_s)} to one" if one.concurrency == 1 and best is not one else ""
    where = f" on {subject.n_gpus} x {subject.gpu}" if subject.gpu not in (None, CPU) else ""
    return one_line(
        f"{run.plan.target}{where} gives {_number(best.output_tokens_per_s)} output tokens a second to "
        f"{best.concurrency} at once{single}."
    )


def _table(levels: Sequence[Level], width: int) -> RenderableType:
    rows = [
        [
            f"{level.concurrency}",
            f"{_number(level.output_tokens_per_s)}{'' if level.is_steady or not level.answered else '*'}",
            *_spread(level.ttft_ms),
            *_spread(level.tpot_ms),
            _number(level.mean_input_tokens),
            _number(level.mean_output_tokens),
            f"{level.answered}",
            f"{level.failed}" if level.failed else "",
        ]
        for level in levels
    ]
    return table_of([(name, True) for name in _COLUMNS], rows, width=width, headings=list(_COLUMNS.values()))


def _impossible(keeping: Keeping) -> list[str]:
    return [text[:1].upper() + text[1:] for text in keeping.impossible]


def _kept(run: BenchRun, subject: Subject, keeping: Keeping) -> list[str]:
    if keeping.file is None:
        if keeping.problem is not None or keeping.impossible:
            # Said already.
            return []
        if subject.missing:
            options = ", ".join(f"--{name}" for name in subject.missing)
            return [f"Not stored, as not all is known of what was measured: say {options}, and `crossover` can use it."]
        return ["Not stored: no level had a steady phase with the server's own counts."]
    lines = [f"{keeping.levels} of {len(run.levels)} levels stored in {keeping.file}"]
    if subject.gpu != CPU:
        many = f" --gpus {subject.n_gpus}" if subject.n_gpus != 1 else ""
        engine = "" if subject.engine is None else f" --engine {subject.engine}"
        lines.append(
            f"What uses it: llama-client crossover {subject.model} --gpu {subject.gpu}{many} --precision "
            f"{subject.precision}{engine}"
        )
    return lines


def _level(level: Level) -> dict[str, Any]:
    return {
        "concurrency": level.concurrency,
        "answered": level.answered,
        "failed": level.failed,
        "errors": dict(level.errors),
        "cut": level.cut,
        "wall_s": level.wall_s,
        "output_tokens_per_s": level.output_tokens_per_s,
        "is_steady": level.is_steady,
        "ttft_ms": _percentiles(level.ttft_ms),
        "tpot_ms": _percentiles(level.tpot_ms),
        "mean_input_tokens": level.mean_input_tokens,
        "mean_output_tokens": level.mean_output_tokens,
        "estimated": level.estimated,
    }


def _percentiles(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else {"p50": spread.p50, "p95": spread.p95, "mean": spread.mean}


def _spread(spread: Spread | None) -> tuple[str, str]:
    return ("-", "-") if spread is None else (_number(spread.p50), _number(spread.p95))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _mean_tokens(levels: Sequence[Level]) -> tuple[float, float]:
    """Of all answers, in and out."""
    answers = sum(level.answered for level in levels) or 1
    read = sum((level.mean_input_tokens or 0) * level.answered for level in levels)
    return read / answers, sum((level.mean_output_tokens or 0) * level.answered for level in levels) / answers


def _listed(levels: Sequence[Level]) -> str:
    return ", ".join(str(level.concurrency) for level in levels)
