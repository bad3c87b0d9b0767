"""`llama-client bench`: how fast a target answers, one request at a time and many at once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import AsyncLlamaClient, LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli.bench_target import BenchTarget, UserInput, bench_target, is_loopback, what_is_possible
from llama_client.cli.help_pages import HelpPage, config_option, json_option, name_option
from llama_client.cli.terminal import answer_console, is_terminal, one_line, printable, progress_bar, table_of
from llama_client.costs.money import shown
from llama_client.crossover.bench.measure import (
    DEFAULT_CONCURRENCIES,
    BenchPlan,
    BenchRun,
    Prompts,
    Step,
    first_content_timeout_s,
    measure,
    without_retries,
)
from llama_client.crossover.throughput.points import CPU
from llama_client.crossover.user_tables import tables_of
from llama_client.providers.gguf.store import ModelStore
from llama_client.types.report import BENCH_TAG

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llama_client.config.schema import Config
    from llama_client.crossover.bench.levels import Level, Spread
    from llama_client.types.report import CostEstimate

# Lengths further from the requested ones get a note.
_NEAR = 0.1
# A server that sends fewer chunks per token sends bursts.
_FINE_CHUNKS = 0.5
# Fields of a level that are not in the JSON.
_ONLY_FOR_NOTES = ("overcounted", "chunks_per_token", "mean_queue_s")
# Each column's name, and its heading in two lines where there is room for a table.
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
_OF_PLAN = ("concurrencies", "input_tokens", "output_tokens", "requests", "seconds", "ignore_eos")
_OF_TARGET = ("model", "gpu", "n_gpus", "precision", "engine")


@dataclass(frozen=True, slots=True)
class StoredAs:
    wanted: bool
    file: Path | None = None
    levels: int = 0
    impossible: Sequence[str] = ()  # a message on each level above what the data sheet allows
    problem: str | None = None  # why the file cannot be written


def show(run: BenchRun, subject: BenchTarget, stored: StoredAs) -> None:
    from rich.text import Text

    console = answer_console()
    console.print(Text(_sentence(run, subject)))
    if any(level.answered for level in run.levels):
        console.print()
        console.print(_table(run.levels, console.width))
    threads = [] if subject.threads is None else [f"The CPU computes with {subject.threads}."]
    for line in (*threads, *notes(run, subject, stored), _cost(run), *_storage(run, subject, stored)):
        console.print()
        console.print(Text(one_line(line)))


def document(run: BenchRun, subject: BenchTarget, stored: StoredAs, day: date) -> dict[str, Any]:
    """For JSON. Money is text, so that it is exact; what is unknown is null."""
    plan = run.plan
    return {
        "target": plan.target,
        "measured_on": day.isoformat(),
        **{name: getattr(subject, name) for name in _OF_TARGET},
        "threads": None if subject.threads is None else asdict(subject.threads),
        "asked": {"input_tokens": plan.input_tokens, "output_tokens": plan.output_tokens},
        "levels": [_level(level) for level in run.levels],
        "usd": None if run.unpriced_requests and not run.is_free else f"{run.usd:f}",
        "unpriced_requests": 0 if run.is_free else run.unpriced_requests,
        "notes": notes(run, subject, stored),
        "stored_in": None if stored.file is None else str(stored.file),
        "stored_levels": stored.levels,
        "stopped": run.stopped,
    }


def notes(run: BenchRun, subject: BenchTarget, stored: StoredAs) -> list[str]:
    levels, plan = [level for level in run.levels if level.answered], run.plan
    found = []
    read, written = (_mean_tokens(levels, name) for name in ("mean_input_tokens", "mean_output_tokens"))
    if levels and written < plan.output_tokens * (1 - _NEAR):
        hint = "" if plan.ignore_eos else "; a server that knows ignore_eos does not with --ignore-eos"
        found.append(
            f"The model stopped early: its answers have {written:.0f} tokens on average, not {plan.output_tokens}. The "
            f"figures are of the tokens that came{hint}."
        )
    if levels and abs(read - plan.input_tokens) > plan.input_tokens * _NEAR:
        found.append(f"The prompts have {read:.0f} tokens on average, not {plan.input_tokens}.")
    if any(level.overcounted for level in levels):
        found.append(
            f"The server reported more output tokens than max_tokens, {plan.output_tokens}, which is not believed: "
            "these answers are estimated by their bytes, and such a level is not stored."
        )
    if any(level.estimated > level.overcounted for level in levels):
        found.append("The server reported no token counts for some answers; they are estimated by their bytes.")
    if any((level.chunks_per_token or 1.0) < _FINE_CHUNKS for level in levels):
        found.append("The answers came in chunks of several tokens: the time to the first token is that of a chunk.")
    brief = [f"{level.concurrency}" for level in levels if not level.is_steady]
    if brief:
        found.append(
            f"Too short for a steady phase at {', '.join(brief)} at once: tokens/s is over the whole time there, start "
            "and end included, so rather too low. More --requests or --seconds helps."
        )
    if subject.at_once is not None and any(level.concurrency > subject.at_once for level in levels):
        found.append(
            f"Only {subject.at_once} at once leave this client (n_parallel or max_concurrency): the others wait, which "
            "counts in the time to the first token."
        )
    for level in run.levels:
        if level.failed:
            kinds = ", ".join(f"{count} {name}" for name, count in sorted(level.errors.items()))
            found.append(f"At {level.concurrency} at once failed: {kinds}.")
    return [*found, *(text[:1].upper() + text[1:] for text in stored.impossible)]


def _cost(run: BenchRun) -> str:
    if run.is_free:
        return "It cost nothing by the token."
    if run.unpriced_requests:
        known = f", beside the {shown(run.usd)} of the others" if run.usd else ""
        return f"No price is known for {run.unpriced_requests:,} of its requests{known}."
    return f"It cost {shown(run.usd)}."


def _sentence(run: BenchRun, subject: BenchTarget) -> str:
    best = max(run.levels, key=lambda level: level.output_tokens_per_s or 0.0, default=None)
    if best is None or best.output_tokens_per_s is None:
        return one_line(f"{run.plan.target} gave no answer that could be measured.")
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
            *_percentiles(level.ttft_ms),
            *_percentiles(level.tpot_ms),
            _number(level.mean_input_tokens),
            _number(level.mean_output_tokens),
            f"{level.answered}",
            f"{level.failed}" if level.failed else "",
        ]
        for level in levels
    ]
    return table_of([(name, True) for name in _COLUMNS], rows, width=width, headings=list(_COLUMNS.values()))


def _storage(run: BenchRun, subject: BenchTarget, stored: StoredAs) -> list[str]:
    if stored.file is None:
        if not stored.wanted or stored.problem is not None or stored.impossible:
            # The problem has its own message.
            return []
        options = ", ".join(f"--{name}" for name in subject.missing)
        if not options:
            return ["Not stored: no level had a steady phase with the server's own counts."]
        return [f"Not stored, as the subject is not fully known: give {options}, and `crossover` can use the result."]
    lines = [f"{stored.levels} of {len(run.levels)} levels stored in {stored.file}"]
    if subject.gpu != CPU:
        gpus = f"{subject.gpu} --gpus {subject.n_gpus}" if subject.n_gpus != 1 else subject.gpu
        engine = "" if subject.engine is None else f" --engine {subject.engine}"
        options = f"--gpu {gpus} --precision {subject.precision}{engine}"
        lines.append(f"Used by: llama-client crossover {subject.model} {options}")
    return lines


def _level(level: Level) -> dict[str, Any]:
    values = asdict(level) | {"failed": level.failed}
    return {name: value for name, value in values.items() if name not in _ONLY_FOR_NOTES}


def _percentiles(spread: Spread | None) -> tuple[str, str]:
    return ("-", "-") if spread is None else (_number(spread.p50), _number(spread.p95))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _mean_tokens(levels: Sequence[Level], name: str) -> float:
    answers = sum(level.answered for level in levels) or 1
    return sum((getattr(level, name) or 0) * level.answered for level in levels) / answers


_SECTIONS = {
    "What is sent": (*_OF_PLAN, "yes"),
    "What is measured, stored with the result": (*_OF_TARGET, "no_store"),
}
# After so long without an answer, a message says why.
_SILENT_S = 5.0


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise click.BadParameter(f"must be whole numbers such as 1,8,32, got {text!r}") from None


@click.command("bench", cls=HelpPage, sections=_SECTIONS)
@click.argument("target", shell_complete=suggestions.targets)
@click.option(
    "--concurrency",
    "concurrencies",
    metavar="N,N,...",
    type=_numbers,
    default=",".join(map(str, DEFAULT_CONCURRENCIES)),
    show_default=True,
    help="Requests in flight, level after level.",
)
@click.option(
    "--input-tokens", metavar="N", type=int, default=512, show_default=True, help="The length of prompts, about."
)
@click.option(
    "--output-tokens", metavar="N", type=int, default=128, show_default=True, help="The length of answers, at most."
)
@click.option("--requests", metavar="N", type=int, help="Of each level. [default: 4 x concurrency, at least 8]")
@click.option("--seconds", metavar="S", type=float, help="Start no requests of a level after it. [default: 60]")
@click.option("--ignore-eos", is_flag=True, help="Let no model stop early: vLLM, SGLang, llama.cpp.")
@name_option("--model", suggestions.architectures, "Its model. [default: as the catalogue or the file says]")
@name_option("--gpu", suggestions.gpus_or_cpu, "What it runs on: h100_sxm, rtx_4090, cpu, ...")
@click.option("--gpus", "n_gpus", metavar="N", type=int, help="How many of them serve one replica. [default: 1]")
@name_option(
    "--precision", suggestions.precisions, "Of its weights: bf16, fp8, Q4_K_M, ... [default: as the file says]"
)
@name_option("--engine", suggestions.engines, "trtllm, vllm, sglang or llama.cpp.")
@click.option("--no-store", is_flag=True, help="Do not store the result for `llama-client crossover`.")
@click.option("--yes", is_flag=True, help="Spend what it costs without asking.")
@json_option
@config_option
def command(target: str, no_store: bool, yes: bool, as_json: bool, config: str | None, **options: Any) -> int:
    """How fast a target answers: time to the first token, time of each further one, tokens a second.

    TARGET is what `chat -m` takes. Each prompt is a new one, so that no cache helps. Token counts are the server's.
    Where the machine is known, the result is stored, and `llama-client crossover` uses it instead of an estimate.
    Where tokens cost money, it asks first.

    \b
    Examples:
      llama-client bench gguf/default
      llama-client bench ollama/llama3.1:8b --concurrency 1,2,4 --precision Q4_K_M
      llama-client bench vllm/meta-llama/Llama-3.1-8B-Instruct \\
        --gpu h100_sxm --precision fp8 --engine vllm
      llama-client bench groq/openai/gpt-oss-20b --requests 8 --yes --json
    """
    given = UserInput(**{name: options[name] for name in _OF_TARGET})
    if given.n_gpus is not None and given.gpu is None:
        raise click.UsageError("--gpus is the number of --gpu: give one, such as --gpu h100_sxm")
    plan = BenchPlan(target, **{name: options[name] for name in _OF_PLAN})
    loaded = load_config(config)
    with LlamaClient(loaded) as client:
        prompt = Prompts(plan.input_tokens).next()
        estimate = client.estimate_cost(prompt, target, max_tokens=plan.output_tokens)
    # A route or a name of the catalogue may be several targets: only the first is measured, without fallback.
    plan = replace(plan, target=estimate.target)
    host, store = os.environ.get("OLLAMA_HOST"), ModelStore.of_user()
    subject = bench_target(plan.target, loaded, given, store=store, ollama_host=host)
    _require_consent(plan, estimate, loaded, said_yes=yes, may_ask=not as_json)
    with _progress(plan) as (progress, say):
        run = asyncio.run(_run(plan, loaded, progress, say))
    _finish(run, subject, loaded, wants_to_store=not no_store, as_json=as_json)
    if run.stopped is None:
        return 0
    click.echo(f"llama-client: {one_line(run.stopped)}", err=True)
    return 1


def _finish(run: BenchRun, subject: BenchTarget, config: Config, *, wants_to_store: bool, as_json: bool) -> None:
    from llama_client.crossover.throughput.measurements import Measurements

    day, kept = datetime.now(UTC).date(), Measurements.of_user()
    points, impossible = what_is_possible(subject.points(run.levels, day), tables_of(config))
    stored = StoredAs(wants_to_store, impossible=impossible)
    if wants_to_store and points:
        try:
            kept.add(points, target=run.plan.target)
            stored = replace(stored, file=kept.file, levels=len(points))
        except OSError as error:
            stored = replace(stored, problem=f"{error.strerror or error} ({kept.file})")
    if as_json:
        click.echo(json.dumps(document(run, subject, stored, day)))
    else:
        show(run, subject, stored)
    if stored.problem is not None:
        click.echo(f"llama-client: not stored: {one_line(stored.problem)}", err=True)


async def _run(
    plan: BenchPlan, config: Config, progress: Callable[[Step], None], say: Callable[[str], None]
) -> BenchRun:
    config = without_retries(config, plan)
    timeout_s = first_content_timeout_s(config, plan.target)
    message = f"waiting for the first answer (a model may be loading), up to {timeout_s:g} s"
    waiting = asyncio.get_running_loop().call_later(_SILENT_S, say, message)

    def step(made: Step) -> None:
        if made.concurrency:
            waiting.cancel()
        progress(made)

    try:
        async with AsyncLlamaClient(config, tags=dict([BENCH_TAG])) as client:
            return await measure(client, plan, progress=step)
    finally:
        waiting.cancel()


def _require_consent(plan: BenchPlan, estimate: CostEstimate, config: Config, *, said_yes: bool, may_ask: bool) -> None:
    table = config.providers.get(plan.target.partition("/")[0])
    if said_yes or not _costs_by_token(estimate, table):
        return
    requests = plan.most_requests
    if estimate.most_usd is None or estimate.usd is None:
        question = f"{requests:,} requests to {plan.target}, at an unknown price"
    else:
        question = (
            f"{requests:,} requests to {plan.target} will cost about {_rounded_up(estimate.usd * requests)}, and at "
            f"most {_rounded_up(estimate.most_usd * requests)}"
        )
    if not may_ask or not is_terminal(sys.stdin):
        raise click.UsageError(f"{printable(question)}: give --yes to spend it, or fewer --requests")
    click.confirm(f"{printable(question)}. Continue?", abort=True, err=True)


def _rounded_up(usd: Decimal) -> str:
    """An estimate, to two significant digits or the cent."""
    return shown(usd.quantize(Decimal(1).scaleb(min(-2, usd.adjusted() - 1)), ROUND_UP))


def _costs_by_token(estimate: CostEstimate, table: object) -> bool:
    """Whether each request costs money: not on this machine, nor on one that is paid by the hour."""
    if estimate.status == "free" or getattr(table, "machine_usd_per_hour", None) is not None:
        return False
    if estimate.status == "unknown":
        url = getattr(table, "base_url", None)
        return url is None or not is_loopback(url)
    return bool(estimate.most_usd is None or estimate.most_usd > 0)


@contextmanager
def _progress(plan: BenchPlan) -> Iterator[tuple[Callable[[Step], None], Callable[[str], None]]]:
    """A bar on stderr, where that is a terminal, and a function for messages there."""
    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        if bar is None:
            yield lambda _: None, lambda text: click.echo(f"llama-client: {text}", err=True)
            return
        task = bar.add_task("warming up", total=plan.most_requests)

        def draw(step: Step) -> None:
            if step.concurrency:
                passed = plan.concurrencies[: plan.concurrencies.index(step.concurrency)]
                done = 1 + sum(map(plan.requests_at, passed)) + step.done
                bar.update(task, description=f"{step.concurrency} at once", completed=done)

        yield draw, lambda text: bar.console.print(text, markup=False, highlight=False)
