"""The arguments of a job, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_client.bulk.paths import checked_path
from llama_client.bulk.planning.terms import Terms, checked_terms
from llama_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from llama_client.bulk.receipt import BulkProgress

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
    max_usd: Decimal | float | str | None = None
    deadline_s: float | None = None
    venues: Collection[str] | None = None
    idle: str | None = None
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
        elif self.idle is not None:
            message = "idle: is of engine='local', as the hours are those of this machine; leave one of the two out"
            raise InvalidRequestError(message, param="idle")
        self.terms(None)
        if self.job is not None:
            checked_path(self.job, "job")

    def terms(self, zone: tzinfo | None) -> Terms:
        """What the job may cost and take.

        Args:
            zone: That of idle hours; None: this machine's.
        """
        return checked_terms(self.max_usd, self.deadline_s, self.venues, self.idle, zone)
