"""A job's folder: what was done is found again after anything."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.job.in_flight import InFlight
from llama_client.bulk.job.index import Entry, Index
from llama_client.bulk.job.journal import LineFile
from llama_client.bulk.job.lines import identity_of, line_of, result_of
from llama_client.bulk.job.lock import FolderLock
from llama_client.bulk.job.manifest import JobOptions, check_manifest
from llama_client.costs.money import added
from llama_client.errors import JobError

if TYPE_CHECKING:
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row

# What a power failure may take of what was recorded: those rows are asked again.
_SYNC_S = 1.0


class JobFolder:
    """The journal of a job in a folder, which is made where there is none. Safe to use from several threads.

    Args:
        folder: The folder.
        input_name: What the rows come from, for people.
        options: What changes the answers.
        retries_failures: Whether rows that failed in an earlier run count as not done.
        keeps_columns: Whether the columns of rows are written too; else the input tells them again.

    Attributes:
        maybe_paid_twice: How many calls were in flight when earlier runs were killed, and were asked again.

    Raises:
        JobError: It is in use, of another job, or cannot be read or written.
    """

    is_lasting = True

    def __init__(
        self,
        folder: Path,
        input_name: str,
        options: JobOptions,
        *,
        retries_failures: bool = False,
        keeps_columns: bool = True,
    ) -> None:
        self.folder = folder
        self._retries = retries_failures
        self._keeps_columns = keeps_columns
        self._mutex = threading.Lock()
        self._is_broken = False
        self._has_old_failures = False
        self._withdrawn: deque[int] = deque()
        if folder.exists() and not folder.is_dir():
            raise JobError(f"{folder}: is a file; name an empty folder, or a new one", folder=folder)
        with ExitStack() as stack, self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
            stack.callback(self._lock.release)
            check_manifest(folder, input_name, options)
            self._results = LineFile(folder / "results.jsonl")
            stack.callback(self._results.close)
            self._failures = LineFile(folder / "failures.jsonl")
            stack.callback(self._failures.close)
            self._index = Index(folder / "index", (self._results.size, self._failures.size))
            stack.callback(self._index.close, None)
            if not self._index.is_current:
                self._make_index()
            self._in_flight = InFlight(folder / "in_flight")
            stack.callback(self._in_flight.close)
            self.maybe_paid_twice = self._tell_interrupted()
            self._opened = stack.pop_all()
        # What earlier runs have done.
        self._earlier = self._results.size, self._failures.size
        self._synced_at = time.monotonic()

    @property
    def answered(self) -> int:
        return self._index.answered

    @property
    def failed(self) -> int:
        return self._index.failed

    @property
    def end(self) -> int:
        """One more than the last position that is done."""
        with self._mutex:
            return self._index.end

    def began(self, rows: Sequence[Row]) -> None:
        with self._mutex, self._told():
            while self._withdrawn:
                self._in_flight.ended(self._withdrawn.popleft(), is_answered=False)
            for row in rows:
                self._in_flight.began(row.position)

    def withdrew(self, row: Row) -> None:
        # On event loops too, so without the lock, which may be held while the disk is written.
        self._withdrawn.append(row.position)

    def lost(self, rows: Sequence[Row]) -> None:
        """Calls of a process that is gone. They are told for good, and are in flight no more."""
        with self._mutex, self._told():
            self._note_interrupted([row.position for row in rows])
            for row in rows:
                self._in_flight.ended(row.position, is_answered=False)
            self.maybe_paid_twice += len(rows)

    def record(self, results: Sequence[BulkResult]) -> None:
        """Each kind by one write. Another process would find them from here on."""
        with self._mutex, self._told():
            if self._is_broken:
                raise JobError(f"{self.folder}: could not be written before", folder=self.folder)
            self._is_broken = True
            for file, are_failures in ((self._results, False), (self._failures, True)):
                chosen = [result for result in results if (result.completion is None) is are_failures]
                lines = [line_of(result, with_columns=self._keeps_columns) for result in chosen]
                offset = file.append(b"".join(lines)) if lines else 0
                for result, line in zip(chosen, lines, strict=True):
                    was_failure = self._index.set(
                        result.row.position, result.row.digest, offset, is_failure=are_failures
                    )
                    self._has_old_failures |= was_failure
                    self._in_flight.ended(result.row.position, is_answered=not are_failures)
                    offset += len(line)
            self._is_broken = False
            self._lock.beat()
            if time.monotonic() - self._synced_at >= _SYNC_S:
                self._results.sync()
                self._failures.sync()
                self._synced_at = time.monotonic()

    def is_done(self, row: Row) -> bool:
        """Whether an earlier run has done it.

        Raises:
            JobError: Another row stood at its position.
        """
        with self._mutex, self._told():
            entry = self._index.get(row.position)
        if entry is None:
            return False
        if entry.digest != row.digest:
            raise JobError(
                f"{row.where or f'row {row.position + 1}'}: changed, moved or inserted since the job began; restore "
                f"the input, or use another job folder than {self.folder}",
                folder=self.folder,
                where=row.where or None,
            )
        return not (entry.is_failure and self._retries)

    def results(self, rows: Iterator[Row] | None = None, *, only_earlier: bool = False) -> Iterator[BulkResult]:
        """What is done, in the order of the input.

        Args:
            rows: The rows of the input, from its start; None: those that the journal knows, without params.
            only_earlier: Only what earlier runs have done.
        """
        positions = ((row.position, row) for row in rows) if rows is not None else ((n, None) for n in range(self.end))
        for position, row in positions:
            with self._mutex, self._told():
                entry = self._index.get(position)
                if entry is None or (only_earlier and self._is_of_this_run(entry)):
                    continue
                line = (self._failures if entry.is_failure else self._results).line_at(entry.offset)
            yield result_of(line, row)

    def spent(self) -> Decimal | None:
        """What the rows have cost that are done; None: of at least one it is unknown."""
        total = Decimal(0)
        with self._mutex, self._told():
            for file in (self._results, self._failures):
                for _, line in file.lines():
                    usd = json.loads(line)["usd"]
                    if usd is None:
                        return None
                    total = added(total, Decimal(usd))
        return total

    def close(self) -> None:
        with self._mutex, self._told():
            if not self._is_broken:
                self._drop_answered()
                self._results.sync()
                self._failures.sync()
                self._in_flight.clear()
            # It closes its file itself, where it is closed properly.
            sizes = None if self._is_broken else (self._results.size, self._failures.size)
            self._index.close(sizes)
            self._opened.close()

    def _is_of_this_run(self, entry: Entry) -> bool:
        return entry.offset >= self._earlier[1 if entry.is_failure else 0] or (entry.is_failure and self._retries)

    def _make_index(self) -> None:
        """From the journal. A row that has failed and was answered later is answered."""
        failures = 0
        for file, are_failures in ((self._failures, True), (self._results, False)):
            for offset, line in file.lines():
                found = identity_of(line)
                if found is None:
                    raise file.broken(offset, self.folder)
                self._index.set(*found, offset, is_failure=are_failures)
                failures += are_failures
        self._has_old_failures = failures > self._index.failed

    def _drop_answered(self) -> None:
        """Takes failures out of their file that were tried again since."""
        if not self._has_old_failures:
            return

        def is_current(offset: int, line: bytes) -> bool:
            found = identity_of(line)
            entry = None if found is None else self._index.get(found[0])
            return entry is not None and entry.is_failure and entry.offset == offset

        self._failures.keep(is_current)
        for offset, line in self._failures.lines():
            found = identity_of(line)
            if found is not None:
                self._index.set(*found, offset, is_failure=True)

    def _tell_interrupted(self) -> int:
        """How many calls were in flight at each kill so far: those of the last one are added to the list."""
        path = self.folder / "interruptions.jsonl"
        began = [(position, self._index.get(position)) for position in self._in_flight.earlier()]
        lost = [position for position, entry in began if entry is None or entry.is_failure]
        self._note_interrupted(lost)
        self._in_flight.clear()
        if not path.exists():
            return 0
        with path.open("rb") as file:
            return sum(json.loads(line)["rows"] for line in file if line.endswith(b"\n"))

    def _note_interrupted(self, lost: Sequence[int]) -> None:
        if lost:
            told = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rows": len(lost), "positions": list(lost)}
            with (self.folder / "interruptions.jsonl").open("ab") as file:
                file.write(json.dumps(told).encode() + b"\n")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A full disk, a folder that is not writable: as a sentence."""
        try:
            yield
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise JobError(
                f"{self.folder}: {why[0].lower()}{why[1:]}; the same call goes on once that is mended",
                folder=self.folder,
            ) from error
