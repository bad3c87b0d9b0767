"""The test kit as users call it, checked by mypy and pyright: never run."""

from __future__ import annotations

from typing import assert_type

from llama_client.testing import BatchPlay, BatchReport, BatchServer, FakeClock
from llama_client.testing.faults import FAULTS, GOOD, Fault, FaultReport, FaultRequest, FaultServer, Kind, fault
from llama_client.testing.loopback import Answer, Received


def faults_by_name(received: Received) -> None:
    limited = fault("429-integer")
    assert_type(limited, Fault)
    assert_type(limited(received), Answer)
    assert_type(limited.name, str)
    assert_type(limited.what, str)
    assert_type(limited.errors, tuple[str, ...])
    assert_type(limited.statuses, tuple[int | None, ...])
    assert_type(limited.wait_s, tuple[float, float] | None)
    assert_type(limited.weight, float)
    assert_type(limited.fits(streams=True), bool)
    assert limited.only in (None, "stream", "whole")
    assert_type([name for name, each in FAULTS.items() if each.fits(streams=False)], list[str])


def a_server_of_faults(kind: Kind) -> None:
    with FaultServer() as server:
        server.next("429-integer", "reset", GOOD)
        server.always("500")
        server.at_rate(0.3)
        server.at_rate(0.3, seed=7, faults=["429", "500"], slow=0.1, failing_prompts="doomed")
        assert_type(server.url, str)
        assert_type(server.port, int)
        assert_type(server.url_for(kind), str)
        assert_type(server.url_for("groq", fault="reset"), str)
        assert_type(server.wait_until_idle(), bool)
        assert_type(server.wait_until_idle(1.0), bool)
        report = server.report()
        assert_type(report, FaultReport)
        assert_type(report.requests, list[FaultRequest])
        assert_type(report.chats, dict[str, int])
        assert_type(report.faults, dict[str, int])
        assert_type((report.open_connections, report.closed_early, report.malformed), tuple[int, int, int])
        for request in report.requests:
            assert_type((request.dialect, request.path, request.model), tuple[str, str, str])
            assert_type((request.prompt, request.streams, request.fault), tuple[str, bool, str])
            assert_type(request.text, str)
        server.clear()
    own_process = FaultServer(process=True, port=8080)
    own_process.close()


def a_server_of_batches(clock: FakeClock) -> None:
    with BatchServer("groq", clock=clock) as server:
        server.batches(BatchPlay(ending="expired", takes_s=60, answered=0.5), BatchPlay())
        server.every_batch(BatchPlay(failing=0.1, is_reordered=True))
        server.fails("create", "lost", "500")
        server.fails_at_rate(0.2, seed=1, mishaps=["reset"])
        server.next("429-integer")
        report = server.batch_report()
        assert_type(report, BatchReport)
        assert_type(report.billed, dict[str, int])
        assert_type(report.orphans, list[str])
