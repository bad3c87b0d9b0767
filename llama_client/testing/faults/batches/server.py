"""A server on loopback that plays the batch API of one service, beside its chats, and counts what is left of it."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from llama_client.clock import Clock
from llama_client.testing.clock import FakeClock
from llama_client.testing.faults.arguments import checked_share
from llama_client.testing.faults.backend import ThreadBackend
from llama_client.testing.faults.batches.desk import Desk
from llama_client.testing.faults.batches.plays import BATCH_KINDS, BatchKind, BatchPlay, Mishap, Step
from llama_client.testing.faults.server import FaultServer

_ENDS = ("completed", "failed", "expired", "cancelled")
_HARMLESS: tuple[Mishap, ...] = ("500", "429", "reset", "lost", "cut")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a server has seen of batches.

    Attributes:
        asked: How often each step was asked for.
        uploaded: How many files were uploaded.
        created: How many batches were created.
        cancelled: How many were cancelled while they ran.
        deleted: How many files were deleted.
        left_files: The names of the files that are still there, those of answers included.
        left_batches: The ids of the batches that still run.
        orphans: The files and batches that nothing will come of: uploaded and in no batch, or a second batch of a file.
        billed: How often each request was charged for, by the end of its `custom_id` behind the last dot.
        prompt_tokens: All tokens of prompts that were charged for.
        completion_tokens: The same of answers.
    """

    asked: dict[str, int]
    uploaded: int
    created: int
    cancelled: int
    deleted: int
    left_files: list[str]
    left_batches: list[str]
    orphans: list[str]
    billed: dict[str, int]
    prompt_tokens: int
    completion_tokens: int


class BatchServer(FaultServer):
    """A `FaultServer` that also plays a batch API. Its batches complete at once unless its play says otherwise.

    Args:
        kind: `openai` (and whatever is compatible with it), `groq` or `together`.
        clock: By which batches take their time: a clock to turn, or the client's; None: real time.
        port: Where to listen; 0: at a free port.

    Raises:
        OSError: The port is taken.
        ValueError: There is no such kind.

    Example:
        >>> from llama_client import LlamaClient
        >>> with BatchServer("groq") as server:
        ...     server.batches(BatchPlay(ending="expired", answered=0.5))
        ...     server.fails("create", "lost")
        ...     base_url = server.url_for("groq")
        ...     with LlamaClient.for_provider("groq", api_key="none", base_url=base_url) as client:
        ...         print(client.sdk("groq").batches.list().data, server.batch_report().created)
        [] 0
    """

    def __init__(self, kind: BatchKind, *, clock: Clock | FakeClock | None = None, port: int = 0) -> None:
        if kind not in BATCH_KINDS:
            raise ValueError(f"kind: must be one of {', '.join(BATCH_KINDS)}, got {kind!r}")
        plain = clock.clock if isinstance(clock, FakeClock) else clock
        self.kind: BatchKind = kind
        self._desk = Desk(kind, time.time if plain is None else plain.wall, lambda: self.url)
        self._backend = ThreadBackend(port, before=self._desk.answer)
        self.url = self._backend.url

    def batches(self, *plays: BatchPlay) -> None:
        """Says what becomes of the next batches, in the order in which they are created.

        Args:
            *plays: One for each.
        """
        with self._desk.lock:
            self._desk.plays.extend(plays)

    def every_batch(self, play: BatchPlay) -> None:
        """Says what becomes of all batches from now on, behind those of `batches`.

        Args:
            play: What becomes of them.
        """
        with self._desk.lock:
            self._desk.play = play

    def fails(self, step: Step, *mishaps: Mishap) -> None:
        """Spoils the next requests of a kind.

        Args:
            step: Which.
            *mishaps: What they get, in their order.

        Raises:
            ValueError: There is no such step or mishap.
        """
        _require(step, get_args(Step), "step")
        for each in mishaps:
            _require(each, get_args(Mishap), "mishap")
        with self._desk.lock:
            self._desk.mishaps.setdefault(step, deque()).extend(mishaps)

    def fails_at_rate(self, rate: float, *, seed: int = 0, mishaps: Sequence[Mishap] = _HARMLESS) -> None:
        """Spoils requests about batches by chance.

        Args:
            rate: Which share, from 0 to 1.
            seed: Of the chance.
            mishaps: What they get.

        Raises:
            ValueError: The rate is none, or there is no such mishap.
        """
        for each in mishaps:
            _require(each, get_args(Mishap), "mishaps")
        chance = random.Random(seed)  # noqa: S311 - is to be repeatable
        with self._desk.lock:
            self._desk.chance = (checked_share(rate, "rate"), chance, tuple(mishaps)) if rate else None

    def batch_report(self) -> BatchReport:
        """What it has seen, and what is left, by now."""
        desk = self._desk
        with desk.lock:
            desk.settle()
            files, batches = list(desk.files.values()), list(desk.batches.values())
            running = [each.id for each in batches if each.status not in _ENDS]
            uploads = [each for each in files if each.purpose != "batch_output"]
            of_file = Counter(each.file_id for each in batches if each.status != "cancelled")
            unused = [each.name for each in uploads if not (each.is_used or each.is_deleted)]
            billed = [line for each in batches for line in each.billed]
            return BatchReport(
                asked=dict(desk.asked),
                uploaded=len(uploads),
                created=len(batches),
                cancelled=desk.cancelled,
                deleted=sum(each.is_deleted for each in files),
                left_files=[each.name for each in files if not each.is_deleted],
                left_batches=running,
                orphans=unused + [identity for identity, count in of_file.items() if count > 1],
                billed=dict(Counter(line.custom_id.rpartition(".")[2] for line in billed)),
                prompt_tokens=sum(line.prompt_tokens for line in billed),
                completion_tokens=sum(line.completion_tokens for line in billed),
            )


def _require(given: str, known: Sequence[str], what: str) -> None:
    if given not in known:
        raise ValueError(f"{what}: must be one of {', '.join(known)}, got {given!r}")
