"""What must hold of calls that have ended, of the rows of their attempts, of the budgets, and of what servers read.

It sees the databases and the servers from outside, and of the client only what calls have reported.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llama_client.testing.faults import FaultRequest
from tests.chaos.workload import TENANT_USD
from tests.costs.buying import rows as found_by

# US dollars for a million tokens are pico-dollars for a millionth of a token: input, output.
PRICES = {"groq/m": (590_000, 790_000), "openai/m": (150_000, 600_000)}
_ROWS = """SELECT request_id, number, target, outcome, error, http_status, tokens_are_estimated, usd_pico, cost_status,
    input_tokens, output_tokens, cached_tokens, tags FROM llama_client_attempts
    JOIN llama_client_labels ON llama_client_labels.id = label_id"""
_SPENDING = "SELECT budget, settled_pico, reserved_pico FROM llama_client_spending"
_RESERVED = "SELECT id, budget, pico FROM llama_client_reservations"
_PRESUMED = "SELECT id, budget, pico FROM llama_client_presumed"
_UNRECORDED = "SELECT coalesce(sum(calls), 0) FROM llama_client_unrecorded"


# The clients of threads.
_SYNC = ("plain", "hedged", "own")


class Row(NamedTuple):
    """An attempt in the ledger."""

    request_id: str
    number: int
    target: str
    outcome: str
    error: str | None
    http_status: int | None
    tokens_are_estimated: int
    usd_pico: int | None
    cost_status: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    tags: str

    @property
    def is_sent(self) -> bool:
        return self.cost_status is not None

    @property
    def said(self) -> list[Any]:
        """As an attempt that a call reports, but for `sent`."""
        return [self.target, self.outcome, self.error, self.http_status, self.usd_pico, self.cost_status]


@dataclass
class Database:
    """What a database holds.

    Attributes:
        rows: The attempts.
        settled: What each budget has settled, over all its windows, in pico-dollars.
        reserved: What each has reserved, as its counters say.
        reservations: The same, as its reservations say.
        presumed: What each has settled at the worst case for clients that seemed dead.
        unrecorded: How many calls are said to be unrecorded.
    """

    rows: list[Row] = field(default_factory=list)
    settled: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    reservations: Counter[str] = field(default_factory=Counter)
    presumed: Counter[str] = field(default_factory=Counter)
    unrecorded: int = 0

    @staticmethod
    def read(url: str) -> Database:
        found = Database([Row(*row) for row in found_by(url, _ROWS)])
        for budget, settled, reserved in found_by(url, _SPENDING):
            found.settled[budget] += settled
            found.reserved[budget] += reserved
        for query, sums in ((_RESERVED, found.reservations), (_PRESUMED, found.presumed)):
            for _, budget, pico in found_by(url, query):
                sums[budget] += pico
        found.unrecorded = int(found_by(url, _UNRECORDED)[0][0])
        return found


@dataclass
class Books:
    """All of a phase.

    Attributes:
        numbers: The calls that were to be made.
        results: The line of each that has ended.
        databases: The last is the one in use; earlier ones were taken away.
        reads: What the servers have read.
        worst: The worst case of each target, by kind of answer.
        interrupts: Whether calls were interrupted.
        lost: Calls whose rows may be missing, as their process was killed soon after they had ended.
        in_flight: How many calls may have no end, as their process was killed.
        is_recorded: Whether rows were possible.
    """

    numbers: Sequence[int]
    results: list[dict[str, Any]]
    databases: list[Database]
    reads: list[FaultRequest]
    worst: Mapping[str, Mapping[str, int]]
    interrupts: bool = False
    lost: set[int] = field(default_factory=set)
    in_flight: int = 0
    is_recorded: bool = True

    def __post_init__(self) -> None:
        self.by_call: dict[int, list[Row]] = defaultdict(list)
        # The same row may be in a database that was taken away and, written again, in the next.
        for row in sorted({row for database in self.databases for row in database.rows}):
            self.by_call[int(json.loads(row.tags)["call"])].append(row)

    def problems(self) -> Iterator[str]:
        """What must not be."""
        yield from self._of_ends()
        if self.is_recorded:
            results = {line["n"]: line for line in self.results}
            reads: dict[int, list[FaultRequest]] = defaultdict(list)
            for read in self.reads:
                reads[int(read.prompt.split()[-1])].append(read)
            for number in sorted({*results, *self.by_call, *reads}):
                result = results.get(number)
                for problem in self._of_call(result, self.by_call[number], reads[number]):
                    yield f"call {number}: {problem}; {result}, rows {self.by_call[number]}, reads {reads[number]}"
            yield from self._of_budgets()
        for database in self.databases:
            if database.unrecorded:
                yield f"{database.unrecorded} calls are said to be unrecorded"

    def _of_ends(self) -> Iterator[str]:
        ends = Counter(line["n"] for line in self.results)
        missing = [number for number in self.numbers if number not in ends]
        if len(missing) > self.in_flight:
            yield f"{len(missing)} calls have no end, and {self.in_flight} may have none: {missing[:10]}"
        for number, times in ends.items():
            if times > 1:
                yield f"call {number} ended {times} times"
        for line in self.results:
            if line["ours"]:
                continue
            is_cancelled = line["end"] == "CancelledError" and (line["kind"] == "cancelled" or line["how"] == "loop")
            is_interrupted = line["end"] == "KeyboardInterrupt" and self.interrupts and line["how"] in _SYNC
            if not (is_cancelled or is_interrupted):
                yield f"call {line['n']} ended with none of our errors: {line}"

    def _of_call(self, result: dict[str, Any] | None, rows: list[Row], reads: list[FaultRequest]) -> Iterator[str]:
        if result is not None and result["n"] in self.lost:
            # A row that is there is whole, and first rows are written first.
            if [row.number for row in rows] != list(range(1, len(rows) + 1)):
                yield "its rows have gaps"
            return
        ids = {row.request_id for row in rows}
        if len(ids) > 1:
            yield f"it has several ids: {ids}"
        if result is not None and result["id"] is not None and ids != {result["id"]}:
            yield "its id is not that of its rows"
        if [row.number for row in rows] != list(range(1, len(rows) + 1)):
            yield "the numbers of its rows are not 1, 2, ..."
        yield from self._of_reads(rows, reads, is_known=result is not None)
        for row in rows:
            yield from _of_price(row)
        if result is None:
            return
        attempts = result.get("attempts")
        if attempts is None:
            return
        said = [[target, outcome, error, *rest] for target, outcome, error, _, *rest in attempts]
        if said != [row.said for row in rows]:
            yield "what it reports is not what the ledger holds"
        for _, outcome, _, sent, *_, status in attempts:
            if sent != (status is not None):
                yield f"an attempt that is {outcome} was sent without a cost, or has one without being sent"
        if "cost" in result:
            charged = [usd for *_, usd, status in attempts if status is not None]
            total = None if None in charged else sum(charged)
            if result["cost"] != total:
                yield f"it says that it cost {result['cost']}, and its attempts {total}"

    def _of_reads(self, rows: list[Row], reads: list[FaultRequest], *, is_known: bool) -> Iterator[str]:
        read = Counter(f"{each.dialect}/m" for each in reads)
        sent = Counter(row.target for row in rows if row.is_sent)
        # A request that was given up may never have come.
        given_up = Counter(row.target for row in rows if row.is_sent and row.outcome == "cancelled")
        for target in {*read, *sent}:
            # What was in flight when its process was killed has no row yet.
            least = read[target] if is_known else 0
            if not least <= sent[target] <= read[target] + given_up[target]:
                yield f"{target} was asked {sent[target]} times, by its rows, and read {read[target]} requests"

    def charge(self, row: Row) -> int:
        """What a budget is charged with for an attempt: its cost where that is known, else its worst case."""
        if row.target not in PRICES or not row.is_sent:
            return 0
        if row.usd_pico is not None and not row.tokens_are_estimated:
            return row.usd_pico
        # The worst cases of a stream and of a whole answer are the same where the requests are; see `mixed`.
        return self.worst[row.target]["stream"]

    def charged(self) -> Counter[str]:
        """What each budget is charged with for all rows."""
        sums: Counter[str] = Counter()
        for row in (row for rows in self.by_call.values() for row in rows):
            if row.target not in PRICES:
                continue
            for budget in _budgets(row):
                sums[budget] += self.charge(row)
        return sums

    def _of_budgets(self) -> Iterator[str]:
        *taken, last = self.databases
        for sums in (last.reserved, last.reservations):
            for budget, pico in sums.items():
                if pico:
                    yield f"{pico} is still reserved of {budget}"
        if not self.in_flight:
            for budget, pico in last.presumed.items():
                yield f"{pico} of {budget} is settled for clients that seemed dead, and ended"
        charged, settled = self.charged(), Counter[str]()
        for database in self.databases:
            settled.update(database.settled)
        for budget in {*charged, *settled}:
            # What was reserved in a database that was taken away is settled in the next, which knows nothing of it.
            lost = sum(database.reservations[budget] for database in taken)
            least, most = settled[budget], settled[budget] + lost
            if self.in_flight:
                # Of clients that were killed, the rows of the last moments are missing.
                least = 0
            if not least <= charged[budget] <= most:
                yield f"{budget} has settled {settled[budget]}, and its rows come to {charged[budget]} (lost: {lost})"
            if budget.startswith('["tag:') and last.settled[budget] > int(TENANT_USD * 10**12):
                yield f"{budget} has settled {last.settled[budget]}, more than it has"


def _budgets(row: Row) -> Iterable[str]:
    found = ['["all", "total"]', '["all", "hour"]']
    if row.target == "groq/m":
        found.append('["provider:groq", "total"]')
    tenant = json.loads(row.tags).get("tenant")
    return found if tenant is None else [*found, f'["tag:tenant", "total", "{tenant}"]']


def _of_price(row: Row) -> Iterator[str]:
    if not row.is_sent and row.usd_pico is not None:
        yield f"attempt {row.number} was not sent, and cost {row.usd_pico}"
    if row.target not in PRICES:
        if row.usd_pico:
            yield f"attempt {row.number} at a free target cost {row.usd_pico}"
        return
    tokens = row.input_tokens, row.output_tokens
    if row.usd_pico is not None and tokens[0] is not None and tokens[1] is not None:
        of_input, of_output = PRICES[row.target]
        if row.usd_pico != tokens[0] * of_input + tokens[1] * of_output:
            yield f"attempt {row.number} cost {row.usd_pico} for {tokens} tokens"
