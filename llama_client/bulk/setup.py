"""A job as it was called for: its input, its options, and what a run of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_client.bulk.asking import Asker
from llama_client.bulk.checks import check_rows
from llama_client.bulk.dispatcher import Dispatcher
from llama_client.bulk.inputs.opening import open_input
from llama_client.bulk.job.folder import JobFolder
from llama_client.bulk.job.manifest import JobOptions
from llama_client.bulk.job.outputs import has_written, note_output
from llama_client.bulk.limits import MOST, AdaptiveLimits
from llama_client.bulk.memory_journal import NoJournal
from llama_client.bulk.outputs.frames import AnsweredFrame
from llama_client.bulk.outputs.writers import writer_of
from llama_client.bulk.receipt import BulkProgress, BulkReceipt, Tally
from llama_client.bulk.work import Work
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Journal
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.chat import CallContext


Engine = Literal["local", "ray"]
"""Where the calls of a job are made: by this process, or by workers on Ray."""


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """The arguments of `bulk`; see there."""

    model: str | Sequence[str] | None
    prompt: str | None
    system: str | None
    schema: object
    params: Mapping[str, Any] | None
    job: str | Path | None
    limit: int | None
    max_concurrency: int | None
    retry_failed: bool
    on_progress: Callable[[BulkProgress], object] | None
    engine: Engine = "local"
    ray_address: str | None = None
    ray_workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "ray_workers"):
            most = getattr(self, name)
            if most is not None and (type(most) is not int or most < 1):
                raise InvalidRequestError(f"{name}: must be a whole number from 1, got {most!r:.60}", param=name)
        if self.engine not in get_args(Engine):
            raise InvalidRequestError(f"engine: must be 'local' or 'ray', got {self.engine!r:.60}", param="engine")
        if self.engine == "local":
            for name in ("ray_address", "ray_workers"):
                if getattr(self, name) is not None:
                    raise InvalidRequestError(f"{name}: is of engine='ray'; give that too, or leave it out", param=name)


@dataclass(slots=True, eq=False)
class JobSetup:
    """What `client.bulk` was given. A run is made of it each time that the job is iterated over, or run to a file."""

    context: CallContext
    rows: object
    options: BulkOptions
    _tally: Tally | None = None
    _source: RowsInput | None = None

    @property
    def receipt(self) -> BulkReceipt:
        return BulkReceipt() if self._tally is None else self._tally.receipt()

    def begin(self, output: Path | None = None) -> Run:
        """Opens the job, checks all rows that can be read twice, and makes a run. It blocks. Close what it returns.

        Args:
            output: The file that the results are for; None: none.

        Raises:
            JobError: The folder is in use or of another job, the input has changed, or an id is there twice.
            InvalidRequestError: A row is broken, or an argument is wrong.
        """
        options, source = self.options, self._opened()
        folder = None if options.job is None else Path(options.job)
        if output is not None:
            folder = folder or output.with_name(f"{output.name}.job")
            # Before anything is made, or asked.
            writer_of(output, source, replace=has_written(folder, output))
        with ExitStack() as stack:
            journal: Journal = NoJournal()
            if folder is not None:
                journal = JobFolder(
                    folder,
                    source.name,
                    self._determining(source),
                    retries_failures=options.retry_failed,
                    keeps_columns=not source.is_replayable,
                )
            stack.callback(journal.close)
            total = check_rows(source, journal, options.limit) if source.is_replayable else source.count()
            tally = self._tally = Tally(total=total, maybe_paid_twice=journal.maybe_paid_twice)
            asker = Asker(self.context, source.answers.form)
            most = MOST if options.max_concurrency is None else options.max_concurrency
            dispatcher = Dispatcher(AdaptiveLimits(most), most)
            ledger = self.context.accounting.ledger
            flush = None if ledger is None else ledger.flush
            form, tell = source.answers.form, options.on_progress
            work = Work(source, journal, dispatcher, tally, asker.target_of, flush, options.limit, form, tell)
            stack.pop_all()
        return Run(work, asker, source, folder, output)

    def frame(self) -> AnsweredFrame:
        """Where results are put beside their rows. It may block.

        Raises:
            InvalidRequestError: The rows are no DataFrame.
        """
        return AnsweredFrame(self._opened())

    def _opened(self) -> RowsInput:
        if self._source is None:
            options = self.options
            self._source = open_input(
                self.rows,
                prompt=options.prompt,
                system=options.system,
                schema=options.schema,
                params=options.params,
                model=options.model,
                limit=options.limit,
            )
        return self._source

    def _determining(self, source: RowsInput) -> JobOptions:
        options, form = self.options, source.answers.form
        model = options.model or self.context.model or self.context.config.default_model
        schema = None if form is None else form.response_format
        return JobOptions(model, options.prompt, options.system, schema, options.params)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is open.

    Attributes:
        work: Its reading and recording.
        asker: What asks its rows.
    """

    work: Work
    asker: Asker
    _source: RowsInput
    _folder: Path | None
    _output: Path | None

    def write(self) -> None:
        """Writes all results to the output, whole or not at all."""
        assert self._output is not None
        assert self._folder is not None
        writer = writer_of(self._output, self._source, replace=has_written(self._folder, self._output))
        writer.write(self._output, self.work.results())
        note_output(self._folder, self._output)

    def close(self) -> None:
        self.work.close()
