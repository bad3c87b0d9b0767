"""`llama-client bulk`: many requests from a file, their answers to another."""

from __future__ import annotations

import dataclasses
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import InvalidRequestError, LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.bulk_plan import print_plan
from llama_client.cli.bulk_progress import shown_job
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, say

if TYPE_CHECKING:
    from llama_client.bulk.receipt import BulkReceipt

_EXITS = {**EXITS, 1: "a row failed (OUT is written), or the job stopped"}
_NAMES = {
    "path": "OUT",
    "prompt": "--prompt",
    "model": "--model",
    "deadline_s": "--deadline",
    "venues": "--venue",
    "idle": "--idle",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.command(
    "bulk",
    cls=HelpPage,
    exits=_EXITS,
    sections={
        "Requests": ("prompt", "system", "schema", "model", "temperature", "max_tokens", "seed"),
        "Money and time": ("max_usd", "deadline", "venue", "idle", "dry_run"),
        "The job": ("limit", "max_concurrency", "retry_failed", "replace", "job"),
        "Where calls are made": ("engine", "ray_address", "ray_workers"),
    },
)
@click.argument("source", metavar="IN", type=click.Path(), shell_complete=suggestions.files)
@click.argument("output", metavar="OUT", type=click.Path(), shell_complete=suggestions.files)
@click.option(
    "-p",
    "--prompt",
    metavar="TEXT",
    help="The prompt, with columns of IN in it: 'Classify: {text}'. [default: the column prompt, text or messages]",
)
@click.option(
    "--system",
    metavar="TEXT|@FILE",
    shell_complete=suggestions.files,
    help="Instructions for the model, before each prompt; @FILE reads them from a file.",
)
@click.option(
    "--schema",
    metavar="FILE",
    type=click.Path(),
    shell_complete=suggestions.files,
    help="The JSON schema of the answers; each of its properties becomes a column.",
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=suggestions.targets,
    help="The target, as in llama-client chat, for rows that name none.",
)
@click.option(
    "--temperature", type=float, metavar="0..2", help="Randomness; 0: as little as can be. [default: the model's]"
)
@click.option("--max-tokens", type=int, metavar="N", help="The longest answer, in tokens. [default: the model's limit]")
@click.option("--seed", type=int, metavar="N", help="Of the sampling, where the target takes one.")
@click.option("--limit", type=int, metavar="N", help="How many rows to take, from the first. [default: all]")
@click.option(
    "--max-concurrency", type=int, metavar="N", help="The most calls in flight. [default: as many as the target bears]"
)
@click.option("--max-usd", metavar="USD", help="The most that the job may cost; then it stops. Needs --max-tokens.")
@click.option(
    "--deadline",
    metavar="WHEN",
    help="When all should be done, from the first run on (6h, 90m, 1d): rows go to batch APIs where that is cheaper.",
)
@click.option(
    "--venue",
    multiple=True,
    type=click.Choice(["now", "batch", "idle"]),
    help="Only this venue; may be given again. [default: now; with --deadline and --idle these, too]",
)
@click.option(
    "--idle",
    metavar="HOURS",
    help="When this machine is idle ('22:00-06:00', 'mon-fri 20:00-07:00, weekends'): a model on it answers rows then.",
)
@click.option("--retry-failed", is_flag=True, help="Ask the rows that failed in an earlier run again.")
@click.option("--replace", is_flag=True, help="Replace OUT where it is a file that this job did not write.")
@click.option("--job", type=click.Path(), metavar="FOLDER", help="The folder of the job. [default: OUT.job]")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Who makes the calls: this process, or workers on Ray. [default: local]",
)
@click.option(
    "--ray-address", metavar="ADDRESS", help="The Ray cluster. [default: RAY_ADDRESS, else one that is started here]"
)
@click.option(
    "--ray-workers", type=int, metavar="N", help="How many workers. [default: one a node, two on one machine]"
)
@click.option("--dry-run", is_flag=True, help="Count the rows, and price each venue; nothing is asked.")
@json_option
@config_option
def command(
    source: str,
    output: str,
    prompt: str | None,
    system: str | None,
    schema: str | None,
    model: str | None,
    temperature: float | None,
    max_tokens: int | None,
    seed: int | None,
    limit: int | None,
    max_concurrency: int | None,
    max_usd: str | None,
    deadline: str | None,
    venue: tuple[str, ...],
    idle: str | None,
    retry_failed: bool,
    replace: bool,
    job: str | None,
    engine: str,
    ray_address: str | None,
    ray_workers: int | None,
    dry_run: bool,
    as_json: bool,
    config: str | None,
) -> None:
    """Ask a model each row of a file.

    IN is JSON lines, CSV, TSV, Parquet or OpenAI's batch file. OUT has its columns and the answers, in the same order,
    as JSON lines, CSV, TSV or Parquet; it is written when all rows are done. Until then answers are kept in OUT.job:
    after Ctrl-C, a crash or a full disk the same command goes on, and asks no answered row again.

    \b
    Examples:
      llama-client bulk tickets.csv answers.csv -p "Classify: {text}"
      llama-client bulk tickets.csv answers.csv -p "Classify: {text}" --dry-run
      llama-client bulk tickets.jsonl teams.parquet -p "{ticket}" \\
        --system @rules.txt --schema team.json -m groq/openai/gpt-oss-20b
      llama-client bulk batch.jsonl out.jsonl --max-tokens 200 --limit 100
      llama-client bulk batch.jsonl out.jsonl --retry-failed
    """
    if engine != "ray":
        for name, value in (("--ray-address", ray_address), ("--ray-workers", ray_workers)):
            if value is not None:
                raise click.UsageError(f"{name}: only with --engine ray; add it, or leave {name} out")
    params = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    options: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "system": _text_of(system),
        "schema": None if schema is None else Path(schema),
        "params": {name: value for name, value in params.items() if value is not None},
        "limit": limit,
        "max_concurrency": max_concurrency,
        "retry_failed": retry_failed,
        "max_usd": max_usd,
        "deadline_s": _seconds_of(deadline),
        "venues": venue or None,
        "idle": idle,
        "job": job or f"{output}.job",
        "engine": engine,
        "ray_address": ray_address,
        "ray_workers": ray_workers,
    }
    with LlamaClient(load_config(config)) as client:
        try:
            if dry_run:
                plan = client.bulk(source, **options).plan()
                _print_json(plan.as_dict()) if as_json else print_plan(plan)
                return
            with shown_job(options["job"]) as tell:
                receipt = client.bulk(source, **options, on_progress=tell).run(output, replace=replace)
        except InvalidRequestError as error:
            raise failures.in_options(error, command, names=_NAMES) from error
    _print_receipt(receipt, output, options["job"], as_json=as_json)


