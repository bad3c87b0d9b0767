"""Help pages: options under headings, and the exit codes, in at most 80 columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else.")
config_option = click.option(
    "--config", type=click.Path(), metavar="FILE", help="Use this configuration file, not the one that is found."
)


def name_option(flag: str, complete: Callable[..., Any], help_text: str) -> Callable[..., Any]:
    return click.option(flag, metavar="NAME", shell_complete=complete, help=help_text)


# Set by a shell's completion script to what it asks for: `bash_complete`, say.
COMPLETE_VARIABLE = "_LLAMA_CLIENT_COMPLETE"
Sections = Mapping[str, Sequence[str]]

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# Of every command that calls a provider; others have their own.
EXITS: Mapping[int, str] = {0: "success", 1: "a request failed", 2: "wrong usage or configuration", 130: "Ctrl-C"}
# Click's own defaults and those written by hand look alike.
_DEFAULT = re.compile(r" +\[default:")


class HelpPage(click.Command):
    def __init__(
        self, *args: Any, sections: Sections | None = None, exits: Mapping[int, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = dict(sections or {})
        self.exits = dict(EXITS if exits is None else exits)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {
            param.name: (record[0], _DEFAULT.sub("  [default:", record[1]))
            for param in self.get_params(ctx)
            # Arguments are explained in the text above.
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None
        }
        named = [name for names in self.sections.values() for name in names]
        rest = [name for name in records if name not in named]
        for heading, names in (*self.sections.items(), ("Options", rest)):
            rows = [records[name] for name in names if name in records]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if self.exits:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), meaning) for code, meaning in self.exits.items()])
