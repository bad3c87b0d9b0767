"""The group of commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from llama_client import __version__
from llama_client.cli import failures
from llama_client.cli.help_pages import COMPLETE_VARIABLE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from llama_client.errors import ConfigError, InvalidRequestError, LlamaClientError, MissingExtraError

# Command -> its help in the list. Its module is imported only when it is called: completion and `--help` would wait for
# all of them.
_COMMANDS = {
    "bench": "How fast a target answers, one request and many at once.",
    "bulk": "Ask a model each row of a file.",
    "chat": "Ask a model.",
    "completion": "Print the script that completes commands in a shell.",
    "config": "Write, show or check the configuration.",
    "costs": "What was spent, and what is left of budgets.",
    "crossover": "When a machine of your own is cheaper than an API.",
    "doctor": "Check what is configured, and say what to do.",
    "fit": "Whether a model fits this machine, or a named one.",
    "models": "Providers in use, and the models that they serve.",
    "pull": "Download a model to run in this process.",
    "record": "Run a command, and keep or replay what it asks its providers.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"llama_client.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or ctx.resilient_parsing or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from llama_client.validation import suggestion

        known = "" if (hint := suggestion(name, _COMMANDS)) else f" (commands: {', '.join(_COMMANDS)})"
        raise click.UsageError(f"no command is named {name!r}{hint or known}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        named = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llama-client")
def app() -> None:
    """One chat interface over hosted, local and in-process language models.

    \b
    Examples:
      llama-client chat "Why do llamas hum?"   ask; the first time, a tiny model
                                               is downloaded if there is no other
      llama-client doctor                      what works here, and what to do
      llama-client config init                 write a configuration file
      llama-client models                      providers and their models
      llama-client costs --since 7d            what was spent
      llama-client bulk in.csv out.csv -p "Sort: {text}"     each row of a file
      llama-client fit llama-3.3-70b --gpu rtx_4090 --gpus 2
      llama-client crossover llama-3.3-70b --volume 500M

    \b
    Each command has its own examples: llama-client chat --help
    The Tab key completes commands and models: llama-client completion --help
    """


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # None where it was closed
        # Answers hold any character; where the encoding of a terminal or a pipe lacks one, it is written as `?`.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="replace")
    if asked := os.environ.get(COMPLETE_VARIABLE):
        from llama_client.cli.completion import answer

        return answer(app, asked)
    try:
        result = app.main(arguments, prog_name="llama-client", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        if not isinstance(error, click.exceptions.NoArgsIsHelpError):
            from llama_client.redaction import without_secrets

            # It quotes what was typed, which may be a key in the wrong place; word by word, as it may be long.
            vars(error)["message"] = " ".join(map(without_secrets, error.message.split(" ")))
        error.show()
        if "--json" in arguments:
            _print_error(error, error.format_message(), [])
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return EXIT_INTERRUPTED
    except OSError as error:
        # Only errors of writing get here: a full disk, say. Click handles a closed pipe (`| head`).
        with contextlib.suppress(OSError):
            click.echo(f"llama-client: {error.strerror or error}", err=True)
        _leave_unwritten()
        return EXIT_FAILED
    except LlamaClientError as error:
        failures.show(error)
        if "--json" in arguments:
            _print_error(error, str(error), [attempt.model_dump(mode="json") for attempt in error.attempts])
        is_usage = isinstance(error, ConfigError | InvalidRequestError | MissingExtraError)
        return EXIT_USAGE if is_usage else EXIT_FAILED


def _leave_unwritten() -> None:
    """What could not be written is not tried again when the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        # Closed, or none of the system's.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def _print_error(error: Exception, message: str, attempts: list[dict[str, object]]) -> None:
    """The JSON document that `--json` promises, where there is no answer."""
    click.echo(json.dumps({"error": {"type": type(error).__name__, "message": message, "attempts": attempts}}))
