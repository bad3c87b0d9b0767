"""An append-only file of whole lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from llama_client.errors import JobError

_READ_BYTES = 1 << 20


class LineFile:
    """Lines that are appended by one write, and read at their offsets. Not safe to use from several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] = open(path, "a+b", buffering=0)  # noqa: SIM115
        self.size = self._file.seek(0, 2)

    def append(self, lines: bytes) -> int:
        """The offset at which they begin. A write that fails leaves nothing of them."""
        start, view = self.size, memoryview(lines)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.truncate(start)
            raise
        self.size = start + len(lines)
        return start

    def line_at(self, offset: int) -> bytes:
        self._file.seek(offset)
        parts: list[bytes] = []
        while chunk := self._file.read(16_384):
            end = chunk.find(b"\n")
            if end >= 0:
                parts.append(chunk[: end + 1])
                break
            parts.append(chunk)
        return b"".join(parts)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each whole line with its offset, after a torn last one was cut off."""
        offset, rest = 0, b""
        self._file.seek(0)
        while chunk := self._file.read(_READ_BYTES):
            block = rest + chunk
            start = 0
            while (end := block.find(b"\n", start)) >= 0:
                yield offset + start, block[start : end + 1]
                start = end + 1
            offset, rest = offset + start, block[start:]
        if rest:
            self.cut(offset)

    def cut(self, offset: int) -> None:
        self._file.truncate(offset)
        self.size = offset

    def keep(self, is_kept: Callable[[int, bytes], bool]) -> None:
        """Leaves the lines of which this is true: by a new file in its place."""
        temporary = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            with temporary.open("wb") as new:
                new.writelines(line for offset, line in self.lines() if is_kept(offset, line))
                new.flush()
                os.fsync(new.fileno())
            # Windows replaces no file that is open.
            self._file.close()
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
            if self._file.closed:
                self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
                self.size = self._file.seek(0, 2)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def broken(self, offset: int, folder: Path) -> JobError:
        return JobError(
            f"{self.path}: what stands at byte {offset} is no line of a job; restore the file, or remove {folder} to "
            "begin anew",
            folder=folder,
        )
