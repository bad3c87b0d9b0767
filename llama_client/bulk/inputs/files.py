"""A file as it was when the job began: its kind by its first bytes, its size, and whether it has changed since."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from llama_client.errors import InvalidRequestError, JobError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE_BYTES = 64 * 2**20
"""Of a line of JSON, or of a record of CSV: more than any request, and little enough for memory."""
_UTF_8_BOM = b"\xef\xbb\xbf"
# The longest first: that of UTF-32 begins as that of UTF-16 does.
_WIDE_BOMS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"))
_REFUSED = (
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard, which Python's library cannot read; unpack it: zstd -d {name}"),
    (b"PK\x03\x04", "a ZIP archive (an Excel file is one); unpack it, or save the sheet as CSV"),
    (b"SQLite format 3\0", "an SQLite database; export the table as CSV: sqlite3 -header -csv {name} 'SELECT ...'"),
)


class _State(NamedTuple):
    size: int
    modified_ns: int
    inode: int
    device: int


def _state(found: os.stat_result) -> _State:
    return _State(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


class InputFile:
    """A regular file. What is appended to it later is not read; any other change is an error.

    Args:
        path: Its path.

    Raises:
        InvalidRequestError: There is no such file, or it is none that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name or str(path)
        try:
            found = path.stat()
            if stat.S_ISDIR(found.st_mode):
                raise self.wrong("is a directory; name one file in it")
            if not stat.S_ISREG(found.st_mode):
                raise self.wrong("is no regular file, and a job must be able to read it again; save it as a file first")
            with path.open("rb") as handle:
                self._state = _state(os.fstat(handle.fileno()))
                self.head = handle.read(16)
        except FileNotFoundError:
            raise self.wrong(f"does not exist ({path})") from None
        except OSError as error:
            raise self.wrong(f"cannot be read ({error.strerror or type(error).__name__})") from error
        self.compression = next((name for magic, name in _COMPRESSED if self.head.startswith(magic)), None)
        for magic, what in _REFUSED:
            if self.head.startswith(magic):
                raise self.wrong(f"is {what.format(name=self.name)}")

    def wrong(self, what: str, line: int | None = None) -> InvalidRequestError:
        """The error that says what is wrong with it, or with a line of it."""
        if line is None:
            return InvalidRequestError(f"{self.name} {what}")
        return InvalidRequestError(f"{self.name}, line {line}: {what}")

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its content, unpacked, as far as it reached at first. At the end of a whole reading: `require_unchanged`."""
        with ExitStack() as stack:
            try:
                handle = stack.enter_context(self.path.open("rb"))
            except OSError as error:
                raise self._changed("is no longer there") from error
            self.require_unchanged(handle)
            part = stack.enter_context(io.BufferedReader(_UpTo(handle, self._state.size), 2**16))
            try:
                yield stack.enter_context(_unpacked(part, self.compression)) if self.compression else part
            except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
                self.require_unchanged(handle)
                raise self._damaged() from error
            except OSError as error:
                # bz2 has no error of its own.
                if self.compression is None or error.errno is not None:
                    raise self.wrong(f"cannot be read ({error.strerror or type(error).__name__})") from error
                raise self._damaged() from error
            else:
                self.require_unchanged(handle)

    @contextmanager
    def opened_whole(self) -> Iterator[BinaryIO]:
        """Its content for a format that is read from its end, to which nothing can be appended."""
        try:
            handle = self.path.open("rb")
        except OSError as error:
            raise self._changed("is no longer there") from error
        with handle:
            self._require_same_size(handle)
            yield handle
            self._require_same_size(handle)

    def _require_same_size(self, handle: BinaryIO) -> None:
        self.require_unchanged(handle)
        if os.fstat(handle.fileno()).st_size != self._state.size:
            raise self._changed("was written to")

    def require_unchanged(self, handle: BinaryIO) -> None:
        """Raises `JobError` where it has been replaced, cut or written over since it was found."""
        now, then = _state(os.fstat(handle.fileno())), self._state
        if (now.inode, now.device) != (then.inode, then.device):
            raise self._changed("was replaced by another file")
        if now.size < then.size:
            raise self._changed(f"was cut from {then.size} to {now.size} bytes")
        if now.size == then.size and now.modified_ns != then.modified_ns:
            raise self._changed("was written to")

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each physical line of its text with its number and its line end."""
        for magic, encoding in _WIDE_BOMS:
            if self.compression is None and self.head.startswith(magic):
                raise self._is_wide(encoding)
        with self.opened() as stream:
            number = 0
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    most = MAX_LINE_BYTES // 2**20
                    raise self.wrong(f"longer than {most} MiB; is the file one long line, without line ends?", number)
                if number == 1:
                    line = self._without_bom(line)
                if b"\0" in line:
                    raise self._has_nul(line, number)
                yield number, self._decoded(line, number)

    @property
    def has_grown(self) -> bool:
        """Whether more has been appended since."""
        try:
            return self.path.stat().st_size > self._state.size
        except OSError:
            return False

    def _without_bom(self, line: bytes) -> bytes:
        for magic, encoding in _WIDE_BOMS:
            if line.startswith(magic):
                raise self._is_wide(encoding)
        return line.removeprefix(_UTF_8_BOM)

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            at, byte = error.start + 1, line[error.start]
            raise self.wrong(
                f"not UTF-8: byte {at} is 0x{byte:02X}; convert the file, for example "
                f"iconv -f WINDOWS-1252 -t UTF-8 {self.name} > converted-{self.name}",
                number,
            ) from None

    def _has_nul(self, line: bytes, number: int) -> InvalidRequestError:
        if line.count(b"\0") * 3 >= len(line):
            return self._is_wide("UTF-16")
        at = line.index(b"\0") + 1
        return self.wrong(f"byte {at} is a NUL, which no text has; was the file damaged?", number)

    def _is_wide(self, encoding: str) -> InvalidRequestError:
        return self.wrong(
            f"is {encoding}, and must be UTF-8; convert it: "
            f"iconv -f {encoding} -t UTF-8 {self.name} > converted-{self.name}"
        )

    def _damaged(self) -> InvalidRequestError:
        return self.wrong(f"is compressed ({self.compression}), and damaged or cut; compress or copy it again")

    def _changed(self, how: str) -> JobError:
        return JobError(
            f"{self.name} {how} while the job read it; rows may differ from those that were asked. "
            "Give the job a file that nothing else changes (appending is allowed)",
            where=self.name,
        )


def _unpacked(part: BinaryIO, compression: str) -> BinaryIO:
    match compression:
        case "gzip":
            return cast("BinaryIO", gzip.GzipFile(fileobj=part, mode="rb"))
        case "bzip2":
            return cast("BinaryIO", bz2.BZ2File(part))
    return cast("BinaryIO", lzma.LZMAFile(part))


class _UpTo(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, handle: BinaryIO, size: int) -> None:
        super().__init__()
        self._handle = handle
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        read = self._handle.read(min(len(memoryview(buffer)), self._left))
        memoryview(buffer)[: len(read)] = read
        self._left -= len(read)
        return len(read)
