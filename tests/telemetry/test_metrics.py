"""What attempts are measured by."""

from __future__ import annotations

import pytest

from llama_client.testing.dialects import OPENAI
from llama_client.testing.loopback import Answer, Received, WireServer, streamed
from tests.routing.asking import ask, config, failing, good
from tests.telemetry.program import LABELS, PRICE, TELEMETRY, USAGE, Program, counting, each_mode


@each_mode
def test_attempts_are_measured(program: Program, mode: str) -> None:
    def three_pieces(request: Received) -> Answer:
        if not request.json.get("stream"):
            return counting(request)
        usage = OPENAI.counted(USAGE)
        first, done = OPENAI.ending()
        pieces = [OPENAI.text(piece) for piece in ("a", "b", "c")]
        return streamed([OPENAI.preamble(), *pieces, first, usage, done], delay_s=0.02)

    with WireServer(three_pieces) as server:
        reply = ask(config(server, telemetry=TELEMETRY, prices=[PRICE]), mode)
    points = program.points()
    labels = LABELS | {"server.port": server.port, "gen_ai.response.model": "some/model"}
    sums = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage {token}"]}
    assert sums == {"input": 300, "output": 20}
    [took] = points["gen_ai.client.operation.duration s"]
    assert (took.attributes, took.count, took.sum) == (labels, 1, reply.attempts[0].latency_s)
    # Its example leads to the attempt.
    assert took.exemplars[0].span_id == program.span().context.span_id
    [cost] = points["llama_client.cost {USD}"]
    assert (cost.attributes, cost.value) == (labels | {"llama_client.cost.status": "exact"}, 0.00034)
    of_streams = {f"gen_ai.client.operation.{name} s" for name in ("time_to_first_chunk", "time_per_output_chunk")}
    if not mode.startswith("stream"):
        assert not of_streams & set(points)
        return
    [first_chunk] = points["gen_ai.client.operation.time_to_first_chunk s"]
    assert (first_chunk.attributes, first_chunk.count, first_chunk.sum) == (labels, 1, reply.attempts[0].ttft_s)
    [gaps] = points["gen_ai.client.operation.time_per_output_chunk s"]
    # Two pieces of text and the finish reason came after the first.
    assert (gaps.attributes, gaps.count) == (labels, 3)
    assert 0.02 <= gaps.sum < took.sum


def test_the_buckets_are_the_conventions(program: Program) -> None:
    with WireServer(counting) as server:
        ask(config(server, telemetry=TELEMETRY), "stream-sync")
    points = program.points()
    assert list(points["gen_ai.client.token.usage {token}"][0].explicit_bounds) == [
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    ]
    for name in ("duration", "time_to_first_chunk", "time_per_output_chunk"):
        assert list(points[f"gen_ai.client.operation.{name} s"][0].explicit_bounds) == [
            *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
        ]


@each_mode
def test_failures_are_measured_with_their_class_and_what_nobody_counted_is_not(program: Program, mode: str) -> None:
    with WireServer(lambda request: failing(500)) as first, WireServer(good()) as second:
        ask(config(first, second, telemetry=TELEMETRY, routing={"retries": 0}), mode)
    points = program.points()
    classes = [point.attributes.get("error.type") for point in points["gen_ai.client.operation.duration s"]]
    assert sorted(classes, key=str) == [None, "ServerError"]
    # The stream tells of no tokens; what they are thought to be is no measurement.
    assert ("gen_ai.client.token.usage {token}" in points) == mode.startswith("call")
    # What was refused costs nothing, and of the other nobody knows.
    [cost] = points["llama_client.cost {USD}"]
    assert (cost.attributes["gen_ai.provider.name"], cost.value) == ("a", 0.0)


def test_clients_share_their_instruments(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    with WireServer(good()) as server:
        for _ in range(2):
            ask(config(server, telemetry=TELEMETRY), "call-sync")
    assert program.points()["gen_ai.client.operation.duration s"][0].count == 2
    assert caplog.messages == []
