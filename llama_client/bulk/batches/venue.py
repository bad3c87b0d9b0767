"""The door to batch APIs: rows of a job for one target, handed in, driven, resumed and cancelled."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from llama_client.bulk.batches.api import BatchApi
from llama_client.bulk.batches.collecting import Reading, Receiver
from llama_client.bulk.batches.driver import BatchRun
from llama_client.bulk.batches.kept_rows import KeptRows
from llama_client.bulk.batches.limits import BatchLimits, window_name
from llama_client.bulk.batches.official import batch_api
from llama_client.bulk.batches.parts import Part, PartsFile
from llama_client.bulk.batches.requests import Requests
from llama_client.bulk.batches.splitting import split
from llama_client.costs.money import added
from llama_client.costs.spending import Spending
from llama_client.errors import ConfigError, JobError, LlamaClientError

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.routing.targets import Target


def _never() -> float:
    return math.inf


class BatchVenue:
    """The batches of one job at one target. Not for an event loop, but for `BatchRun.wait_async`.

    Args:
        context: The client's.
        model: The target, as `provider/model`, or whatever names exactly one.
        folder: The job's folder, which exists; one venue uses it at a time.
        tags: Labels of the rows in the ledger and for budgets, beside those of the client.

    Attributes:
        limits: What its API takes.
        job_id: The job's id, which the names of its files and batches carry.

    Raises:
        ConfigError: `model` names no target, or several.
        UnsupportedFeatureError: The target's provider has no batch API that is known here.
        JobError: The folder holds what cannot be read, or batches of another target.
    """

    def __init__(
        self, context: CallContext, model: str, folder: Path, *, tags: Mapping[str, str] | None = None
    ) -> None:
        self.target = _target_of(context, model)
        kind = context.providers.kind(self.target.provider_name)
        self._api: BatchApi = batch_api(self.target.provider, kind)
        self.limits: BatchLimits = self._api.limits
        self._requests = Requests(context, self.target)
        self._clock = context.clock
        self._spending = Spending(context.accounting)
        self._tags = {**context.tags, **(tags or {})}
        self._file = PartsFile(folder)
        self.job_id = self._file.job_id
        others = {part.target for part in self._file.parts} - {self.target.name}
        if others:
            message = f"{folder}: its batches are for {', '.join(sorted(others))}, and not for {self.target.name}"
            raise JobError(message, folder=folder)
        self._kept: dict[str, KeptRows] = {}

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was handed in, in order, and what has become of it."""
        return tuple(self._file.parts)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and nothing left at the provider."""
        return all(part.is_settled for part in self._file.parts)

    def holds(self, row: Row) -> bool:
        """Whether a batch may still answer a row, so that it must not be asked elsewhere."""
        for part in self._file.open_parts():
            if part.name not in self._kept:
                self._kept[part.name] = KeptRows(self._file.rows_of(part))
            if self._kept[part.name].holds(row.position):
                return True
        return False

    def held_positions(self) -> array[int]:
        """The positions of the rows that `holds` is true of, in their order; 8 bytes each."""
        found: array[int] = array("q")
        for part in self._file.open_parts():
            kept = KeptRows(self._file.rows_of(part))
            found.extend(kept.positions)
            kept.close()
        return array("q", sorted(found))

    def worst_open_usd(self) -> Decimal | None:
        """The most that its batches which are not over can cost; None: unknown."""
        total = Decimal(0)
        for part in self._file.open_parts():
            if part.worst_usd is None:
                return None
            total = added(total, Decimal(part.worst_usd))
        return total

    def add(
        self, rows: Iterable[Row], *, window_s: float, refused: Callable[[Row, LlamaClientError], None]
    ) -> tuple[Part, ...]:
        """Writes files of requests; nothing is sent before `run`. Memory does not grow with their number.

        Args:
            rows: The rows.
            window_s: The time that they may take; the API's own windows are that long or longer, where it has them.
            refused: Gets each row that the target or its API cannot take, with the reason.

        Returns:
            The new parts.

        Raises:
            AuthenticationError: There is no key.
            LocalOnlyError: The provider is not on this machine, and `local_only` is on.
        """
        # What is wrong with the key or the address is so of every row.
        self._requests.open()
        seconds = window_name(window_s, self.limits)[1]
        now = self._clock.wall()
        return tuple(split(rows, self._requests, self.limits, self._file, at=now, window_s=seconds, refused=refused))

    def run(self, receiver: Receiver, *, cancel_at: Callable[[], float] = _never) -> BatchRun:
        """Starts to drive all parts that are not settled, in a thread of its own: after `add`, or to resume.

        Args:
            receiver: Takes what comes of each row.
            cancel_at: When batches that have not ended are cancelled, in Unix time; it may change.
        """
        parts = [part for part in self._file.parts if not part.is_settled]
        reading = Reading(self._requests, self._spending, self._tags, receiver)
        return BatchRun(parts, self._file, self._api, reading, self._clock, cancel_at=cancel_at).start()


def _target_of(context: CallContext, model: str) -> Target:
    targets = [target for choice in context.resolver.choices(model) for target in choice.targets]
    if len(targets) != 1:
        names = ", ".join(target.name for target in targets)
        raise ConfigError(f"model: a batch is for one target, and {model!r} names {names}: name one of them")
    return targets[0]
