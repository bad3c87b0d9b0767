"""A job on Ray: its folder, journal and input stay with the driver, here; its calls are made by workers."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_client.bulk.asking import first_model_of
from llama_client.bulk.dispatcher import MoneyEndedError
from llama_client.bulk.pending import usd_of
from llama_client.bulk.work import BUFFERED, GRACE_S, parse_again
from llama_client.errors import JobError, LlamaClientError
from llama_client.ray.cluster import Cluster
from llama_client.ray.ending import CLOSING_S, Ending
from llama_client.ray.handover import Handover, require_no_secret_headers, without_secret_headers
from llama_client.ray.leases import Leases
from llama_client.ray.messages import Message, Reply, lent_rows, unpacked, unpacked_error
from llama_client.ray.reading import Reader
from llama_client.ray.worker import ShardJob
from llama_client.waiting import POLL_S, get_within

if TYPE_CHECKING:
    from llama_client.bulk.pending import Done, PendingRow
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.setup import JobSetup, Run

# A worker that is told to wait for rows asks again after this.
_HELD_S = 1.0
_EXCHANGE_S = 0.2
# While rows are read, which are wanted.
_SOON_S = 0.005


class ClusterRun:
    """One run of a job on Ray. The consumer's thread takes results; another one talks to the workers.

    Args:
        setup: The job as it was called for.
        run: The run that is open.
        keeps_results: Whether results are handed to the consumer; else they are only recorded.
    """

    def __init__(self, setup: JobSetup, run: Run, *, keeps_results: bool) -> None:
        self._setup = setup
        self._work = run.work
        self._keeps = keeps_results
        self._out: queue.SimpleQueue[BulkResult | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._conduct, name="llama-client-bulk-ray", daemon=True)
        self._reader = Reader(run.work)
        self._leases = Leases(1, run.work.tally.total, run.work.dispatcher.purse)
        # Reads that wait for rows, with their session and time; records that wait for the consumer; calls that wait
        # for money.
        self._reads: dict[int, tuple[str, int, float]] = {}
        self._records: dict[int, Message] = {}
        self._begins: dict[int, Message] = {}
        self._given = self._taken = 0
        self._ending = Ending(self._leases)

    def results(self, earlier: Iterator[BulkResult]) -> Generator[BulkResult]:
        """Starts the run; yields earlier results, then new ones as they come. Ends it however the consumer leaves."""
        self.start()
        try:
            yield from earlier
            while (some := self.take()) is not None:
                yield from some
        except KeyboardInterrupt:
            # A second one goes through.
            if self._work.journal.is_lasting:
                self.finish()
            raise
        finally:
            self.close()
        self.raise_error()

    def start(self) -> None:
        self._thread.start()

    def take(self) -> list[BulkResult] | None:
        """The results that have come, after a moment perhaps none; None: there will be no more."""
        try:
            result = get_within(self._out, POLL_S)
        except queue.Empty:
            return []
        if result is None:
            return None
        self._taken += 1
        return [result]

    def finish(self) -> None:
        """Begins nothing more, and waits for what is in flight to be recorded."""
        self._ending.stop()
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until and self.take() is not None:
            pass

    def close(self) -> None:
        """Ends what is in flight, and waits for the workers to end."""
        self._ending.cut()
        self._thread.join(4 * CLOSING_S)

    def raise_error(self) -> None:
        if self._ending.error is not None:
            raise self._ending.error

    def _conduct(self) -> None:
        """The life of the run."""
        cluster: Cluster | None = None
        mailbox: Any = None
        try:
            context, options = self._setup.context, self._setup.options
            require_no_secret_headers(options.params or {}, "params")
            handover = Handover.of(context)
            if self._has_rows():
                cluster = Cluster(options.ray_address, context.config)
                model, most = first_model_of(options.model, context), options.max_concurrency
                shards = self._leases.shards = cluster.workers(model, most, options.ray_workers)
                mailbox = cluster.mailbox()
                job = ShardJob(mailbox, handover, self._work.form, most, shards, self._work.journal.is_lasting)
                cluster.pipeline(job, shards, model, self._workers_ended)
                self._exchange(cluster, mailbox)
            self._work.tell(is_last=True)
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._ending.fail(error)
        finally:
            self._reader.end()
            with contextlib.suppress(Exception):
                if cluster is not None and mailbox is not None:
                    cluster.end(mailbox)
                if cluster is not None:
                    cluster.close()
            self._out.put(None)

    def _has_rows(self) -> bool:
        """Waits for the first row that is to be asked; False: there is none, and Ray is not started."""
        while not self._ending.is_closing and not self._leases.has_ready:
            if not self._is_full:
                self._reader.want()
            time.sleep(_SOON_S)
            self._take_rows()
            self._work.tell()
        return self._leases.has_ready

    def _workers_ended(self, error: BaseException | None) -> None:
        if not self._ending.is_closing:
            why = "ended" if error is None else type(error).__name__
            told = JobError(f"Ray no longer runs the job's workers ({why}); the same call goes on")
            told.__cause__ = error
            self._ending.fail(told)
        self._ending.has_ended = True

    def _exchange(self, cluster: Cluster, mailbox: Any) -> None:
        replies: dict[int, Reply] = {}
        while True:
            wait_s = _SOON_S if self._reader.is_soon else _EXCHANGE_S
            messages: Mapping[int, Message] = cluster.get(mailbox.exchange.remote(replies, wait_s))
            replies = {}
            for number, message in messages.items():
                reply = self._answer(number, message)
                if reply is not None:
                    replies[number] = reply
            self._work.lost(self._leases.silent(time.monotonic()))
            self._take_rows()
            replies |= self._due()
            self._work.dispatcher.in_flight = self._leases.in_flight
            self._work.dispatcher.outages.elsewhere = self._leases.waiting
            self._work.tell()
            if self._ending.is_closing and self._ending.is_closed():
                cluster.get(mailbox.exchange.remote(replies, 0.0))
                return

    def _answer(self, number: int, message: Message) -> Reply | None:
        """The answer; None: later."""
        now, session = time.monotonic(), message.session
        if message.kind == "open":
            self._work.lost(self._leases.opened(session, message.shard, now))
            return self._reply()
        if message.kind == "failed":
            self._ending.fail(unpacked_error(message.error))
            return self._reply()
        if message.kind == "closed":
            for row in self._leases.closed(session):
                self._work.journal.withdrew(row)
            return self._reply()
        if not self._leases.seen(session, now):
            return Reply(is_unknown=not self._ending.is_closing, is_over=self._ending.is_closing)
        for row in self._leases.withdrew(session, message.withdrawn):
            self._work.journal.withdrew(row)
        match message.kind:
            case "read":
                self._reads[number] = (session, message.most, now)
                return None
            case "record":
                self._records[number] = message
                return None
            case "began":
                self._begins[number] = message
                return None
            case "beat":
                self._leases.waits(session, message.waiting)
        return self._reply()

    def _due(self) -> dict[int, Reply]:
        """Answers to what has waited: recorded results, rows."""
        due: dict[int, Reply] = {}
        for number, message in list(self._records.items()):
            if self._is_full:
                break
            del self._records[number]
            self._record(message)
            due[number] = self._reply()
        for number, message in list(self._begins.items()):
            begun = self._begun(message)
            if begun is not None:
                del self._begins[number]
                due[number] = begun
        for number, (session, most, since) in list(self._reads.items()):
            reply = self._rows_for(session, most, is_late=time.monotonic() - since > _HELD_S)
            if reply is not None:
                del self._reads[number]
                due[number] = reply
        return due

    def _begun(self, message: Message) -> Reply | None:
        """Notes that calls begin; None: later, as others may leave money for those that are made again."""
        leases, session = self._leases, message.session
        missing = leases.unpaid(session, message.positions)
        if missing is None:
            self._work.journal.began(leases.began(session, message.positions))
            return self._reply()
        if leases.is_held_elsewhere and not leases.is_read and not self._is_full:
            self._reader.want(only_batches=True)
        elif leases.is_stuck(each.session for each in self._begins.values()):
            self._money_ended(missing)
        return replace(self._reply(), is_refused=True) if self._ending.is_stopped else None

    def _rows_for(self, session: str, most: int, *, is_late: bool) -> Reply | None:
        """Rows, or what to know without; None: they may come soon."""
        leases = self._leases
        if self._ending.is_stopped or self._ending.is_closing:
            return self._reply() if self._ending.is_closing or is_late else None
        lent = leases.lend(session, most)
        if not self._is_full and (leases.is_short or (not lent and leases.needs_money)):
            self._reader.want(only_batches=not leases.is_short)
        if not lent and (missing := leases.unaffordable()) is not None:
            self._money_ended(missing)
            return None
        # Where it has others, it keeps back what their errors mean until it knows that none follows.
        is_waiting = not lent and not is_late and not (leases.is_read and leases.has_rows(session))
        return None if is_waiting else Reply(lent_rows(lent), has_more=bool(lent) or not leases.is_read)

    @property
    def _is_full(self) -> bool:
        """Whether the consumer takes none; workers begin nothing more before what waits is recorded."""
        return self._keeps and self._given - self._taken >= BUFFERED and not self._ending.is_cut

    def _record(self, message: Message) -> None:
        done: list[Done] = []
        for sent in message.outcomes:
            pending = self._leases.recording(message.session, sent.position)
            if pending is not None:
                outcome, attempts = unpacked(sent, pending.row)
                if self._work.form is not None and not isinstance(outcome, LlamaClientError):
                    parse_again(outcome, self._work.form)
                pending.attempts += attempts
                self._leases.settle(message.session, pending, usd_of([*pending.attempts, *outcome.attempts]))
                done.append((pending, outcome))
        self._record_done(done)

    def _record_done(self, done: list[Done]) -> None:
        if not done:
            return
        results = self._work.record(done)
        if self._keeps:
            self._given += len(results)
            for result in results:
                self._out.put(result)

    def _reply(self) -> Reply:
        is_over = self._ending.is_closing
        return Reply(has_more=not is_over, is_stopped=self._ending.is_stopped or is_over, is_over=is_over)

    def _money_ended(self, pending: PendingRow) -> None:
        self._ending.fail(self._work.money_ended(MoneyEndedError(pending)))

    def _take_rows(self) -> None:
        try:
            found = self._reader.take()
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
            self._ending.fail(error)
            return
        if found is not None:
            rows, came, is_end = found
            sent, refused = without_secret_headers(rows)
            self._record_done(came + refused)
            self._leases.add(sent, self._work.tally.rows, is_end=is_end)
