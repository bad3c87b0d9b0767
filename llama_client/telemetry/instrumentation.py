"""Makes the span and the metrics of each attempt.

This is the only module that imports OpenTelemetry, and it does so where telemetry is on. It exports nothing and sets up
no provider: all goes through what the program has set up, before or after its client was made.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from llama_client.errors import ProviderNotInstalledError
from llama_client.telemetry import conventions
from llama_client.telemetry.conventions import Attributes, Metric
from llama_client.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from llama_client.providers.base import ProviderCall
    from llama_client.types.attempt import Attempt
    from llama_client.types.chunk import ChatCompletionChunk
    from llama_client.types.completion import Choice

T = TypeVar("T")
_SCOPE = "llama_client"

_log = logging.getLogger("llama_client.telemetry")
# Without a handler of the program's own, Python would print warnings to standard error.
_log.addHandler(logging.NullHandler())


class _Turn(threading.local):
    """What a thread has under way with OpenTelemetry.

    The locks of its SDK are not re-entrant, and the garbage collector may end a stream that was dropped at any
    allocation, so also while this very thread holds one of them. What comes then waits.
    """

    def __init__(self) -> None:
        self.is_taken = False
        self.waiting: deque[Callable[[], object]] = deque()


# Of the process and not of a client, as those locks are.
_turn = _Turn()


def _in_turn(act: Callable[[], object]) -> None:
    """Does it now, or as soon as this thread is done with what it is at."""
    _turn.waiting.append(act)
    _catch_up()


def _catch_up() -> None:
    while _turn.waiting and not _turn.is_taken:
        _turn.is_taken = True
        try:
            _turn.waiting.popleft()()
        finally:
            _turn.is_taken = False


class Instrumentation:
    """What one client makes spans and metrics with. All of its views share it.

    Args:
        content: Whether spans hold what was asked and answered.
        kind: The kind of a provider, by its name.
        url: Where a provider is, by its name; None: in this process.
        tracer_provider: Where spans go; None: as the program has set up.
        meter_provider: Where metrics go; None: as the program has set up.

    Raises:
        ProviderNotInstalledError: The extra is missing.
    """

    def __init__(
        self,
        *,
        content: bool,
        kind: Callable[[str], str],
        url: Callable[[str], str | None],
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ProviderNotInstalledError(
                'telemetry.enabled is true, which needs opentelemetry-api: pip install "llama-client[otel]"',
                extra="otel",
            ) from error
        self.content = content
        self._kind, self._url = kind, url
        self._servers: dict[str, Attributes] = {}
        self._has_warned = False
        self._trace = trace
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)

        def histogram(metric: Metric) -> Histogram:
            return meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
            )

        self._tokens = histogram(conventions.TOKENS)
        self._duration = histogram(conventions.DURATION)
        self._first_chunk = histogram(conventions.FIRST_CHUNK)
        self._next_chunk = histogram(conventions.NEXT_CHUNK)
        cost = conventions.COST
        self._cost = meter.create_counter(cost.name, cost.unit, cost.description)

    def begin(self, call: ProviderCall, route: str | None) -> AttemptSpan | None:
        """Starts the span of an attempt, below the caller's own; None: it could not be.

        Args:
            call: The attempt.
            route: The route that its target stands in; None: the call named its targets.
        """
        was_taken, _turn.is_taken = _turn.is_taken, True
        try:
            return self._safely(lambda: self._begin(call, route))
        finally:
            _turn.is_taken = was_taken
            _catch_up()

    def _begin(self, call: ProviderCall, route: str | None) -> AttemptSpan:
        server = self._servers.get(call.provider)
        if server is None:
            name = call.provider
            server = self._servers[name] = conventions.of_server(name, self._kind(name), self._url(name))
        labels = conventions.of_target(call.model, server)
        kinds = self._trace.SpanKind
        span = self._tracer.start_span(
            f"{conventions.OPERATION} {call.model}",
            kind=kinds.CLIENT if conventions.SERVER_ADDRESS in server else kinds.INTERNAL,
            attributes=labels | conventions.of_call(call, route),
        )
        return AttemptSpan(self, span, call, labels)

    def end(self, span: Span, error: str | None, *attributes: Callable[[], Attributes]) -> None:
        """Ends a span.

        Args:
            span: The span.
            error: The error's class; None: there was none.
            attributes: What is known of it at its end, worked out where somebody keeps it.
        """

        def finish() -> None:
            try:
                if span.is_recording():
                    if error is not None:
                        # Without the error's message: it may quote what was said.
                        span.set_status(self._trace.StatusCode.ERROR)
                    for known in attributes:
                        span.set_attributes(known())
            finally:
                span.end()

        self._safely(finish)

    def measure(self, span: Span, attempt: Attempt, labels: Attributes, gaps_s: Sequence[float] | None) -> None:
        """Records the metrics of an attempt.

        Args:
            span: Its span.
            attempt: What became of it.
            labels: What all its metrics have in common.
            gaps_s: The seconds between its chunks; None: no stream was asked for.
        """

        def record() -> None:
            # So that a metric's examples name the attempt, and not what the caller is at.
            context = self._trace.set_span_in_context(span)
            if attempt.latency_s is not None:
                self._duration.record(attempt.latency_s, labels, context)
            if gaps_s is not None and attempt.ttft_s is not None:
                self._first_chunk.record(attempt.ttft_s, labels, context)
                for gap_s in gaps_s:
                    self._next_chunk.record(gap_s, labels, context)
            for count, sort in conventions.reported_tokens(attempt):
                self._tokens.record(count, labels | sort, context)
            cost = conventions.known_cost(attempt)
            if cost is not None:
                self._cost.add(cost[0], labels | cost[1], context)

        self._safely(record)

    def _safely(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - what a program has set up may raise anything; no call fails of that
            if not self._has_warned:
                self._has_warned = True
                # Without its message: it may quote what was to be exported.
                _log.warning("telemetry is incomplete: what the program has set up raised %s", type(error).__name__)
            return None


class AttemptSpan:
    """The span of one attempt while it goes on.

    Attributes:
        gaps_s: The seconds between its chunks, from the first with content on.
    """

    __slots__ = ("_call", "_instrumentation", "_labels", "_span", "gaps_s")

    def __init__(self, instrumentation: Instrumentation, span: Span, call: ProviderCall, labels: Attributes) -> None:
        self.gaps_s: list[float] = []
        self._instrumentation = instrumentation
        self._span = span
        self._call = call
        self._labels = labels

    def end(
        self,
        attempt: Attempt,
        number: int,
        first: ChatCompletionChunk | None,
        generated: Callable[[], Sequence[Choice]],
    ) -> None:
        """Ends it, and records the metrics.

        Args:
            attempt: What became of the attempt.
            number: Its place among those of its call, from 1.
            first: Its first chunk; None: there was none.
            generated: What it generated, whole or not.
        """
        request, instrumentation = self._call.request, self._instrumentation
        labels = self._labels | conventions.of_end(first, attempt)

        def facts() -> Attributes:
            return labels | conventions.of_attempt(attempt, number, streams=request.stream)

        def answer() -> Attributes:
            # Last: one who lost a race and cannot be stopped may still be adding to it.
            choices = generated() if first is not None else ()
            found = conventions.of_answer(first, choices) if first is not None else {}
            return found | conventions.of_content(request, choices) if instrumentation.content else found

        def finish() -> None:
            instrumentation.end(self._span, attempt.error, facts, answer)
            instrumentation.measure(self._span, attempt, labels, self.gaps_s if request.stream else None)

        _in_turn(finish)
