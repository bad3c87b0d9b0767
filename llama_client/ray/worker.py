"""The stage of a job on Ray Data: an actor with one client, which asks the rows that the driver lends it.

What it is told and tells goes through the mailbox at once: a row is begun once the driver has noted that, and an answer
is done once the driver has it in its journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_client.bulk.asking import Asker
from llama_client.bulk.dispatcher import Dispatcher
from llama_client.bulk.ledger_first import LedgerFirst
from llama_client.bulk.limits import MOST, AdaptiveLimits
from llama_client.bulk.outages import Outages
from llama_client.bulk.pending import Done, PendingRow, usd_of
from llama_client.bulk.tasks import TaskRun
from llama_client.bulk.work import BATCH
from llama_client.ray.messages import Kind, Message, Reply, packed, packed_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from llama_client.bulk.dispatcher import MoneyEndedError
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.client import AsyncLlamaClient
    from llama_client.errors import BudgetExceededError
    from llama_client.ray.handover import Handover
    from llama_client.structured import AnswerForm

_BEAT_S = 0.5
# Rows that a worker has before their turn: others may be without.
_READ_AHEAD = 2 * BATCH

_log = logging.getLogger("llama_client.ray")


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What a worker needs to know of its job.

    Attributes:
        mailbox: The actor that takes its messages.
        handover: What its client is opened with.
        form: What answers are parsed to; None: they stay text.
        most: The most calls in flight, of all workers together; None: as many as targets take.
        shards: How many workers there are.
        is_lasting: Whether another run of the job finds what was recorded.
    """

    mailbox: Any
    handover: Handover
    form: AnswerForm | None
    most: int | None
    shards: int
    is_lasting: bool

    def most_of(self, shard: int) -> int:
        """The most calls in flight of one worker."""
        if self.most is None:
            return MOST
        return self.most // self.shards + (shard < self.most % self.shards)


class Shard:
    """Made by Ray Data, once for each actor; called with the number of a shard."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        asyncio.run(_work(self._job, int(batch["id"][0])))
        return batch


class _SessionLostError(Exception):
    """The driver has given this session up."""


class _RefusedError(Exception):
    """The job has no money for calls that were about to begin."""


class _Link:
    """One session's way to the driver. Its calls block, in any thread."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._session = uuid.uuid4().hex
        self._withdrawn: list[tuple[int, Decimal | None]] = []
        self._lock = threading.Lock()

    def withdrew(self, pending: PendingRow) -> None:
        """Its call has failed, and another one will follow."""
        self._withdrawn.append((pending.row.position, usd_of(pending.attempts)))

    def ask(self, kind: Kind, **fields: Any) -> Reply:
        import ray

        with self._lock:
            withdrawn, self._withdrawn = self._withdrawn, []
        message = Message(self._session, kind, withdrawn=withdrawn, **fields)
        reply: Reply = ray.get(self._mailbox.ask.remote(message))
        if reply.is_unknown:
            raise _SessionLostError
        return reply


async def _work(job: ShardJob, shard: int) -> None:
    """Nothing is raised from here: Ray would print it, and what is in it."""
    while not await _work_once(job, shard):
        pass


async def _work_once(job: ShardJob, shard: int) -> bool:
    """One session; False: the driver has given it up, and another one is to begin."""
    link = _Link(job.mailbox)
    try:
        await asyncio.to_thread(link.ask, "open", shard=shard)
        async with job.handover.open() as client:
            await _serve(job, client, link, job.most_of(shard))
    except BaseException as group:  # noqa: BLE001 - told to the driver
        error = _first(group)
        if isinstance(error, _SessionLostError):
            return False
        if not isinstance(error, asyncio.CancelledError | _RefusedError):
            _log.warning("a worker of a job stops: %s", type(error).__name__)
            with contextlib.suppress(Exception):
                await asyncio.to_thread(link.ask, "failed", error=packed_error(error))
    with contextlib.suppress(Exception):
        await asyncio.to_thread(link.ask, "closed")
    return True


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(job: ShardJob, client: AsyncLlamaClient, link: _Link, most: int) -> None:
    context = client._context
    asker, limits, outages = Asker(context, job.form), AdaptiveLimits(most), Outages()
    ledger = context.accounting.ledger
    first = LedgerFirst(None if ledger is None else ledger.flush)
    serving = asyncio.current_task()
    running: list[TaskRun] = []

    async def beat() -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            reply = await asyncio.to_thread(link.ask, "beat", waiting=outages.waiting)
            if reply.is_over and serving is not None:
                serving.cancel()
            for run in running if reply.is_stopped else ():
                run.stop()

    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat())
        while not (reply := await asyncio.to_thread(link.ask, "read", most=BATCH)).is_over:
            if not reply.rows:
                continue
            dispatcher = Dispatcher(limits, most, read_ahead=_READ_AHEAD, is_lasting=job.is_lasting, outages=outages)
            work = _ShardWork(link, reply.rows, dispatcher, asker.target_of, first)
            run = TaskRun(work, asker.answer, context.clock, keeps_results=False)
            running[:] = [run]
            async with aclosing(run.results(iter(()))) as results:
                async for _ in results:
                    pass
        beating.cancel()


class _ShardWork:
    """`Work`, of rows that are lent, recorded by the driver."""

    def __init__(
        self,
        link: _Link,
        rows: Sequence[Row],
        dispatcher: Dispatcher,
        target_of: Callable[[Row], str],
        ledger: LedgerFirst,
    ) -> None:
        self.dispatcher = dispatcher
        self._rows: dict[int, PendingRow] = {}
        self.journal = _ShardJournal(link, self._rows)
        self._link = link
        self._first: Sequence[Row] = rows
        self._target_of = target_of
        self._ledger = ledger

    def read(self, most: int, *, only_batches: bool = False) -> tuple[list[PendingRow], list[Done], bool]:
        rows, self._first = self._first, ()
        has_more = True
        if not rows:
            reply = self._link.ask("read", most=most)
            rows, has_more = reply.rows, reply.has_more and not reply.is_stopped and not reply.is_over
        found = [PendingRow(row, self._target_of(row)) for row in rows]
        self._rows.update((each.row.position, each) for each in found)
        return found, [], not has_more

    def record(self, done: Sequence[Done]) -> Sequence[BulkResult]:
        self._ledger.wait()
        self._link.ask("record", outcomes=[packed(each) for each in done])
        for pending, _ in done:
            self._rows.pop(pending.row.position, None)
        return ()

    def money_ended(self, ended: MoneyEndedError) -> BudgetExceededError:
        """It has no money of its own: the driver lends rows that fit."""
        raise ended

    def tell(self, *, is_last: bool = False) -> None:
        """The driver does."""


class _ShardJournal:
    is_lasting = True

    def __init__(self, link: _Link, rows: Mapping[int, PendingRow]) -> None:
        self._link = link
        self._rows = rows

    def began(self, rows: Sequence[Row]) -> None:
        if self._link.ask("began", positions=[row.position for row in rows]).is_refused:
            raise _RefusedError

    def withdrew(self, row: Row) -> None:
        self._link.withdrew(self._rows[row.position])
