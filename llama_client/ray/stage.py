"""`ChatStage`: rows of a Ray Data pipeline in, the same rows with answers out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import BaseModel

    from llama_client.bulk.inputs.rows_input import RowsInput
    from llama_client.bulk.results import BulkResult


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

    Raises:
        ConfigError: The configuration is wrong.
        InvalidRequestError: An argument is wrong, or a batch lacks a column.

    Example:
        import ray
        from llama_client.ray import ChatStage

        tickets = ray.data.from_items([{"text": "Late again!"}, {"text": "Thank you."}])
        answers = tickets.map_batches(
            ChatStage,
            fn_constructor_kwargs={"model": "groq/openai/gpt-oss-20b", "prompt": "Classify: {text}"},
            batch_size=1024,
            concurrency=2,
        )
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
        from llama_client.bulk.limits import MOST, AdaptiveLimits
        from llama_client.client import AsyncLlamaClient

        self._shape: dict[str, Any] = {
            "prompt": prompt,
            "system": system,
            "schema": schema,
            "params": params,
            "model": model,
        }
        self._most = MOST if max_concurrency is None else max_concurrency
        # What one batch has found out holds for the next.
        self._limits = AdaptiveLimits(self._most)
        self._runner = asyncio.Runner()
        self._client = AsyncLlamaClient(config)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch's columns, and `answer` (or the schema's properties), `error`, `usd` and `target`."""
        from llama_client.bulk.inputs.opening import open_input
        from llama_client.bulk.outputs.columns import columns_of

        names = list(batch)
        records = [dict(zip(names, values, strict=True)) for values in zip(*map(_values, batch.values()), strict=True)]
        if not records:
            return dict(batch)
        source = open_input(records, **self._shape)
        results = self._runner.run(self._answered(source))
        return {**batch, **columns_of(source, results)}

    def close(self) -> None:
        """Ends the client. An actor's process ends without it."""
        self._runner.run(self._client.aclose())
        self._runner.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a ChatStage has a client, which belongs to its process; hand over the class: "
            "map_batches(ChatStage, fn_constructor_kwargs={...}, concurrency=...)"
        )

    async def _answered(self, source: RowsInput) -> list[BulkResult]:
        """In the order of the rows."""
        from llama_client.bulk.asking import Asker
        from llama_client.bulk.dispatcher import Dispatcher
        from llama_client.bulk.memory_journal import NoJournal
        from llama_client.bulk.receipt import Tally
        from llama_client.bulk.tasks import TaskRun
        from llama_client.bulk.work import Work

        context, form = self._client._context, source.answers.form
        asker = Asker(context, form)
        dispatcher = Dispatcher(self._limits, self._most)
        work = Work(source, NoJournal(), dispatcher, Tally(), asker.target_of, form=form)
        run = TaskRun(work, asker.answer, context.clock, keeps_results=True)
        found: dict[int, BulkResult] = {}
        try:
            async with aclosing(run.results(iter(()))) as results:
                async for result in results:
                    found[result.row.position] = result
        finally:
            await asyncio.to_thread(work.close)
        return [found[position] for position in sorted(found)]


def _values(column: Any) -> list[Any]:
    """A batch's columns are arrays of numpy."""
    return column.tolist() if hasattr(column, "tolist") else list(column)
