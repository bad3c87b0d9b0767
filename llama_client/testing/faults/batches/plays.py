"""What becomes of a batch, and what goes wrong with a request about it: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

BatchKind = Literal["groq", "together", "openai"]
BATCH_KINDS: tuple[BatchKind, ...] = get_args(BatchKind)

Ending = Literal["completed", "failed", "expired", "never"]
Step = Literal["upload", "put", "create", "retrieve", "cancel", "download", "delete", "list_files", "list_batches"]
"""What a client asks for; `put`: the second and third step of an upload at Together, which bring its content."""
Mishap = Literal["500", "429", "401", "404", "reset", "lost", "garbled", "cut"]
"""What it gets: a status (`429` with `Retry-After: 2`); `reset`: the connection ends and nothing was done; `lost`: it
was done, and the connection ends before the answer; `garbled`: it was done, and the answer is no JSON; `cut`: it was
done, and half of the answer comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlay:
    """What becomes of a batch.

    Attributes:
        ending: How it ends; `never`: it runs on.
        takes_s: After how many seconds of the server's clock.
        answered: Which share of its requests is answered, the first ones, where it does not complete.
        failing: Which share of the answered ones gets an error of its own instead: evenly spread.
        has_output: Whether its file of answers can be fetched; False: it is gone.
        is_reordered: Whether the lines come in another order.
        is_duplicated: Whether each line comes twice.
        is_truncated: Whether the last line of the answers is cut off.
        listed_after_s: After how many seconds it is in the list of batches.
        strange_ids: How many lines of requests that were never made are among them.
        problem: Why it failed.
    """

    ending: Ending = "completed"
    takes_s: float = 0.0
    answered: float = 1.0
    failing: float = 0.0
    has_output: bool = True
    is_reordered: bool = False
    is_duplicated: bool = False
    is_truncated: bool = False
    listed_after_s: float = 0.0
    strange_ids: int = 0
    problem: str = "the model is not served in batches"

    def __post_init__(self) -> None:
        if self.ending not in get_args(Ending):
            raise ValueError(f"ending: must be one of {', '.join(get_args(Ending))}, got {self.ending!r}")
        if not (0 <= self.answered <= 1 and 0 <= self.failing <= 1):
            raise ValueError("answered, failing: must be shares from 0 to 1")
        if min(self.takes_s, self.listed_after_s, self.strange_ids) < 0:
            raise ValueError("takes_s, listed_after_s, strange_ids: must be 0 or more")
