"""Whether a target refuses by the number in flight, and which number that is. No I/O.

A refusal does not say what it counts. Where it is the number in flight, hardly any request was admitted with as many
others in flight as those that were refused had; where it is how often requests come, or a fault, many were.
"""

from __future__ import annotations

from collections import Counter, deque

from llama_client.bulk.limits.flights import Flight

_KEPT = 512
_FEWEST = 64
# Of those with as many others in flight, so many are refused at least.
_MOST_ARE_REFUSED = 0.8
# Fewer refusals may be chance.
_FEWEST_REFUSALS = 3
# Refusals with fewer in flight that may have had another reason.
_OTHERS = 0.05


class Places:
    """Remembers with how many others in flight requests were admitted, and refused."""

    def __init__(self) -> None:
        self._flights: deque[Flight] = deque(maxlen=_KEPT)

    def started(self, flight: Flight) -> None:
        """One has started."""
        self._flights.append(flight)

    def refused(self, flight: Flight) -> None:
        """One was refused: it took no place from those that started after it."""
        for each in reversed(self._flights):
            if each.number <= flight.number:
                break
            each.ahead -= 1

    def forget(self) -> None:
        """What was so far tells nothing of what comes."""
        self._flights.clear()

    def refused_share(self) -> float:
        """Of the latest that have ended, how many were refused."""
        ended = [each for each in list(self._flights)[-2 * _FEWEST :] if each.is_refused is not None]
        return sum(each.is_refused is True for each in ended) / max(len(ended), 1)

    def found(self, latest: int = _KEPT, *, fewest: int = _FEWEST_REFUSALS, fewest_eras: int = 1) -> int | None:
        """How many the target admits at once; None: it refuses by something else, or too little is known.

        Args:
            latest: From so many requests, at least 64.
            fewest: So many refusals are needed to tell.
            fewest_eras: Between so many waits there must have been refusals.
        """
        flights = list(self._flights)[-max(latest, _FEWEST) :]
        eras = Counter[int]()
        refused: list[Flight] = []
        for each in flights:
            # What was in flight together tells the same.
            if each.is_refused and eras[each.era] < _FEWEST_REFUSALS:
                eras[each.era] += 1
                refused.append(each)
        if len(refused) < fewest or len(eras) < fewest_eras:
            return None
        # One that is in flight longer than refusals are, is admitted: they come back in the order of their starts.
        last = refused[-1].number
        ahead = sorted(each.ahead for each in refused)
        places = ahead[int(len(ahead) * _OTHERS)]
        admitted = sum(not each.is_refused and each.ahead >= places and each.number <= last for each in flights)
        above = sum(each >= places for each in ahead)
        return places if places > 0 and above >= _MOST_ARE_REFUSED * (above + admitted) else None
