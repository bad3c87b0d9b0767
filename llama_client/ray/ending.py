"""How a run on Ray ends: by itself, stopped by an error or by Ctrl-C, or cut off."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_client.bulk.work import GRACE_S

if TYPE_CHECKING:
    from llama_client.ray.leases import Leases

CLOSING_S = 5.0
"""Workers end their calls within this; what they have not ended then ends with their processes."""


@dataclass(slots=True, eq=False)
class Ending:
    """Of one run.

    Attributes:
        leases: The rows of the workers.
        error: What the consumer's thread raises; None: nothing.
        is_stopped: Whether nothing more begins.
        has_ended: Whether the workers have ended.
    """

    leases: Leases
    error: BaseException | None = None
    is_stopped: bool = False
    has_ended: bool = False
    _is_cut: bool = False
    _stopped_at: float = field(default=0.0)
    _closing_at: float = field(default=0.0)

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def stop(self) -> None:
        """What is in flight may end."""
        if not self.is_stopped:
            self._stopped_at = time.monotonic()
            self.is_stopped = True

    def fail(self, error: BaseException) -> None:
        if not self._is_cut:
            self.error = self.error or error
        self.stop()

    def cut(self) -> None:
        """The consumer waits for nothing more."""
        self._is_cut = self.is_stopped = True

    @property
    def is_closing(self) -> bool:
        """Whether workers are to end."""
        if self._is_cut or self.leases.is_over:
            return True
        return self.is_stopped and (
            not self.leases.in_flight or time.monotonic() - self._stopped_at > GRACE_S or self.has_ended
        )

    def is_closed(self) -> bool:
        """Whether the workers have ended, or are no longer waited for. To be asked while it is closing."""
        now = time.monotonic()
        self._closing_at = self._closing_at or now
        return self.has_ended or now - self._closing_at > CLOSING_S
