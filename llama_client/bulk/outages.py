"""Targets without a connection: one row at a time looks whether it is back, and the job ends after a while. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from llama_client.bulk.idle.places import name_of
from llama_client.bulk.pending import PendingRow

# Fewer rows, or tries of one, may be chance.
_FEWEST_ROWS = 8
_FEWEST_TRIES = 3
# A server that is being started is there within seconds; one that was there, and is started anew, within minutes.
_NEVER_REACHED_S = 5.0
_LONGEST_S = 900.0
_FIRST_PROBE_S, _LONGEST_PROBE_S = 0.5, 8.0


class Waiting(NamedTuple):
    """What a job waits for.

    Attributes:
        target: The target.
        seconds: How long there has been no connection to it.
    """

    target: str
    seconds: float


@dataclass(slots=True, eq=False)
class _Line:
    """What is known of the connection to a target.

    Attributes:
        was_reached: Something has come from it in this run.
        is_down: Its rows wait, but for one that looks.
        waited_s: How long there has been no connection, but for times in which none was to be tried.
        rows: The rows of these calls, as far as they count.
        probe: The row that looks; None: none does.
    """

    was_reached: bool = False
    is_down: bool = False
    waited_s: float = 0.0
    last_at: float = 0.0
    rows: set[int] = field(default_factory=set)
    probe: PendingRow | None = None
    probes: int = 0
    next_at: float = 0.0

    def is_over(self, *, is_patient: bool) -> bool:
        longest_s = _LONGEST_S if self.was_reached or is_patient else _NEVER_REACHED_S
        return self.is_down and self.waited_s >= longest_s


class Outages:
    """By target. Called under the dispatcher's lock.

    Attributes:
        elsewhere: What other processes wait for, where these make the calls.
    """

    def __init__(self) -> None:
        self.elsewhere: Waiting | None = None
        self._lines: dict[str, _Line] = {}

    @property
    def waiting(self) -> Waiting | None:
        """The outage that lasts longest; None: there is none."""
        down = [Waiting(name_of(target), line.waited_s) for target, line in self._lines.items() if line.is_down]
        return max(down, key=lambda each: each.seconds, default=self.elsewhere)

    def wait_s(self, target: str, now: float) -> float | None:
        """0: a call may start; seconds: not before then; None: not before the one that looks has ended."""
        line = self._lines.get(target)
        if line is None or not line.is_down:
            return 0.0
        return None if line.probe is not None else max(line.next_at - now, 0.0)

    def started(self, pending: PendingRow) -> None:
        line = self._lines.get(pending.target)
        if line is not None and line.is_down:
            line.probe = pending

    def abandoned(self, pending: PendingRow) -> None:
        line = self._lines.get(pending.target)
        if line is not None and line.probe is pending:
            line.probe = None

    def reached(self, pending: PendingRow) -> None:
        """Something came from the target, be it an error."""
        line = self._lines.setdefault(pending.target, _Line())
        line.was_reached, line.is_down, line.probe, line.probes = True, False, None, 0
        line.rows.clear()

    def failed(self, pending: PendingRow, now: float) -> bool:
        """A call had no connection. Whether its row waits until the target is back: such a try does not count."""
        line = self._lines.setdefault(pending.target, _Line())
        begun_at = now if pending.flight is None else pending.flight.started_at
        if not line.rows:
            line.waited_s = 0.0
        else:
            # Outside of idle hours nothing is tried, for hours.
            line.waited_s += min(now - line.last_at, max(now - begun_at, 0.0) + _LONGEST_PROBE_S)
        line.last_at = now
        if len(line.rows) < _FEWEST_ROWS:
            line.rows.add(pending.row.position)
        is_probe = line.probe is pending
        if is_probe:
            line.probe = None
        if is_probe or not line.is_down:
            line.next_at = now + min(_FIRST_PROBE_S * 2.0 ** min(line.probes, 16), _LONGEST_PROBE_S)
        line.probes += is_probe
        line.is_down = line.is_down or len(line.rows) >= _FEWEST_ROWS or pending.tries + 1 >= _FEWEST_TRIES
        return line.is_down

    def is_over(self, pending: PendingRow) -> bool:
        """Whether a row waits no longer for its target; one that should not be asked elsewhere is patient."""
        return self._lines[pending.target].is_over(is_patient=pending.at_once is not None)

    def are_rows_alone(self, target: str) -> bool:
        """Whether a target is one that a few rows name alone, and was never reached, as others were."""
        line = self._lines[target]
        others = any(each.was_reached for each in self._lines.values())
        return others and not line.was_reached and len(line.rows) < _FEWEST_ROWS

    def sentence(self, target: str, *, is_lasting: bool) -> str:
        """Why the job ends, and how to go on."""
        line, target = self._lines[target], name_of(target)
        goes_on = "the same call goes on" if is_lasting else "nothing is kept, as it has no folder"
        if not line.was_reached:
            return f"the job ended, as {target} could not be reached for {line.waited_s:.0f} s; {goes_on}"
        if is_lasting:
            goes_on = f"what was answered is kept, and {goes_on}"
        minutes = line.waited_s / 60
        return f"the job ended, as there was no connection to {target} for {minutes:.0f} min; {goes_on}"
