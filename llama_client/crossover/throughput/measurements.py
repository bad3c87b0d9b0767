"""What `llama-client bench` measured, kept for later crossovers: a file of lines of JSON in the user's data folder.

Each line is a point of its own. Whoever adds some holds a lock and writes them at once, at the end; whoever reads takes
what is whole, so neither waits for the other.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import platformdirs

from llama_client.clock import Clock
from llama_client.crossover.throughput.points import MeasuredPoint
from llama_client.errors import ConfigError

_APP_NAME, _FILE_NAME = "llama-client", "measurements.jsonl"
# About ten thousand points; older ones than these are not read.
MAX_FILE_BYTES = 4 << 20
_MAX_LINE_BYTES = 4096
_TEXTS, _COUNTS = ("model", "gpu", "precision"), ("n_gpus", "input_tokens", "output_tokens", "concurrency")
# How much of a length the same one may differ by.
_SAME_LENGTH = 0.1
# Whoever wrote a point may have had a clock that was ahead of ours around midnight.
_CLOCKS_APART = timedelta(days=1)
# Windows locks bytes, also such as are not there; no line is ever so far on.
_LOCKED_BYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredMeasurements:
    """What the file holds."""

    points: tuple[MeasuredPoint, ...] = ()
    broken_lines: int = 0


class Measurements:
    """The measured points in a file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     kept = Measurements(Path(folder) / "points.jsonl")
        ...     day = date(2026, 11, 26)
        ...     kept.add([MeasuredPoint("llama-3.1-8b", "l4", 1, "fp8", "vllm", 512, 128, 8, 300.0, 25.0, 90.0, day)])
        ...     [point.output_tokens_per_s for point in kept.find("llama-3.1-8b", "l4", 1, "fp8", "vllm")]
        [300.0]
    """

    def __init__(self, file: Path, *, clock: Clock | None = None) -> None:
        self.file = file
        self._clock = clock or Clock()

    @classmethod
    def of_user(cls) -> Measurements:
        """Those in the user's data folder, beside the ledger."""
        return cls(platformdirs.user_data_path(_APP_NAME, appauthor=False) / _FILE_NAME)

    def add(self, points: Sequence[MeasuredPoint], *, target: str | None = None) -> None:
        """Adds points, all or none of them."""
        if not points:
            return
        about = {} if target is None else {"target": target}
        lines = [
            json.dumps({**asdict(point), "measured_on": point.measured_on.isoformat(), **about}) for point in points
        ]
        text = "".join(f"{line}\n" for line in lines).encode()
        # The user's own, which nobody else has to read.
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.file) as handle:
            size = os.fstat(handle).st_size
            if size:
                # A process that died in the middle of a line must not take the next one with it.
                os.lseek(handle, size - 1, os.SEEK_SET)
                text = text if os.read(handle, 1) == b"\n" else b"\n" + text
            written = os.write(handle, text)
            if written < len(text):
                os.ftruncate(handle, size)
                raise OSError(f"{self.file}: only {written} of {len(text)} bytes could be written")

    def read(self) -> StoredMeasurements:
        """All points, the newest of each configuration."""
        latest = self._clock.today() + _CLOCKS_APART
        newest: dict[tuple[object, ...], list[MeasuredPoint]] = {}
        broken = 0
        for line in self._lines():
            point = _point(line)
            if point is None or point.measured_on > latest:
                broken += 1
                continue
            machine = (point.model, point.gpu, point.n_gpus, point.precision, point.engine, point.concurrency)
            others = newest.get(machine, [])
            newest[machine] = [*(other for other in others if not _is_same_length(other, point)), point]
        return StoredMeasurements(tuple(point for points in newest.values() for point in points), broken)

    def find(self, model: str, gpu: str, n_gpus: int, precision: str, engine: str | None) -> list[MeasuredPoint]:
        """What was measured of a model on a machine, by concurrency."""
        wanted = (model, gpu, n_gpus, precision)
        found = [
            point
            for point in self.read().points
            if (point.model, point.gpu, point.n_gpus, point.precision) == wanted
            and (engine is None or point.engine in (None, engine))
        ]
        return sorted(found, key=lambda point: (point.concurrency, point.input_tokens, point.output_tokens))

    def _lines(self) -> Iterator[bytes]:
        try:
            with self.file.open("rb") as file:
                start = max(os.fstat(file.fileno()).st_size - MAX_FILE_BYTES, 0)
                if start:
                    # From the next line on.
                    file.seek(start - 1)
                    file.readline()
                # What another process adds meanwhile is not waited for.
                text = file.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(
                f"{self.file}: the measurements of `llama-client bench` cannot be read there: "
                f"{error.strerror or error}; make it a file that you may read, or move it away"
            ) from error
        yield from (line for line in text.splitlines() if line.strip())


def _is_same_length(one: MeasuredPoint, other: MeasuredPoint) -> bool:
    """Whether prompts and answers were as long, as far as lengths vary from run to run."""
    lengths = ((one.input_tokens, other.input_tokens), (one.output_tokens, other.output_tokens))
    return all(abs(first - second) <= _SAME_LENGTH * max(first, second) for first, second in lengths)


def _point(line: bytes) -> MeasuredPoint | None:
    """A line's point; None: it holds none."""
    if len(line) > _MAX_LINE_BYTES:
        return None
    try:
        values: dict[str, Any] = json.loads(line)
        given = {field.name: values[field.name] for field in fields(MeasuredPoint)}
        given["measured_on"] = date.fromisoformat(given["measured_on"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_whole = (
        all(isinstance(given[name], str) and given[name] for name in _TEXTS)
        and (given["engine"] is None or isinstance(given["engine"], str))
        and all(type(given[name]) is int and 0 < given[name] < 2**31 for name in _COUNTS)
        and _is_positive(given["output_tokens_per_s"])
        and all(given[name] is None or _is_positive(given[name]) for name in ("tpot_ms", "ttft_ms"))
    )
    return MeasuredPoint(**given) if is_whole else None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """The file, opened to be added to, by one process at a time. The lock goes with whoever dies."""
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            # Tries for ten seconds; closing gives the lock back, but not at once.
            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
            try:
                yield handle
            finally:
                os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
                msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
    finally:
        os.close(handle)
