"""Results wait for the ledger, which may be late."""

from __future__ import annotations

from llama_client.bulk.ledger_first import LedgerFirst


def test_a_ledger_that_was_late_is_waited_for_less_until_it_is_in_time() -> None:
    waited: list[float] = []
    in_time = iter([True, False, False, True, True])

    def flush(within_s: float) -> bool:
        waited.append(within_s)
        return next(in_time)

    first = LedgerFirst(flush)
    for _ in range(5):
        first.wait()
    assert waited == [5.0, 5.0, 0.25, 0.25, 5.0]
