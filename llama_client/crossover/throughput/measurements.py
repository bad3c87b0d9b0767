"""What `llama-client bench` measured, stored for later crossovers: a JSON line a point in the user's data folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import platformdirs
from pydantic import TypeAdapter, ValidationError

from llama_client.clock import Clock
from llama_client.crossover.throughput.points import MeasuredPoint, are_as_long
from llama_client.errors import ConfigError

# About ten thousand points; older ones are not read.
MAX_FILE_BYTES = 4 << 20
_MAX_LINE_BYTES = 4096
_POINT = TypeAdapter(MeasuredPoint)
# The clock of the writer may have been ahead of ours around midnight.
_CLOCKS_APART = timedelta(days=1)
# Windows locks byte ranges, also beyond the end of a file; no line is ever so far on.
_LOCKED_BYTE = 1 << 30

# A later measurement replaces one whose lengths differ by at most 10% of the larger.
_SAME_MEASUREMENT = 1 / 0.9


@dataclass(frozen=True, slots=True)
class StoredMeasurements:
    points: tuple[MeasuredPoint, ...] = ()
    broken_lines: int = 0


class Measurements:
    def __init__(self, file: Path, *, clock: Clock | None = None) -> None:
        self.file = file
        self._clock = clock or Clock()

    @classmethod
    def of_user(cls) -> Measurements:
        return cls(platformdirs.user_data_path("llama-client", appauthor=False) / "measurements.jsonl")

    def add(self, points: Sequence[MeasuredPoint], *, target: str | None = None) -> None:
        """Adds points, all or none of them."""
        if not points:
            return
        about = {} if target is None else {"target": target}
        rows = ({**asdict(point), "measured_on": point.measured_on.isoformat(), **about} for point in points)
        text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(self.file) as handle:
            size = os.fstat(handle).st_size
            if size:
                # A line that a dying process left unfinished must not spoil the next one.
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
            setup = (point.model, point.gpu, point.n_gpus, point.precision, point.engine, point.concurrency)
            lengths = (point.input_tokens, point.output_tokens)
            others = newest.get(setup, ())
            kept = [
                each
                for each in others
                if not are_as_long((each.input_tokens, each.output_tokens), lengths, _SAME_MEASUREMENT)
            ]
            newest[setup] = [*kept, point]
        return StoredMeasurements(tuple(point for points in newest.values() for point in points), broken)

    def _lines(self) -> Iterator[bytes]:
        try:
            with self.file.open("rb") as file:
                start = max(os.fstat(file.fileno()).st_size - MAX_FILE_BYTES, 0)
                if start:
                    # From the next line on.
                    file.seek(start - 1)
                    file.readline()
                # Bounded: another process may append meanwhile.
                text = file.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(
                f"{self.file}: the measurements of `llama-client bench` cannot be read there: "
                f"{error.strerror or error}; make it a file that you may read, or move it away"
            ) from error
        yield from (line for line in text.splitlines() if line.strip())


def _point(line: bytes) -> MeasuredPoint | None:
    """The point of a line; None: it is damaged."""
    with suppress(ValidationError):
        return _POINT.validate_json(line, strict=True) if len(line) <= _MAX_LINE_BYTES else None
    return None


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    """The file, opened to append to, by one process at a time. The lock ends with the process."""
    # Readers take complete lines and no lock, so neither waits for the other.
    handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            # Tries for ten seconds; closing releases the lock, but not at once.
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
