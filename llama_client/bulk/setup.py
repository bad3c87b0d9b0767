"""A job as it was called for: its input, its options, and what a run of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.asking import Asker, SplitAsker, model_of
from llama_client.bulk.cancelling import never, until_left
from llama_client.bulk.checks import check_rows
from llama_client.bulk.dispatcher import Dispatcher
from llama_client.bulk.idle.targets import LocalTargets
from llama_client.bulk.inputs.opening import open_input
from llama_client.bulk.job.folder import JobFolder
from llama_client.bulk.job.manifest import JobOptions
from llama_client.bulk.job.outputs import has_written, note_output
from llama_client.bulk.ledger_first import LedgerFirst
from llama_client.bulk.limits import MOST, AdaptiveLimits
from llama_client.bulk.memory_journal import NoJournal
from llama_client.bulk.notebook import told_in_notebook
from llama_client.bulk.options import BulkOptions
from llama_client.bulk.outputs.frames import AnsweredFrame
from llama_client.bulk.outputs.writers import writer_of
from llama_client.bulk.pending import PendingRow
from llama_client.bulk.planning.arranging import Arranging, require_local
from llama_client.bulk.planning.deadlines import deadline_at, seconds_left
from llama_client.bulk.planning.kept_answers import kept_answers
from llama_client.bulk.planning.preparing import chosen, require_known
from llama_client.bulk.planning.pricing import Pricing
from llama_client.bulk.planning.purse import Purse
from llama_client.bulk.planning.speeds import Speeds
from llama_client.bulk.planning.terms import Terms
from llama_client.bulk.planning.venues import BatchWork
from llama_client.bulk.receipt import BulkReceipt, Tally
from llama_client.bulk.work import Work
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.contracts import Journal
    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.planning.quotes import BulkPlan
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext


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

    def begin(self, output: Path | None = None, *, replace: bool = False, is_left: Callable[[], bool] = never) -> Run:
        """Opens the job, checks all rows that can be read twice, and makes a run. It blocks. Close what it returns.

        Args:
            output: The file that the results are for; None: none.
            replace: Whether a file of others may be replaced by it.
            is_left: Whether nothing waits for it any more.

        Raises:
            LeftError: Nothing did.
            JobError: The folder is in use or of another job, the input has changed, or an id is there twice.
            InvalidRequestError: A row is broken, or an argument is wrong.
            ConfigError: The model is unknown.
        """
        # Where it cannot begin, the receipt is none of an earlier run.
        self._tally = None
        source = self._opened()
        self._require_model(source)
        folder = None if self.options.job is None else Path(self.options.job)
        if output is not None:
            folder = folder or output.with_name(f"{output.name}.job")
            # Before anything is made, or asked.
            writer_of(output, source, replace=replace or has_written(folder, output))
        with ExitStack() as stack:
            work, asker = self._work(source, folder, stack, is_left)
            stack.pop_all()
        return Run(work, asker, source, folder, output, replace)

    def _work(
        self, source: RowsInput, folder: Path | None, stack: ExitStack, is_left: Callable[[], bool]
    ) -> tuple[Work, Asker | SplitAsker]:
        """What reads and records, and what asks. What is opened for it is closed by the stack until it is whole."""
        options, form, most = self.options, source.answers.form, self._most()
        journal = self._journal(folder, source)
        stack.callback(journal.close)
        total = check_rows(source, journal, options.limit, is_left) if source.is_replayable else source.count()
        terms, locals_ = self._terms(), LocalTargets(self.context)
        pricing = Pricing(self.context, form, None if terms.hours is None else locals_)
        tally = self._tally = Tally(total=total, maybe_paid_twice=journal.maybe_paid_twice, list_usd=pricing.list_usd)
        # Outside of idle hours this machine is left alone, where hours are stated.
        at_once = Asker(self.context if terms.hours is None else locals_.at_once, form)
        purse = _purse(terms, journal)
        dispatcher = Dispatcher(AdaptiveLimits(most), most, purse=purse, is_lasting=journal.is_lasting)

        def pending(row: Row) -> PendingRow:
            worst_usd = None if purse is None else pricing.worst_usd(row)
            return PendingRow(row, at_once.target_of(row), worst_usd=worst_usd)

        batches, answers = None, kept_answers(self.context, form)
        if folder is not None:
            batches = BatchWork(
                self.context,
                folder,
                journal,
                pending,
                purse,
                pricing.batch_worst_usd,
                tally.was_earlier,
                form,
                answers,
            )
            stack.callback(batches.close)
        arranging = Arranging(
            self.context, source, journal, pricing, terms, locals_, purse, tally, most, answers, is_left
        )
        idle = arranging.arranged(folder, batches)
        ledger = self.context.accounting.ledger
        first = LedgerFirst(None if ledger is None else ledger.flush)
        # Where earlier failures are asked again, they are failures of this run, if of any.
        tally.earlier_failed = 0 if options.retry_failed else journal.failed
        tell = told_in_notebook(options.on_progress)
        work = Work(source, journal, dispatcher, tally, pending, first, options.limit, form, tell, batches)
        if idle is None:
            return work, at_once
        dispatcher.limits, dispatcher.shift = idle.limits, idle.shift
        work.wait_for(idle.shift, idle.pending)
        return work, idle.asker

    def _terms(self) -> Terms:
        config = self.context.config
        # Idle hours are those of the user's time zone, or else of the clock on the wall.
        zone = self.context.cost_source.calendar.zone if "timezone" in config.model_fields_set else None
        return self.options.terms(zone)

    def _most(self) -> int:
        return MOST if self.options.max_concurrency is None else self.options.max_concurrency

    def plan(self, is_left: Callable[[], bool] = never) -> BulkPlan:
        """What the job would do with the rows that are not done. It blocks, reads all rows, and asks none.

        Raises:
            LeftError: Nothing waits for it any more.
            InvalidRequestError: The rows can be read once only, or one is broken.
            JobError: The folder is in use or of another job.
        """
        source, options = self._opened(), self.options
        if not source.is_replayable:
            raise InvalidRequestError(
                f"rows: {source.name} gives its rows once, and the job would find none; plan with a list or a file",
                param="rows",
            )
        self._require_model(source)
        terms, locals_ = self._terms(), LocalTargets(self.context)
        folder = None if options.job is None else Path(options.job)
        # Looking at a plan makes no folder.
        is_begun = folder is not None and (folder / "manifest.json").exists()
        folder = folder if is_begun else None
        journal = self._journal(folder, source)
        with closing(journal):
            check_rows(source, journal, options.limit, is_left)
            rows = (row for row in until_left(source.rows(), is_left) if not journal.is_done(row))
            measure = Pricing(self.context, source.answers.form, None if terms.hours is None else locals_).measure(
                rows, kept_answers(self.context, source.answers.form)
            )
        require_local(measure, terms)
        speeds = Speeds(self.context, locals_, self._most())
        now = self.context.clock.wall()
        left_s = seconds_left(deadline_at(folder, terms.deadline_s, now, is_kept=False), now)
        return chosen(self.context, measure, speeds, terms, left_s, has_folder=True).plan

    def _journal(self, folder: Path | None, source: RowsInput) -> Journal:
        if folder is None:
            return NoJournal()
        return JobFolder(
            folder,
            source.name,
            self._determining(source),
            retries_failures=self.options.retry_failed,
            keeps_columns=not source.is_replayable,
        )

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

    def _require_model(self, source: RowsInput) -> None:
        """An unknown model would be the failure of each row."""
        in_params = (self.options.params or {}).get("model")
        for model in (self.options.model, in_params, self.context.model, None if source.is_batch else self._model()):
            if model is not None:
                self.context.resolver.choices(model)

    def _model(self) -> str | Sequence[str] | None:
        return model_of(self.options.model, self.context)

    def _determining(self, source: RowsInput) -> JobOptions:
        options, form = self.options, source.answers.form
        schema = None if form is None else form.response_format
        return JobOptions(self._model(), options.prompt, options.system, schema, options.params)


def _purse(terms: Terms, journal: Journal) -> Purse | None:
    if terms.max_usd is None:
        return None
    return Purse(terms.max_usd, require_known(journal.spent()))


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is open.

    Attributes:
        work: Its reading and recording.
        asker: What asks its rows.
    """

    work: Work
    asker: Asker | SplitAsker
    _source: RowsInput
    _folder: Path | None
    _output: Path | None
    _replaces: bool

    def write(self) -> None:
        """Writes all results to the output, whole or not at all."""
        assert self._output is not None
        assert self._folder is not None
        replace = self._replaces or has_written(self._folder, self._output)
        writer = writer_of(self._output, self._source, replace=replace)
        writer.write(self._output, self.work.results(), claim=partial(note_output, self._folder, self._output))

    def close(self) -> None:
        self.work.close()
