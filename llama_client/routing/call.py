"""One checked call on its way to an answer, and on from a break where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llama_client.clock import Deadline
from llama_client.routing.candidates import Candidate
from llama_client.routing.drive import Opened, adrive, drive
from llama_client.routing.plan import Plan
from llama_client.routing.record import CallRecord
from llama_client.routing.trial import Trial
from llama_client.routing.waits import Backoff
from llama_client.types.chunk import AsyncChunks, SyncChunks

if TYPE_CHECKING:
    from llama_client.config.routing import Routing


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has been checked.

    Attributes:
        record: Its attempts.
        candidates: Who may answer, in order.
        deadline: When it must be over; a stream, have its first content.
        rules: What failover does.
        backoff: How long to wait before a target is asked again.
    """

    record: CallRecord
    candidates: Sequence[Candidate]
    deadline: Deadline
    rules: Routing
    backoff: Backoff

    def drive(self) -> Opened[SyncChunks]:
        """Finds an answer, blocking."""
        plan: Plan[Opened[SyncChunks]] = Plan(self.candidates, self.rules, self.deadline, self.backoff)
        return drive(plan.steps(), self.record)

    async def adrive(self) -> Opened[AsyncChunks]:
        """The same on the event loop."""
        plan: Plan[Opened[AsyncChunks]] = Plan(self.candidates, self.rules, self.deadline, self.backoff)
        return await adrive(plan.steps(), self.record)

    def after(self, broken: Trial) -> Call | None:
        """The call that goes on from where a stream broke off; None: it may not, or nobody is left who can.

        It is asked of those who have not broken off and are not out, as any call is.

        Args:
            broken: The attempt that broke off, which has been written down.
        """
        has_one_answer = self.record.request.n in (None, 1)
        if self.rules.on_interrupt != "continue" or not has_one_answer or not broken.fold.can_be_continued:
            return None
        left = [
            candidate.continuing(broken)
            for candidate in self.candidates
            if candidate is not broken.candidate
            and not candidate.is_out
            and candidate.target.provider.continues(candidate.target.model)
        ]
        if not left:
            return None
        timeout_s = self.record.request.timeout or self.rules.deadline_s
        return replace(self, candidates=left, deadline=Deadline(timeout_s, self.deadline.clock))
