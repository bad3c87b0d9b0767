"""The group of commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence

import click

from llama_client import __version__
from llama_client.cli.terminal import printable
from llama_client.errors import ConfigError, InvalidRequestError, LlamaClientError, ProviderNotInstalledError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# Command -> the module that holds it, imported only when it is called.
_COMMANDS = {
    "bench": "llama_client.cli.bench",
    "chat": "llama_client.cli.chat",
    "costs": "llama_client.cli.costs",
    "crossover": "llama_client.cli.crossover",
    "fit": "llama_client.cli.fit",
    "models": "llama_client.cli.models",
    "pull": "llama_client.cli.pull",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="llama-client")
def app() -> None:
    """One chat interface over hosted, local and in-process language models.

    \b
    Examples:
      llama-client chat "Why do llamas hum?"
      llama-client models
      llama-client costs --since 7d
      llama-client fit llama-3.3-70b --gpu rtx_4090 --gpus 2
      llama-client crossover llama-3.3-70b --from-ledger
      llama-client pull hf:bartowski/Llama-3.2-3B-Instruct-GGUF/Llama-3.2-3B-Instruct-Q4_K_M.gguf
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: What follows the command's name; None: the process's own.

    Returns:
        0 on success, 1 on a failed request, 2 on wrong usage or configuration, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _write_any_text()
    try:
        result = app.main(arguments, prog_name="llama-client", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        if "--json" in arguments:
            _print_error(error, error.format_message(), [])
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return EXIT_INTERRUPTED
    except OSError as error:
        # Only writing gets here: a full disk, say. A reader that has gone (`| head`) is click's affair.
        click.echo(f"llama-client: {error.strerror or error}", err=True)
        return EXIT_FAILED
    except LlamaClientError as error:
        click.echo(f"llama-client: {printable(str(error))}", err=True)
        if "--json" in arguments:
            _print_error(error, str(error), [attempt.model_dump(mode="json") for attempt in error.attempts])
        return (
            EXIT_USAGE
            if isinstance(error, ConfigError | InvalidRequestError | ProviderNotInstalledError)
            else EXIT_FAILED
        )


def _print_error(error: Exception, message: str, attempts: list[dict[str, object]]) -> None:
    """The one document that `--json` promises, where there is no answer."""
    click.echo(json.dumps({"error": {"type": type(error).__name__, "message": message, "attempts": attempts}}))


def _write_any_text() -> None:
    """Answers hold any character; a terminal or a pipe whose encoding lacks one gets a `?` and no traceback."""
    for stream in (sys.stdout, sys.stderr):  # None where it was closed
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
