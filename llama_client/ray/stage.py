"""`ChatStage`: rows of a Ray Data pipeline in, the same rows with answers out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row


T = TypeVar("T")


class ChatStage:
    """A stage for `map_batches`: an actor with one client, which asks all rows of a batch at once.

    Batches of 1,000 rows and more keep many calls in flight. How many is found, as in `client.bulk`: `Retry-After` is
    honoured, and errors that may pass are tried again. A row that fails has its error in the column `error`, and does
    not end the pipeline.

    Each actor finds its configuration where it is: `LLAMA_CLIENT_CONFIG`, its working folder, variables. So keys need
    not go through Ray; one that stands in a `config` mapping would.

    Args:
        model: As of `create`.
        prompt: A template with columns in it: `"Classify: {text}"`; None: the column `prompt`, `text` or `messages`.
        system: Instructions before each prompt.
        schema: What answers have to fit: a Pydantic model's class, a JSON schema, or the path of one. Its properties
            are columns then, in the place of `answer`.
        params: What else `create` takes, for all rows.
        config: A path, a mapping with the keys of the configuration file, or None to look for a file.
        max_concurrency: The most calls in flight of one actor.

    Hand the class over to Ray Data, so that each actor keeps its client. An instance works too; Ray Data then opens a
    client for each block.

    Raises:
        ConfigError: The configuration is wrong. Raised where it works, as the next one is.
        InvalidRequestError: An argument is wrong, or a batch lacks a column.

    Example:
        import pyarrow

        # In a pipeline: data.map_batches(ChatStage, fn_constructor_kwargs={...}, batch_size=1024, concurrency=2)
        stage = ChatStage(model="gguf/smollm2-135m", prompt="Answer in a word: {text}", params={"max_tokens": 8})
        answered = stage(pyarrow.table({"text": ["Late again!", "Thank you."]}))
        print(answered.column("answer").to_pylist())
        stage.close()
    """

    def __init__(
        self,
        *,
        model: str | Sequence[str] | None = None,
        prompt: str | None = None,
        system: str | None = None,
        schema: type[BaseModel] | Mapping[str, object] | str | Path | None = None,
        params: Mapping[str, object] | None = None,
        config: str | Path | Mapping[str, object] | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        self._config = config
        self._max_concurrency = max_concurrency
        self._shape: dict[str, Any] = {
            "prompt": prompt,
            "system": system,
            "schema": schema,
            "params": params,
            "model": model,
        }
        # Opened where it works: an instance may be on its way to other processes.
        self._open: _OpenStage | None = None
        # Ray drops the copies of an instance without a word.
        self._is_copy = False

    def __call__(self, batch: Any) -> Any:
        """The batch as an Arrow table, with `answer` (or the schema's properties), `error`, `usd` and `target`.

        A column of the batch that has such a name stays; that of the answer is then `answer_2`.
        """
        from llama_client.bulk.inputs.arrow import pyarrow_for
        from llama_client.bulk.inputs.opening import open_input
        from llama_client.bulk.outputs.parquet import FORMS, arrow_array, arrow_types
        from llama_client.bulk.outputs.records import record_of

        arrow, table = pyarrow_for("ChatStage"), _table(batch)
        if not table.num_rows:
            return table
        source = open_input(table, **self._shape)
        self._open = self._open or _OpenStage(self._config, self._max_concurrency)
        try:
            results = self._open.answer(source)
        finally:
            if self._is_copy:
                self.close()
        added = zip(*(record_of(result, source.answers).added for result in results), strict=True)
        types = arrow_types(arrow)
        for field, values in zip(source.answers.fields(source.columns), added, strict=True):
            column = arrow_array(arrow, types[field.kind], FORMS.get(field.kind), values)
            table = table.append_column(field.name, column)
        return table

    def close(self) -> None:
        """Ends the client."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, ({**self._shape, "config": self._config, "max_concurrency": self._max_concurrency},)


def _again(arguments: Mapping[str, Any]) -> ChatStage:
    stage = ChatStage(**arguments)
    stage._is_copy = True
    return stage


class _OpenStage:
    """A stage's client, and what it has found out of its targets."""

    def __init__(self, config: str | Path | Mapping[str, object] | None, max_concurrency: int | None) -> None:
        from llama_client.bulk.limits import MOST, AdaptiveLimits
        from llama_client.client import AsyncLlamaClient

        self._most = MOST if max_concurrency is None else max_concurrency
        # What one batch has found out holds for the next.
        self._limits = AdaptiveLimits(self._most)
        self._client = AsyncLlamaClient(config)
        self._runner = asyncio.Runner()

    def answer(self, source: RowsInput) -> list[BulkResult]:
        """The results in the order of the rows."""
        return _without_a_loop(lambda: self._runner.run(self._answered(source)))

    def close(self) -> None:
        _without_a_loop(self._close)

    def _close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    async def _answered(self, source: RowsInput) -> list[BulkResult]:
        from llama_client.bulk.asking import Asker
        from llama_client.bulk.dispatcher import Dispatcher
        from llama_client.bulk.ledger_first import LedgerFirst
        from llama_client.bulk.memory_journal import NoJournal
        from llama_client.bulk.pending import PendingRow
        from llama_client.bulk.receipt import Tally
        from llama_client.bulk.tasks import TaskRun
        from llama_client.bulk.work import Work

        context, form = self._client._context, source.answers.form
        asker = Asker(context, form)
        dispatcher = Dispatcher(self._limits, self._most)

        def pending(row: Row) -> PendingRow:
            return PendingRow(row, asker.target_of(row))

        ledger = context.accounting.ledger
        # An actor may be ended by its process.
        first = LedgerFirst(None if ledger is None else ledger.flush)
        work = Work(source, NoJournal(), dispatcher, Tally(), pending, first, form=form)
        run = TaskRun(work, asker.answer, context.clock, keeps_results=True)
        found: dict[int, BulkResult] = {}
        try:
            async with aclosing(run.results(iter(()))) as results:
                async for result in results:
                    found[result.row.position] = result
        finally:
            await asyncio.to_thread(work.close)
        return [found[position] for position in sorted(found)]


def _without_a_loop(function: Callable[[], T]) -> T:
    """Calls it in a thread where this one has a loop (in a notebook, or an actor with one), and so may run no other."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    with ThreadPoolExecutor(1, "llama-client-stage") as thread:
        return thread.submit(function).result()


def _table(batch: Any) -> Any:
    """A batch as Ray Data hands it over, as an Arrow table."""
    if hasattr(batch, "append_column"):
        return batch
    from ray.data.block import BlockAccessor

    if isinstance(batch, Mapping):
        batch = BlockAccessor.batch_to_arrow_block(dict(batch))
    return BlockAccessor.for_block(batch).to_arrow()