def _seconds_of(deadline: str | None) -> float | None:
    if deadline is None:
        return None
    found = _DURATION.fullmatch(deadline.strip())
    if found is None:
        raise click.UsageError(f"--deadline: must be a time such as 90m, 6h or 1d, got {deadline!r}")
    return float(found[1]) * _UNITS_S[found[2]]


def _text_of(system: str | None) -> str | None:
    if system is None or not system.startswith("@"):
        return system
    try:
        return Path(system[1:]).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"--system: {system[1:]}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise click.UsageError(f"--system: {system[1:]}: is not UTF-8 text") from None


def _print_receipt(receipt: BulkReceipt, output: str, folder: str, *, as_json: bool) -> None:
    failed = receipt.failed + receipt.earlier_failed
    if as_json:
        venues = {
            name: {**dataclasses.asdict(each), "saved_usd": each.saved_usd} for name, each in receipt.venues.items()
        }
        told = dataclasses.asdict(receipt) | {"venues": venues}
        _print_json({"output": output, "job": folder, "receipt": told})
    else:
        from llama_client.bulk.progress_text import receipt_lines

        first, *rest = receipt_lines(receipt)
        click.echo("\n".join([f"{one_line(output)}: {first}", *rest]))
    if failed:
        rows = "row" if failed == 1 else "rows"
        say(f"llama-client: {failed:,} {rows} failed; why is in {one_line(str(Path(folder) / 'failures.jsonl'))}")
        say("Try: the same command with --retry-failed")
        click.get_current_context().exit(1)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, default=_plain))


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
