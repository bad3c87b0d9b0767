"""Providers in this process, recorded and replayed: each chunk with its time, and what was learnt of the attempt."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from llama_client import errors
from llama_client.errors import LlamaClientError
from llama_client.providers.base import AttemptFacts, Provider, ProviderCall, ServedModel
from llama_client.testing.cassettes.engine_facts import learn, params_of, plain, raised, stored_error, stored_facts
from llama_client.testing.cassettes.exchanges import Asked, EngineError, EngineExchange, Produced, TimedChunk
from llama_client.testing.cassettes.playback import Playback
from llama_client.testing.cassettes.tracks import now_in_order
from llama_client.types.completion import ChatCompletionChunk
from llama_client.waiting import Event, await_event, wait_for_event

if TYPE_CHECKING:
    from llama_client.testing.cassettes.tracks import Keeping


class _Track:
    """An answer while it is recorded."""

    def __init__(self, provider: str, asked: Asked, facts: AttemptFacts, keeping: Keeping) -> None:
        self._provider = provider
        self._asked = asked
        self._facts = facts
        self._scrubber = keeping.scrubber
        self._keeping = keeping
        self._order = now_in_order()
        self._started = time.monotonic()
        self._told: dict[str, Any] = stored_facts(AttemptFacts())
        self._bodies = 0
        self._chunks: list[TimedChunk] = []
        keeping.begins(self)

    @property
    def _now_s(self) -> float:
        return round(time.monotonic() - self._started, 4)

    def chunk(self, chunk: ChatCompletionChunk) -> None:
        dumped = chunk.model_dump(mode="json", exclude_defaults=True)
        for name in ("target", "provider", "request_id"):
            dumped.pop(name, None)
        self._chunks.append(TimedChunk(at_s=self._now_s, chunk=dumped, facts=self._new_facts()))

    def end(self, error: BaseException | None) -> None:
        """The answer is over; None: as it should be."""
        if not self._keeping.ends(self):
            return
        facts = self._new_facts()
        if facts:
            self._chunks.append(TimedChunk(at_s=self._now_s, facts=facts))
        end: Any = "complete"
        if isinstance(error, LlamaClientError) and not self._facts.is_stopped:
            end = stored_error(error, self._scrubber)
        elif error is not None:
            end = "closed"
        chunks = self._cleaned()
        produced = Produced(chunks=chunks, end=end, end_s=self._now_s)
        exchange = EngineExchange(provider=self._provider, asked=self._asked, produced=produced)
        self._keeping.sink(self._order, exchange)

    def closed(self) -> None:
        """The reader reads no more."""
        self.end(GeneratorExit())

    def _cleaned(self) -> tuple[TimedChunk, ...]:
        """The chunks, without secrets that several of them hold together."""
        chunks = iter(self._scrubber.events([each.chunk for each in self._chunks if each.chunk is not None]))
        facts_of_chunks = [self._clean(each.facts) for each in self._chunks]
        bodies = iter(self._scrubber.events([body for each in self._chunks for body in each.facts.get("bodies", ())]))
        for facts in facts_of_chunks:
            if "bodies" in facts:
                facts["bodies"] = [next(bodies) for _ in facts["bodies"]]
        return tuple(
            each.model_copy(update={"chunk": None if each.chunk is None else next(chunks), "facts": facts})
            for each, facts in zip(self._chunks, facts_of_chunks, strict=True)
        )

    def _new_facts(self) -> dict[str, Any]:
        now = stored_facts(self._facts)
        new = {name: value for name, value in now.items() if value != self._told[name]}
        self._told = now
        bodies, self._bodies = self._facts.bodies[self._bodies :], len(self._facts.bodies)
        if bodies:
            new["bodies"] = [plain(body) for body in bodies]
        return new

    def _clean(self, values: dict[str, Any]) -> dict[str, Any]:
        cleaned: dict[str, Any] = self._scrubber.value(values)
        return cleaned


class RecordedEngine(Provider):
    """A provider in this process that is recorded."""

    def __init__(self, name: str, provider: Provider, keeping: Keeping) -> None:
        self._name = name
        self._provider = provider
        self._keeping = keeping

    def _track(self, call: ProviderCall) -> _Track:
        model = call.model
        asked = Asked(
            model=model,
            params=params_of(call, self._keeping.scrubber),
            is_free=self._provider.is_free(model),
            continues=self._provider.continues(model),
        )
        return _Track(self._name, asked, call.facts, self._keeping)

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        track = self._track(call)
        try:
            with closing(self._provider.chunks(call)) as chunks:
                for chunk in chunks:
                    track.chunk(chunk)
                    yield chunk
        except BaseException as error:
            track.end(error)
            raise
        track.end(None)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        track = self._track(call)
        try:
            async with aclosing(self._provider.achunks(call)) as chunks:
                async for chunk in chunks:
                    track.chunk(chunk)
                    yield chunk
        except BaseException as error:
            track.end(error)
            raise
        track.end(None)

    def is_free(self, model: str) -> bool:
        return self._provider.is_free(model)

    def require(self, call: ProviderCall) -> None:
        self._provider.require(call)

    def continues(self, model: str) -> bool:
        return self._provider.continues(model)

    def counts_tokens(self, model: str) -> bool:
        return self._provider.counts_tokens(model)

    def count_tokens(self, call: ProviderCall) -> int | None:
        return self._provider.count_tokens(call)

    def close(self) -> None:
        self._provider.close()

    async def aclose(self) -> None:
        await self._provider.aclose()

    def served_models(self) -> Sequence[ServedModel]:
        return self._provider.served_models()

    async def aserved_models(self) -> Sequence[ServedModel]:
        return await self._provider.aserved_models()

    def cleaned(self, text: str) -> str:
        return self._provider.cleaned(text)


class PlayedEngine(Provider):
    """A provider in this process, played from a cassette: no model, no package."""

    def __init__(self, name: str, playback: Playback) -> None:
        self._name = name
        self._playback = playback
        self._running: set[AttemptFacts] = set()

    def is_free(self, model: str) -> bool:
        asked = self._playback.deck.engine(self._name, model)
        return asked is not None and asked.is_free

    def continues(self, model: str) -> bool:
        asked = self._playback.deck.engine(self._name, model)
        return asked is not None and asked.continues

    def served_models(self) -> Sequence[ServedModel]:
        return [ServedModel(model) for model in self._playback.deck.models(self._name)]

    def chunks(self, call: ProviderCall) -> Generator[ChatCompletionChunk]:
        answer, stopped = self._begin(call)
        wait = wait_for_event if self._playback.clock is None else self._playback.clock.wait
        try:
            for each in self._steps(answer, call):
                if isinstance(each, float):
                    wait(stopped, each)
                else:
                    yield each
                self._require_running(call)
            self._end(answer)
        finally:
            self._leave(call)

    async def achunks(self, call: ProviderCall) -> AsyncGenerator[ChatCompletionChunk]:
        answer, stopped = self._begin(call)
        wait = await_event if self._playback.clock is None else self._playback.clock.await_
        try:
            for each in self._steps(answer, call):
                if isinstance(each, float):
                    await wait(stopped, each)
                else:
                    yield each
                    await asyncio.sleep(0)
                self._require_running(call)
            self._end(answer)
        finally:
            self._leave(call)

    def close(self) -> None:
        for facts in list(self._running):
            facts.cancel()

    def _begin(self, call: ProviderCall) -> tuple[Produced, Event]:
        playback = self._playback
        found = playback.found(self._name, "chat", call.model, params_of(call, playback.scrubber))
        assert isinstance(found, EngineExchange)
        stopped = Event()
        call.facts.stop = stopped.set
        self._running.add(call.facts)
        return found.produced, stopped

    def _leave(self, call: ProviderCall) -> None:
        call.facts.stop = None
        self._running.discard(call.facts)

    def _steps(self, answer: Produced, call: ProviderCall) -> Iterator[ChatCompletionChunk | float]:
        for each in self._playback.pauses((each.at_s, each) for each in answer.chunks):
            if isinstance(each, float):
                yield each
                continue
            learn(call.facts, each.facts)
            if each.chunk is not None:
                yield ChatCompletionChunk.model_validate({**each.chunk, "request_id": call.request_id})
        last_s = answer.chunks[-1].at_s if answer.chunks else 0.0
        moments: list[tuple[float, Any]] = [(last_s, None), (answer.end_s, None)]
        yield from itertools.islice(self._playback.pauses(iter(moments)), 1, None)
        if answer.end == "closed":
            yield self._playback.silence_s(last_s, answer.end_s)

    def _require_running(self, call: ProviderCall) -> None:
        if call.facts.is_stopped:
            raise errors.APIConnectionError("the client or the stream was closed")

    def _end(self, answer: Produced) -> None:
        end = answer.end
        if isinstance(end, EngineError):
            raise raised(end)
        if end == "closed":
            raise self._playback.broken_off()
