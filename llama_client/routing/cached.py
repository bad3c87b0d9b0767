"""The cache within one call: looks for its answer before a target is asked, and keeps what comes of asking. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llama_client.cache.answers import identity_of
from llama_client.cache.key import is_whole, key_of, place_of
from llama_client.cache.memory import Flight, Landing, Looking
from llama_client.cache.stored import Stored, bytes_of, chunk_of, is_kept
from llama_client.errors import GenerationFailedError
from llama_client.routing.attempt import Hit, RunningAttempt
from llama_client.routing.billing import COST_DOUBT
from llama_client.routing.plan import Look, Wait
from llama_client.types.completion import ChatCompletionChunk

if TYPE_CHECKING:
    from llama_client.cache.answers import AnswerCache
    from llama_client.clock import Clock
    from llama_client.routing.candidate import Candidate
    from llama_client.types.completion import Attempt
    from llama_client.types.request import ChatRequest

# What a call may wait for others of its time; it needs the rest to ask for itself.
_WAITING_SHARE = 0.5
# Of a call without a deadline.
_MOST_WAITING_S = 60.0


class _Place(NamedTuple):
    identity: str
    key: bytes
    request: ChatRequest


class Record(Protocol):
    """Of a `CallRecord`, what the cache needs."""

    request: ChatRequest
    clock: Clock
    request_id: str
    attempts: list[Attempt]

    @property
    def left_at(self) -> float | None: ...

    def start_hit(self, step: Look, stored: Stored) -> RunningAttempt: ...

    def forget(self, attempt: RunningAttempt) -> None: ...

    def start_span(self, attempt: RunningAttempt) -> None: ...


@dataclass(slots=True, eq=False)
class CachedCall:
    """What one call has to do with the cache."""

    _cache: AnswerCache
    _record: Record
    _namespace: str
    # The values of the tags that divide the cache.
    _values: tuple[str | None, ...]
    # Does not look, and replaces what is there.
    _refreshes: bool
    _deadline_at: float | None
    _places: dict[Candidate, _Place] = field(default_factory=dict)
    _looking: dict[bytes, Looking] = field(default_factory=dict)

    def look(self, step: Look) -> Hit | Wait | None:
        """The answer; or what to wait for; or None: it is not there."""
        if self._refreshes:
            return None
        candidate, record = step.candidate, self._record
        place = self._places.get(candidate)
        if place is None or place.request is not candidate.request:
            place = self._placed(candidate)
        if place is None:
            return None
        now = record.clock.wall()
        stored = self._cache.get(place.key, now)
        if stored is not None:
            found = self._found(step, stored)
            if found is not None:
                if self._looking:
                    self._land(Landing.KEPT)
                return found
            self._cache.memory.discard(place.key)
        looking = self._looking.get(place.key)
        if looking is None:
            if not step.may_wait:
                return None
            # Known here before it counts.
            looking = self._looking[place.key] = Looking(Flight(place.key, self._held_for_s), self._until())
        pending = self._cache.turn(looking, record.clock.monotonic())
        if pending is None:
            # Between the two looks another call may have landed.
            stored = self._cache.get(place.key, now)
            if stored is not None and (found := self._found(step, stored)) is not None:
                self._land(Landing.KEPT)
                return found
        return None if pending is None else Wait(pending.seconds, pending.event)

    def _placed(self, candidate: Candidate) -> _Place | None:
        request = candidate.request
        identity = identity_of(candidate.target.provider, candidate.target.model)
        if identity is None or not is_whole(request):
            return None
        place = _Place(identity, key_of(request, place_of(identity, self._namespace, self._values)), request)
        self._places[candidate] = place
        return place

    def _until(self) -> float:
        now = self._record.clock.monotonic()
        left_s = math.inf if self._deadline_at is None else self._deadline_at - now
        return now + min(left_s * _WAITING_SHARE, _MOST_WAITING_S)

    def _held_for_s(self) -> float:
        last = self._record.left_at
        return 0.0 if last is None else self._record.clock.monotonic() - last

    def _found(self, step: Look, stored: Stored) -> Hit | None:
        """An attempt that has its answer from the cache; None: it does not do for this call."""
        record, target = self._record, step.candidate.target
        chunk = stored.as_chunk(record.request_id, target.name, target.provider_name)
        attempt = record.start_hit(step, stored)
        attempt.facts.sources.extend(stored.sources)
        for warning in stored.warnings:
            attempt.facts.warn(warning, is_of_request=True)
        attempt.facts.body = stored.body
        attempt.facts.bodies.extend(stored.bodies)
        arrived, rest = list[ChatCompletionChunk](), list[ChatCompletionChunk]()
        if record.request.stream:
            chunk, *rest = pieces_of(chunk)
            arrived = [chunk]
        attempt.add(chunk)
        if not record.request.stream:
            try:
                attempt.require_complete()
            except GenerationFailedError:
                # Of another class with the same schema and name, which checks more.
                record.forget(attempt)
                return None
        record.start_span(attempt)
        return Hit(attempt, arrived, rest)

    def keep(self, attempt: RunningAttempt) -> None:
        """Stores the answer of an attempt that has won, if it may be, and lets those who wait have it."""
        stored = self._kept(attempt)
        self._land(Landing.NOT_KEPT if stored is None else Landing.KEPT)

    def _kept(self, attempt: RunningAttempt) -> Stored | None:
        candidate, call, facts, answer = attempt.candidate, attempt.call, attempt.facts, attempt.answer
        if attempt.outcome != "ok" or answer.first is None:
            return None
        if candidate.continued is not None or call.misfit is not None:
            # Made by two targets, or of more than the request.
            return None
        place = self._places.get(candidate)
        if place is None or place.request is not call.request:
            # What the target refused was left out since.
            place = self._placed(candidate) if candidate.request is call.request else None
        if place is None or place.identity != identity_of(candidate.target.provider, call.model):
            return None
        others = (*candidate.warnings, *facts.request_warnings)
        has_doubts = any(each not in others and not each.startswith(COST_DOUBT) for each in facts.warnings)
        choices = answer.choices()
        if has_doubts or not is_kept(call.request, choices):
            return None
        stored = Stored(
            chunk_of(answer.first, choices, answer.usage, answer.service_tier),
            None if attempt.receipt is None or attempt.receipt.cost is None else attempt.receipt.cost.usd,
            self._record.clock.wall(),
            tuple(facts.sources),
            None if facts.body is None else bytes_of(facts.body),
            () if facts.body is not None else tuple(map(bytes_of, facts.bodies)),
            tuple(facts.request_warnings),
        )
        return stored if self._cache.put(place.key, stored) else None

    def end(self) -> None:
        """Lets those who wait go on. Again does nothing."""
        last = self._record.attempts[-1].outcome if self._record.attempts else None
        self._land(Landing.FAILED if last in ("error", "interrupted", "skipped") else Landing.LEFT)

    def _land(self, how: Landing) -> None:
        for looking in self._looking.values():
            self._cache.memory.land(looking.flight, how)


def values_of(tags: Mapping[str, str], names: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(tags.get(name) for name in names)


def pieces_of(chunk: ChatCompletionChunk) -> list[ChatCompletionChunk]:
    """A whole answer as a stream gives it: its content, its end, its usage."""
    end = chunk.model_copy(
        update={
            "choices": [
                choice.model_copy(update={"delta": type(choice.delta)(), "logprobs": None}) for choice in chunk.choices
            ],
            "usage": None,
        }
    )
    usage = chunk.model_copy(update={"choices": []})
    chunk.usage = None
    for choice in chunk.choices:
        choice.finish_reason = None
    return [chunk, end] if usage.usage is None else [chunk, end, usage]
