"""A program that has set up OpenTelemetry for itself, and what it sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Counter, ExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received
from tests.routing.asking import MODES

each_mode = pytest.mark.parametrize("mode", MODES)
each_stream = pytest.mark.parametrize("mode", ["stream-sync", "stream-async"])
TELEMETRY = {"enabled": True}
WITH_CONTENT = {"enabled": True, "content": True}
USAGE = {
    "prompt_tokens": 300,
    "completion_tokens": 20,
    "total_tokens": 320,
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
PRICE = {"target": "a/m", "input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
# What holds on every attempt at `a/m`, but for the port.
LABELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "a",
    "gen_ai.request.model": "m",
    "server.address": "127.0.0.1",
}
# They differ from run to run.
UNSTEADY = {"llama_client.request_id", "gen_ai.response.time_to_first_chunk", "server.port"}


class Program(SpanProcessor):
    """A program that has set up OpenTelemetry.

    Attributes:
        does: What it does at an `event`: a span starts (`start`) or ends (`end`), something is measured (`measure`).
    """

    def __init__(self) -> None:
        self.does: Callable[[str], None] = lambda event: None
        self._exporter = InMemorySpanExporter()
        deltas: dict[type, AggregationTemporality] = dict.fromkeys((Histogram, Counter), AggregationTemporality.DELTA)
        self._reader = InMemoryMetricReader(preferred_temporality=deltas)
        measured = _Measured(self)
        spans = TracerProvider()
        spans.add_span_processor(SimpleSpanProcessor(self._exporter))
        spans.add_span_processor(self)
        trace.set_tracer_provider(spans)
        metrics.set_meter_provider(MeterProvider([self._reader], exemplar_filter=measured))

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.does("start")

    def on_end(self, span: ReadableSpan) -> None:
        self.does("end")

    def forget(self) -> None:
        self.does = lambda event: None
        self._exporter.clear()
        self._reader.get_metrics_data()

    def span(self) -> ReadableSpan:
        """The only one."""
        [span] = self.spans()
        return span

    def spans(self) -> list[ReadableSpan]:
        """Ours, in the order of their attempts."""
        ours = [span for span in self._exporter.get_finished_spans() if span.name.startswith("chat ")]
        return sorted(ours, key=lambda span: str(known(span)["llama_client.attempt.number"]))

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric since this was asked last."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if scope.scope.name == "llama_client"
        ]
        return {f"{metric.name} {metric.unit}": list(metric.data.data_points) for metric in found}


class _Measured(ExemplarFilter):
    """Looks at each measurement, and keeps as an example what was measured within a trace."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def should_sample(self, value: float, time_unix_nano: int, attributes: object, context: Context) -> bool:
        self._program.does("measure")
        return trace.get_current_span(context).get_span_context().is_valid


def known(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def steady(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in known(span).items() if name not in UNSTEADY}


def told(span: ReadableSpan, name: str) -> Any:
    """What a span holds as JSON."""
    return json.loads(known(span)[name])


def counting(request: Received) -> Answer:
    return OPENAI.good(streams=request.json.get("stream", False), usage=USAGE)
