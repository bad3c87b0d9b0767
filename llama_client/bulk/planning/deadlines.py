"""When a job should be done: said by its first run, and kept in its folder for the next ones."""

from __future__ import annotations

import json
from pathlib import Path

from llama_client.config.files import atomic_file
from llama_client.errors import JobError

_NAME = "deadline.json"


def deadline_at(folder: Path | None, deadline_s: float | None, now: float) -> float | None:
    """The deadline in Unix time; None: there is none. The same `deadline_s` in a later run means the same moment.

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
        with atomic_file(path) as file:
            file.write(json.dumps({"deadline_s": deadline_s, "at": now + deadline_s}).encode())
    except OSError as error:
        raise JobError(f"{path}: {error.strerror or error}", folder=folder) from error
    except (ValueError, TypeError, KeyError):
        raise JobError(f"{path}: cannot be read; remove it, and the deadline begins anew", folder=folder) from None
    return now + deadline_s
