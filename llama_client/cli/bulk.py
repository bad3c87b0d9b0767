"""`llama-client bulk`: many requests from a file, their answers to another."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_client import InvalidRequestError, LlamaClient, load_config
from llama_client.cli import completion as suggestions
from llama_client.cli import failures
from llama_client.cli.bulk_dry_run import DryRun, estimated
from llama_client.cli.bulk_progress import shown_job
from llama_client.cli.help_pages import EXITS, HelpPage, config_option, json_option
from llama_client.cli.terminal import one_line, say

if TYPE_CHECKING:
    from llama_client.bulk.receipt import BulkReceipt

_EXITS = {**EXITS, 1: "a row failed (OUT is written), or the job stopped"}
_NAMES = {"prompt": "--prompt", "model": "--model"}


@click.command(
    "bulk",
    cls=HelpPage,
    exits=_EXITS,
    sections={
        "Requests": ("prompt", "system", "schema", "model", "temperature", "max_tokens", "seed"),
        "The job": ("limit", "max_concurrency", "retry_failed", "replace", "job", "dry_run"),
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
@click.option("--retry-failed", is_flag=True, help="Ask the rows that failed in an earlier run again.")
@click.option("--replace", is_flag=True, help="Replace OUT where it is a file that this job did not write.")
@click.option("--job", type=click.Path(), metavar="FOLDER", help="The folder of the job. [default: OUT.job]")
@click.option("--dry-run", is_flag=True, help="Count the rows and estimate tokens and cost; nothing is asked.")
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
    retry_failed: bool,
    replace: bool,
    job: str | None,
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
    params = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    options: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "system": _text_of(system),
        "schema": None if schema is None else Path(schema),
        "params": {name: value for name, value in params.items() if value is not None},
        "limit": limit,
    }
    with LlamaClient(load_config(config)) as client:
        try:
            if dry_run:
                _print_dry_run(estimated(client, source, **options), as_json=as_json)
                return
            folder = job or f"{output}.job"
            with shown_job(folder) as tell:
                receipt = client.bulk(
                    source,
                    **options,
                    job=job,
                    max_concurrency=max_concurrency,
                    retry_failed=retry_failed,
                    on_progress=tell,
                ).run(output, replace=replace)
        except InvalidRequestError as error:
            raise failures.in_options(error, command, names=_NAMES) from error
    _print_receipt(receipt, output, folder, as_json=as_json)


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
        told = dataclasses.asdict(receipt) | {"usd": _plain(receipt.usd), "known_usd": _plain(receipt.known_usd)}
        click.echo(json.dumps({"output": output, "job": folder, "receipt": told}))
    else:
        from llama_client.bulk.progress_text import receipt_lines

        first, *rest = receipt_lines(receipt)
        click.echo("\n".join([f"{one_line(output)}: {first}", *rest]))
    if failed:
        rows = "row" if failed == 1 else "rows"
        say(f"llama-client: {failed:,} {rows} failed; why is in {one_line(str(Path(folder) / 'failures.jsonl'))}")
        say("Try: the same command with --retry-failed")
        click.get_current_context().exit(1)


def _print_dry_run(found: DryRun, *, as_json: bool) -> None:
    if as_json:
        told = dataclasses.asdict(found)
        click.echo(json.dumps(told | {name: _plain(told[name]) for name in ("usd", "most_usd")}))
    else:
        click.echo("\n".join(map(one_line, found.lines())))


def _plain(usd: Any) -> str | None:
    return None if usd is None else f"{usd:f}"
