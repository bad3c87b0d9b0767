"""When a job should be done: said by its first run, and kept in its folder for the next ones."""

from __future__ import annotations

import json
from pathlib import Path

from llama_client.config.files import atomic_file
from llama_client.errors import JobError

_NAME = "deadline.json"
# A job that is late goes on.
_LEAST_S = 1.0


def deadline_at(folder: Path | None, deadline_s: float | None, now: float, *, is_kept: bool = True) -> float | None:
    """The deadline in Unix time; None: there is none. The same `deadline_s` in a later run means the same moment.

    Args:
        folder: The job's; None: it has none.
        deadline_s: In how many seconds from its first run the job should be done; None: no matter.
        now: Unix time.
        is_kept: Whether a new one is kept for later runs.

    Raises:
        JobError: What an earlier run has kept cannot be read, or the folder cannot be written.
    """
    if deadline_s is None or folder is None:
        return None if deadline_s is None else now + deadline_s
    path = folder / _NAME
    try:
        if path.exists():
            kept = json.loads(path.read_bytes())
            if kept["deadline_s"] == deadline_s:
                return float(kept["at"])
        if is_kept:
            with atomic_file(path) as file:
                file.write(json.dumps({"deadline_s": deadline_s, "at": now + deadline_s}).encode())
    except OSError as error:
        raise JobError(f"{path}: {error.strerror or error}", folder=folder) from error
    except (ValueError, TypeError, KeyError):
        raise JobError(f"{path}: cannot be read; remove it, and the deadline begins anew", folder=folder) from None
    return now + deadline_s


def seconds_left(deadline: float | None, now: float) -> float | None:
    """The time until then; None: there is no deadline."""
    return None if deadline is None else max(deadline - now, _LEAST_S)
