"""`llama-client bench`: how fast a target answers, one request at a time and many at once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import AsyncLlamaClient, LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli.bench_target import BenchTarget, UserInput, bench_target, is_loopback, what_is_possible
from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, printable, progress_console, table_of
from llama_client.costs.money import shown
from llama_client.crossover.bench.measure import (
    DEFAULT_CONCURRENCIES,
    BenchPlan,
    BenchRun,
    Prompts,
    Step,
    measure,
    patience_s,
    without_retries,
)
from llama_client.crossover.throughput.points import CPU
from llama_client.crossover.user_tables import tables_of
from llama_client.types.report import BENCH_TAG

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llama_client.cli.bench_target import BenchTarget
    from llama_client.config.schema import Config
    from llama_client.crossover.bench.levels import Level, Spread
    from llama_client.crossover.bench.measure import BenchRun
    from llama_client.crossover.throughput.points import MeasuredPoint
    from llama_client.types.report import CostEstimate


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
class StoredAs:
    """What became of a measurement."""

    wanted: bool
    file: Path | None = None
    levels: int = 0
    impossible: Sequence[str] = ()
    problem: str | None = None


def show(run: BenchRun, subject: BenchTarget, keeping: StoredAs) -> None:
    """Prints it for people."""
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


def document(run: BenchRun, subject: BenchTarget, keeping: StoredAs, day: date) -> dict[str, Any]:
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


def notes(run: BenchRun, subject: BenchTarget) -> list[str]:
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


def _sentence(run: BenchRun, subject: BenchTarget) -> str:
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


def _impossible(keeping: StoredAs) -> list[str]:
    return [text[:1].upper() + text[1:] for text in keeping.impossible]


def _kept(run: BenchRun, subject: BenchTarget, keeping: StoredAs) -> list[str]:
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


_SECTIONS = {
    "What is sent": ("concurrency", "input_tokens", "output_tokens", "requests", "seconds", "ignore_eos", "yes"),
    "What is measured, kept with the result": ("model", "gpu", "gpus", "precision", "engine", "no_store"),
}
_FAILED = 1
# After so long without an answer, somebody wonders.
_SILENT_S = 5.0
_LEVELS = ",".join(map(str, DEFAULT_CONCURRENCIES))


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, as in `1,8,32`."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(each) for each in value.split(","))
        except ValueError:
            self.fail(f"must be whole numbers such as 1,8,32, got {value!r}", param, ctx)


@click.command("bench", cls=HelpPage, sections=_SECTIONS)
@click.argument("target", shell_complete=suggestions.targets)
@click.option(
    "--concurrency",
    type=_Numbers(),
    default=_LEVELS,
    show_default=True,
    help="Requests open at once, one level after another.",
)
@click.option(
    "--input-tokens", metavar="N", type=int, default=512, show_default=True, help="The length of prompts, about."
)
@click.option(
    "--output-tokens", metavar="N", type=int, default=128, show_default=True, help="The length of answers, at most."
)
@click.option("--requests", metavar="N", type=int, help="How many at each level. [default: 4 times it, at least 8]")
@click.option("--seconds", metavar="S", type=float, help="Start no more after so long at each level. [default: 60]")
@click.option("--ignore-eos", is_flag=True, help="Let no model stop early: vLLM, SGLang, llama.cpp.")
@click.option(
    "--model",
    metavar="NAME",
    shell_complete=suggestions.architectures,
    help="Which model it is. [default: as the catalogue or the file says]",
)
@click.option(
    "--gpu",
    metavar="NAME",
    shell_complete=suggestions.gpus_or_cpu,
    help="What it runs on: h100_sxm, rtx_4090, cpu, ...",
)
@click.option("--gpus", metavar="N", type=int, help="How many of them serve one replica. [default: 1]")
@click.option(
    "--precision",
    metavar="NAME",
    shell_complete=suggestions.precisions,
    help="Of its weights: bf16, fp8, Q4_K_M, ... [default: as the file says]",
)
@click.option("--engine", metavar="NAME", shell_complete=suggestions.engines, help="trtllm, vllm, sglang or llama.cpp.")
@click.option("--no-store", is_flag=True, help="Do not keep the result for `llama-client crossover`.")
@click.option("--yes", is_flag=True, help="Spend what it costs without asking.")
@json_option
@config_option
def command(
    target: str,
    concurrency: tuple[int, ...],
    input_tokens: int,
    output_tokens: int,
    requests: int | None,
    seconds: float | None,
    ignore_eos: bool,
    model: str | None,
    gpu: str | None,
    gpus: int | None,
    precision: str | None,
    engine: str | None,
    no_store: bool,
    yes: bool,
    as_json: bool,
    config: str | None,
) -> int:
    """How fast a target answers: time to the first token, time of each further one, tokens a second.

    TARGET is what `chat -m` takes. Each prompt is a new one, so that no cache helps. The counts are those that the
    server reports. Where the machine is known, the result is kept, and `llama-client crossover` reckons with it
    instead of an estimate. What costs money by the token asks first.

    \b
    Examples:
      llama-client bench gguf/default
      llama-client bench ollama/llama3.1:8b --concurrency 1,2,4 --precision Q4_K_M
      llama-client bench vllm/meta-llama/Llama-3.1-8B-Instruct \\
        --gpu h100_sxm --precision fp8 --engine vllm
      llama-client bench groq/openai/gpt-oss-20b --requests 8 --yes --json
    """
    if gpus is not None and gpu is None:
        raise click.UsageError("--gpus says how many of --gpu: name one, such as --gpu h100_sxm")
    plan = BenchPlan(target, concurrency, input_tokens, output_tokens, requests, seconds, ignore_eos)
    loaded = load_config(config)
    estimate = _estimate(plan, loaded)
    # A route or a name of the catalogue may be many: the first is measured, and nobody goes on to the next.
    plan = BenchPlan(estimate.target, concurrency, input_tokens, output_tokens, requests, seconds, ignore_eos)
    subject = _subject(plan.target, loaded, UserInput(model, gpu, gpus, precision, engine))
    _require_consent(plan, estimate, loaded, said_yes=yes, may_ask=not as_json)
    with _progress(plan) as (progress, say):
        run = asyncio.run(_run(plan, loaded, progress, say))
    _tell(run, subject, loaded, wants_to_store=not no_store, as_json=as_json)
    if run.stopped is None:
        return 0
    click.echo(f"llama-client: {one_line(run.stopped)}", err=True)
    return _FAILED


def _tell(run: BenchRun, subject: BenchTarget, config: Config, *, wants_to_store: bool, as_json: bool) -> None:
    """Keeps what is worth it, and shows all."""
    day = datetime.now(UTC).date()
    points, impossible = what_is_possible(subject.points(run.levels, day), tables_of(config))
    keeping = StoredAs(wants_to_store, impossible=impossible)
    if wants_to_store and points:
        keeping = _stored(points, run.plan.target, impossible)
    if as_json:
        click.echo(json.dumps(document(run, subject, keeping, day)))
    else:
        show(run, subject, keeping)
    if keeping.problem is not None:
        click.echo(f"llama-client: not stored: {one_line(keeping.problem)}", err=True)


async def _run(
    plan: BenchPlan, config: Config, progress: Callable[[Step], None], say: Callable[[str], None]
) -> BenchRun:
    key, value = BENCH_TAG
    patient = without_retries(config, plan)
    told = f"waiting for the first answer (a model may be loading), up to {patience_s(patient, plan.target):g} s"
    waiting = asyncio.get_running_loop().call_later(_SILENT_S, say, told)

    def step(made: Step) -> None:
        if made.concurrency:
            waiting.cancel()
        progress(made)

    try:
        async with AsyncLlamaClient(patient, tags={key: value}) as client:
            return await measure(client, plan, progress=step)
    finally:
        waiting.cancel()


def _estimate(plan: BenchPlan, config: Config) -> CostEstimate:
    """What one request costs, and of whom."""
    prompt = Prompts(plan.input_tokens, random.SystemRandom()).next()
    with LlamaClient(config) as client:
        return client.estimate_cost(prompt, plan.target, max_tokens=plan.output_tokens)


def _subject(target: str, config: Config, said: UserInput) -> BenchTarget:
    from llama_client.providers.gguf.store import ModelStore

    host = os.environ.get("OLLAMA_HOST")
    return bench_target(target, config, said, store=ModelStore.of_user(), ollama_host=host)


def _require_consent(plan: BenchPlan, estimate: CostEstimate, config: Config, *, said_yes: bool, may_ask: bool) -> None:
    """Asks before money is spent."""
    table = config.providers.get(plan.target.partition("/")[0])
    if said_yes or not _costs_by_token(estimate, table):
        return
    requests = plan.most_requests
    if estimate.most_usd is None or estimate.usd is None:
        told = f"{requests:,} requests to {plan.target}, whose price nobody here knows"
    else:
        told = (
            f"{requests:,} requests to {plan.target} will cost about {_rounded_up(estimate.usd * requests)}, and at "
            f"most {_rounded_up(estimate.most_usd * requests)}"
        )
    if not may_ask or sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{printable(told)}: say --yes to spend it, or ask for less with --requests")
    click.confirm(f"{printable(told)}. Go on?", abort=True, err=True)


def _rounded_up(usd: Decimal) -> str:
    """An estimate, to two digits that count or the cent."""
    return shown(usd.quantize(Decimal(1).scaleb(min(-2, usd.adjusted() - 1)), ROUND_UP))


def _costs_by_token(estimate: CostEstimate, table: object) -> bool:
    """Whether each request costs money: what runs here, or on a machine that is paid by the hour, does not."""
    if estimate.status == "free" or getattr(table, "machine_usd_per_hour", None) is not None:
        return False
    if estimate.status == "unknown":
        url = getattr(table, "base_url", None)
        return url is None or not is_loopback(url)
    return bool(estimate.most_usd is None or estimate.most_usd > 0)


def _stored(points: Sequence[MeasuredPoint], target: str, impossible: Sequence[str]) -> StoredAs:
    """Keeps the measurement; a disk that is full costs only that."""
    from llama_client.crossover.throughput.measurements import Measurements

    kept = Measurements.of_user()
    try:
        kept.add(points, target=target)
    except OSError as error:
        return StoredAs(wanted=True, impossible=impossible, problem=f"{error.strerror or error} ({kept.file})")
    return StoredAs(True, kept.file, len(points), impossible)


@contextmanager
def _progress(plan: BenchPlan) -> Iterator[tuple[Callable[[Step], None], Callable[[str], None]]]:
    """A bar on stderr, where that is a terminal, and what says something there in any case."""
    console = progress_console()
    if not console.is_terminal:
        yield lambda _: None, lambda text: click.echo(f"llama-client: {text}", err=True)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("warming up", total=plan.most_requests)

        def draw(step: Step) -> None:
            if step.concurrency:
                passed = plan.concurrencies[: plan.concurrencies.index(step.concurrency)]
                done = 1 + sum(map(plan.requests_at, passed)) + step.done
                bar.update(task, description=f"{step.concurrency} at once", completed=done)

        yield draw, lambda text: bar.console.print(text, markup=False, highlight=False)
