"""A job as it was called for: its input, its options, and what a run of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_client.bulk.asking import Asker
from llama_client.bulk.checks import check_rows
from llama_client.bulk.dispatcher import Dispatcher
from llama_client.bulk.job.folder import JobFolder
from llama_client.bulk.job.manifest import JobOptions
from llama_client.bulk.limits import MOST, AimdLimits
from llama_client.bulk.memory_journal import NoJournal
from llama_client.bulk.plain_rows import IterableInput
from llama_client.bulk.receipt import BulkProgress, BulkReceipt, Tally
from llama_client.bulk.work import Work
from llama_client.errors import InvalidRequestError, JobError
from llama_client.structured import AnswerForm

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Input, Journal
    from llama_client.chat import CallContext


@dataclass(slots=True, eq=False)
class JobSetup:
    """What `client.bulk` was given. A run is made of it each time that the job is iterated over, or run to a file."""

    context: CallContext
    source: Input
    options: JobOptions
    form: AnswerForm | None
    folder: Path | None
    limit: int | None
    max_concurrency: int | None
    retry_failed: bool
    on_progress: Callable[[BulkProgress], object] | None
    tally: Tally = field(default_factory=Tally)
    _was_read: bool = False

    @property
    def receipt(self) -> BulkReceipt:
        return self.tally.receipt()

    def asker(self) -> Asker:
        return Asker(self.context, self.form)

    def begin(self, asker: Asker, folder: Path | None) -> Work:
        """Opens the job, checks all rows that can be read twice, and makes the run. Close it.

        Raises:
            JobError: The folder is in use or of another job, the input has changed, or an id is there twice.
            InvalidRequestError: A row is broken.
        """
        if self._was_read and not self.source.is_replayable:
            raise JobError(f"{self.source.name}: an iterator, which was read already; call `bulk` again with a new one")
        with ExitStack() as stack:
            journal: Journal = NoJournal()
            if folder is not None:
                journal = JobFolder(folder, self.source.name, self.options, retries_failures=self.retry_failed)
            stack.callback(journal.close)
            total = check_rows(self.source, journal, self.limit) if self.source.is_replayable else self.source.count()
            self._was_read = True
            self.tally = Tally(total=total, maybe_paid_twice=journal.maybe_paid_twice)
            self.tally.start()
            most = MOST if self.max_concurrency is None else self.max_concurrency
            dispatcher = Dispatcher(AimdLimits(most), asker.target_of, most)
            ledger = self.context.accounting.ledger
            flush = None if ledger is None else ledger.flush
            work = Work(self.source, journal, dispatcher, self.tally, flush, self.limit, self.on_progress)
            stack.pop_all()
        return work


def set_up(
    context: CallContext,
    rows: object,
    *,
    model: object,
    prompt: str | None,
    system: str | None,
    schema: object,
    params: Mapping[str, Any] | None,
    job: str | Path | None,
    limit: int | None,
    max_concurrency: int | None,
    retry_failed: bool,
    on_progress: Callable[[BulkProgress], object] | None,
) -> JobSetup:
    """Checks the arguments of `bulk`. Nothing is read or written yet."""
    for name, value in (("limit", limit), ("max_concurrency", max_concurrency)):
        if value is not None and (type(value) is not int or value < 1):
            raise InvalidRequestError(f"{name}: must be a whole number above 0, got {value!r}", param=name)
    form, response_format = _form(schema)
    defaults = {**(params or {})}
    if model is not None:
        defaults["model"] = model
    if response_format is not None:
        defaults["response_format"] = response_format
    return JobSetup(
        context,
        IterableInput(rows, defaults, system),  # type: ignore[arg-type]
        JobOptions(model, prompt, system, response_format, params),
        form,
        None if job is None else Path(job),
        limit,
        max_concurrency,
        retry_failed,
        on_progress,
    )


def _form(schema: object) -> tuple[AnswerForm | None, Mapping[str, Any] | None]:
    """How answers are parsed, and what is asked for it."""
    if schema is None:
        return None, None
    if isinstance(schema, Mapping):
        return None, {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
    form = AnswerForm(schema)
    return form, form.response_format
