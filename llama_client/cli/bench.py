"""`llama-client bench`: how fast a target answers, one request at a time and many at once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any

import click

from llama_client import AsyncLlamaClient, LlamaClient, load_config
from llama_client.cli import suggestions
from llama_client.cli.bench_output import Keeping, document, show
from llama_client.cli.bench_subject import Said, Subject, is_loopback, subject_of, what_is_possible
from llama_client.cli.help_pages import HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, printable, progress_console
from llama_client.costs.money import shown
from llama_client.crossover.bench.measure import BenchRun, Step, measure
from llama_client.crossover.bench.plan import DEFAULT_CONCURRENCIES, BenchPlan, patience_s, without_retries
from llama_client.crossover.bench.prompts import Prompts
from llama_client.crossover.users_rows import tables_of
from llama_client.types.report import BENCH_TAG

if TYPE_CHECKING:
    from llama_client.config.schema import Config
    from llama_client.crossover.serving.measured_point import MeasuredPoint
    from llama_client.types.estimate import CostEstimate

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
    subject = _subject(plan.target, loaded, Said(model, gpu, gpus, precision, engine))
    _require_consent(plan, estimate, loaded, said_yes=yes, may_ask=not as_json)
    with _progress(plan) as (progress, say):
        run = asyncio.run(_run(plan, loaded, progress, say))
    _tell(run, subject, loaded, wants_to_store=not no_store, as_json=as_json)
    if run.stopped is None:
        return 0
    click.echo(f"llama-client: {one_line(run.stopped)}", err=True)
    return _FAILED


def _tell(run: BenchRun, subject: Subject, config: Config, *, wants_to_store: bool, as_json: bool) -> None:
    """Keeps what is worth it, and shows all."""
    day = datetime.now(UTC).date()
    points, impossible = what_is_possible(subject.points(run.levels, day), tables_of(config))
    keeping = Keeping(wants_to_store, impossible=impossible)
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


def _subject(target: str, config: Config, said: Said) -> Subject:
    from llama_client.providers.gguf.store import ModelStore

    host = os.environ.get("OLLAMA_HOST")
    return subject_of(target, config, said, store=ModelStore.of_user(), ollama_host=host)


def _require_consent(plan: BenchPlan, estimate: CostEstimate, config: Config, *, said_yes: bool, may_ask: bool) -> None:
    """Asks before money is spent.

    Raises:
        click.UsageError: Nobody can be asked.
        click.Abort: The answer is no.
    """
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


def _stored(points: Sequence[MeasuredPoint], target: str, impossible: Sequence[str]) -> Keeping:
    """Keeps the measurement; a disk that is full costs only that."""
    from llama_client.crossover.serving.measurements import Measurements

    kept = Measurements.of_user()
    try:
        kept.add(points, target=target)
    except OSError as error:
        return Keeping(wanted=True, impossible=impossible, problem=f"{error.strerror or error} ({kept.file})")
    return Keeping(True, kept.file, len(points), impossible)


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
