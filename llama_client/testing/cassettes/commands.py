"""Runs a command whose programs, in any number of processes, are recorded into one cassette or answered from one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from llama_client.config.environment import CASSETTE_VARIABLE
from llama_client.testing.cassettes.exchanges import Exchange
from llama_client.testing.cassettes.files import load, require_writable, save
from llama_client.testing.cassettes.matching import described
from llama_client.testing.cassettes.spool import CASSETTE, Spooled, collected

CommandMode = Literal["record", "refresh", "replay"]
# The process's own, whatever stands for `sys.stderr`.
_STDERR = 2
# As shells tell that a signal has ended a command.
_SIGNALLED = 128


class CommandRun(NamedTuple):
    """What became of a command.

    Attributes:
        exit_code: Its own; 128 and the number of the signal that ended it.
        exchanges: How many the cassette has now.
        changes: Of a recording: `+` for each exchange that is new, `-` for each that is gone.
        missing: Of a replay: each request that had no answer.
    """

    exit_code: int
    exchanges: int
    changes: list[str]
    missing: list[str]


def run_command(command: Sequence[str], file: Path, mode: CommandMode, *, output_to_stderr: bool = False) -> CommandRun:
    """Runs a command to its end, and writes the cassette whatever that was.

    Args:
        command: The program and its arguments.
        file: The cassette.
        mode: `record` anew, `refresh` what is missing, or `replay`.
        output_to_stderr: Whether the command's standard output goes to standard error.

    Raises:
        CassetteError: The cassette cannot be read or written.
        FileNotFoundError: There is no such program.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(command[0])
    if mode != "replay":
        require_writable(file)
    before = load(file) if mode == "replay" or file.exists() else []
    with tempfile.TemporaryDirectory(prefix="llama-client-cassette-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if mode != "record":
            save(folder / CASSETTE, before)
        code = _ran([program, *command[1:]], f"{mode}:{folder}", output_to_stderr=output_to_stderr)
        spooled = collected(folder)
    if mode == "replay":
        return CommandRun(code, len(before), [], spooled.missing)
    now, changes = _merged(before, spooled, mode, has_failed=code != 0)
    # A command that asked nothing, or failed before it did, takes nothing away.
    if spooled.exchanges or (mode == "refresh" and changes and spooled.used):
        save(file, now)
    else:
        now, changes = before, []
    return CommandRun(code, len(now), changes, [])


def _ran(command: Sequence[str], value: str, *, output_to_stderr: bool) -> int:
    stdout = _STDERR if output_to_stderr else None
    with subprocess.Popen(command, env={**os.environ, CASSETTE_VARIABLE: value}, stdout=stdout) as process:  # noqa: S603 - the user's own command
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                # It has got the same signal, and decides itself.
                continue
    return code if code >= 0 else _SIGNALLED - code


def _merged(
    before: list[Exchange], spooled: Spooled, mode: CommandMode, *, has_failed: bool
) -> tuple[list[Exchange], list[str]]:
    used = set(spooled.used) if mode == "refresh" else set()
    if mode == "refresh" and has_failed:
        # It may not have come to what it did not ask for.
        used = set(range(len(before)))
    kept = [exchange for number, exchange in enumerate(before) if number in used]
    dropped = [exchange for number, exchange in enumerate(before) if number not in used]
    changes = [
        *(f"- {described(each)}" for each in dropped),
        *(f"+ {described(each)}" for each in spooled.exchanges),
    ]
    return [*kept, *spooled.exchanges], changes
