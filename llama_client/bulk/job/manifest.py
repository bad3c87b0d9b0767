"""What a job is: its format's version, its input's name, and the options that change answers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llama_client.bulk.rows import plain_json
from llama_client.errors import JobError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What changes a job's answers, beside its rows.

    Attributes:
        model: As of `create`; None: the default.
        prompt: The template of the rows' prompts.
        system: Instructions before each prompt.
        schema: What the answers have to fit, as JSON.
        params: Further parameters of every call.
    """

    model: object = None
    prompt: object = None
    system: object = None
    schema: object = None
    params: Mapping[str, Any] | None = None

    def digests(self) -> dict[str, str]:
        """One for each option that is given."""
        given = {name: getattr(self, name) for name in self.__slots__}
        return {name: _digest(value) for name, value in given.items() if value is not None}


def _digest(value: object) -> str:
    content = json.dumps(value, sort_keys=True, ensure_ascii=False, default=plain_json)
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def check_manifest(folder: Path, input_name: str, options: JobOptions) -> None:
    """Writes the manifest of a new job, or compares that of an earlier run.

    Raises:
        JobError: The folder is of another format, or the options have changed.
    """
    path = folder / "manifest.json"
    told = {"format": FORMAT, "input": input_name, "options": options.digests()}
    if not path.exists():
        others = {each.name for each in folder.iterdir()} - {"lock"}
        if others:
            raise JobError(
                f"{folder}: holds {sorted(others)[0]!r} and no manifest.json, so it is no job's folder; name an empty "
                "or a new one",
                folder=folder,
            )
        told["created"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        _write(path, told)
        return
    try:
        earlier = json.loads(path.read_bytes())
        version, given = earlier["format"], dict(earlier["options"])
    except (ValueError, TypeError, KeyError):
        raise JobError(f"{path}: not the manifest of a job; remove the folder to begin anew", folder=folder) from None
    if version != FORMAT:
        raise JobError(
            f"{path}: format {version}, and this version reads {FORMAT}; finish the job with the version that began it",
            folder=folder,
        )
    current = options.digests()
    changed = [name for name in JobOptions.__slots__ if given.get(name) != current.get(name)]
    if changed:
        raise JobError(
            f"{folder}: {' and '.join(changed)} changed since the job began; use the same as then, or another job "
            "folder for the new answers",
            folder=folder,
        )


def _write(path: Path, told: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
