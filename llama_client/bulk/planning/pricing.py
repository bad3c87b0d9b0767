"""What rows cost: expected and at the worst, now and in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.bulk.batches.official import has_batches
from llama_client.bulk.batches.requests import TIER
from llama_client.bulk.pending import usd_of
from llama_client.bulk.planning.measure import Group, Measure, Sums, sum_of
from llama_client.costs.bills import cost_of_tokens, counted
from llama_client.costs.prices import HourPrice
from llama_client.errors import LlamaClientError
from llama_client.providers.http.provider import HttpProvider
from llama_client.routing.billing import longest_answer, most_prompt_tokens, worst_case

if TYPE_CHECKING:
    from llama_client.bulk.idle.targets import LocalTargets
    from llama_client.bulk.planning.kept_answers import KeptAnswers
    from llama_client.bulk.results import BulkResult
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.costs.prices import Price
    from llama_client.routing.candidate import Candidate
    from llama_client.routing.targets import Target
    from llama_client.structured import AnswerForm
    from llama_client.types.completion import ChatCompletion, Usage

# What a line of a batch file has around the text of its request.
_AROUND_BYTES = 400
# Groups of targets that are told apart; rows of a job name a few.
_MAX_GROUPS = 1_000


class Pricing:
    """Prices rows by a client's targets and prices.

    Args:
        context: The client's.
        form: What answers are parsed to; None: they stay text.
        locals_: Tells the targets of this machine, where rows may wait for its idle hours; None: none may.
    """

    def __init__(self, context: CallContext, form: AnswerForm | None, locals_: LocalTargets | None = None) -> None:
        self._context = context
        self._has_form = form is not None
        self._locals = locals_

    def worst_usd(self, row: Row) -> Decimal | None:
        """The most that one try of a row costs, now: at each of its targets, once; None: unknown."""
        try:
            candidates = self._candidates(row)
        except LlamaClientError:
            # It fails before anything is sent.
            return Decimal(0)
        return self._most_now(self._at_once(candidates))

    def idle_worst_usd(self, row: Row, target: str) -> Decimal | None:
        """The same in idle hours, at a target of this machine."""
        try:
            candidates = [each for each in self._candidates(row) if each.target.name == target]
        except LlamaClientError:
            return Decimal(0)
        return self._most_now(candidates)

    def list_usd(self, result: BulkResult) -> Decimal | None:
        """What a result would have cost at once, asked anew; None: unknown."""
        completion = result.completion
        if completion is not None and result.venue == "idle" and self._locals is not None:
            return self._elsewhere_usd(result.row, completion, self._locals)
        if completion is None or result.venue != "batch":
            saved = None if completion is None or not completion.is_cached else _saved(completion.attempts)
            return result.usd if saved is None else sum_of(result.usd, saved)
        provider, _, model = completion.target.partition("/")
        target = next((each for each in self._targets(completion.target) if each.name == completion.target), None)
        price = self._context.accounting.prices.price(
            provider, model, self._context.clock.wall(), is_free=target is not None and target.is_free
        )
        return _cost(price, completion.usage)

    def _elsewhere_usd(self, row: Row, completion: ChatCompletion, locals_: LocalTargets) -> Decimal | None:
        """What an answer of this machine would have cost at the target that is asked at once."""
        try:
            candidate = self._first(self._at_once(self._candidates(row)))
        except LlamaClientError:
            return None
        if locals_.is_local(candidate.target):
            # There is no other.
            return usd_of(completion.attempts)
        return _cost(self._price(candidate.target, candidate.request.service_tier), completion.usage)

    def measure(self, rows: Iterable[Row], answers: KeptAnswers | None) -> Measure:
        """Adds up rows, in one pass; those that the client's cache has are counted apart."""
        found = Measure()
        if answers is not None:
            rows = answers.missing(rows, found)
        for row in rows:
            found.rows += 1
            try:
                candidates = self._candidates(row)
            except LlamaClientError:
                # The job says what is wrong with it, as a failure of the row.
                continue
            key = _key(candidates)
            group = found.groups.get(key)
            if group is None:
                at_once = self._at_once(candidates)
                group = Group(tuple(each.target for each in candidates), tuple(each.target for each in at_once))
                if len(found.groups) < _MAX_GROUPS:
                    found.groups[key] = group
            self._add(group, candidates)
            found.input_tokens += candidates[0].size.input_tokens
            found.output_tokens += _output_tokens(candidates[0])
        return found

    def targets_of(self, row: Row) -> tuple[str, ...]:
        """The key of a row's group; empty: its request is wrong."""
        try:
            return _key(self._candidates(row))
        except LlamaClientError:
            return ()

    def batch_worst_usd(self, row: Row, target: str) -> Decimal | None:
        """The most that a row costs in a batch; None: unknown."""
        try:
            for candidate in self._candidates(row):
                if candidate.target.name == target:
                    return self._most(candidate, [self._price(candidate.target, TIER)])
        except LlamaClientError:
            return Decimal(0)
        return None

    def _add(self, group: Group, candidates: list[Candidate]) -> None:
        at_once = self._at_once(candidates)
        group.now.add(self._expected(self._first(at_once), None), self._most_now(at_once))
        group.input_tokens += candidates[0].size.input_tokens
        group.output_tokens += _output_tokens(candidates[0])
        self._add_idle(group, candidates)
        for candidate in candidates:
            name = candidate.target.name
            why = self._why_no_batch(candidate)
            if why is not None:
                group.refusals.setdefault(name, why)
                continue
            size = int(candidate.size.least_input_tokens * 4) + _AROUND_BYTES
            most = self._most(candidate, [self._price(candidate.target, TIER)])
            group.batches.setdefault(name, Sums()).add(self._expected(candidate, TIER), most, size)

    def _add_idle(self, group: Group, candidates: list[Candidate]) -> None:
        if self._locals is None:
            return
        may_drop = self._context.config.routing.drop_unsupported
        local = self._locals.local([each.target for each in candidates])
        able = [each for each in candidates if each.target in local and each.is_supported(may_drop=may_drop)]
        if not able:
            return
        first = able[0]
        group.local = group.local or first.target
        price = self._price(first.target, first.request.service_tier)
        usd = self._expected(first, None)
        if isinstance(price, HourPrice):
            group.usd_per_hour, usd = price.usd_per_hour, Decimal(0)
        group.idle.add(usd, self._most_now([first]))

    def _at_once(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those that are asked at once: this machine is left alone where others can be asked."""
        if self._locals is None:
            return candidates
        kept = self._locals.asked_at_once([each.target for each in candidates])
        return [each for each in candidates if each.target in kept]

    def _first(self, candidates: list[Candidate]) -> Candidate:
        may_drop = self._context.config.routing.drop_unsupported
        return next((each for each in candidates if each.is_supported(may_drop=may_drop)), candidates[0])

    def _why_no_batch(self, candidate: Candidate) -> str | None:
        target = candidate.target
        if not isinstance(target.provider, HttpProvider):
            return "it runs on this machine, and has no batch API"
        if self._locals is not None and self._locals.is_local(target):
            return "it runs on this machine, which is left alone outside its idle hours"
        kind = self._context.providers.kind(target.provider_name)
        if not has_batches(kind):
            return f"no batch API of {kind} is known"
        if not candidate.is_supported(may_drop=self._context.config.routing.drop_unsupported):
            return f"it cannot take the rows: {candidate.error}"
        if candidate.request.extra_headers:
            return "a line of a batch file has no headers (extra_headers)"
        return None

    def _candidates(self, row: Row) -> list[Candidate]:
        from llama_client.types.request import check_request

        params: Mapping[str, Any] = {name: value for name, value in row.params.items() if name != "model"}
        context = self._context
        given = row.params.get("model")
        model = given if given is not None else context.model if context.model is not None else context.default.name()
        return context.router.candidates(context.resolver.choices(model), check_request(params, stream=False))

    def _targets(self, model: str) -> list[Target]:
        try:
            return [target for choice in self._context.resolver.choices(model) for target in choice.targets]
        except LlamaClientError:
            return []

    def _price(self, target: Target, tier: str | None) -> Price | None:
        prices = self._context.accounting.prices
        at = self._context.clock.wall()
        return prices.price(target.provider_name, target.model, at, is_free=target.is_free, service_tier=tier)

    def _expected(self, candidate: Candidate, tier: str | None) -> Decimal | None:
        price, size = self._price(candidate.target, tier or candidate.request.service_tier), candidate.size
        if price is None or isinstance(price, HourPrice):
            return Decimal(0) if price is not None and price.is_nothing else None
        return price.parts(size.input_tokens, size.output_tokens(candidate.health.usual_output_tokens)).usd

    def _most_now(self, candidates: list[Candidate]) -> Decimal | None:
        """Of one call: each target may be asked, and may charge for it."""
        prices, at = self._context.accounting.prices, self._context.clock.wall()
        total: Decimal | None = Decimal(0)
        for candidate in candidates:
            target = candidate.target
            tier = candidate.request.service_tier
            own = prices.of_any_tier(target.provider_name, target.model, at, is_free=target.is_free, service_tier=tier)
            total = sum_of(total, self._most(candidate, own))
        request = candidates[0].request
        # An answer that does not fit what was asked for is asked for again within the call.
        is_checked = self._has_form or request.tools or request.response_format
        calls = 1 + self._context.config.routing.retries if is_checked else 1
        return None if total is None else total * calls

    def _most(self, candidate: Candidate, prices: Iterable[Price | None]) -> Decimal | None:
        context, target, request = self._context, candidate.target, candidate.request
        prompt = most_prompt_tokens(
            candidate.size, context.providers.context_tokens(target.provider_name, target.model)
        )
        longest = longest_answer(candidate, context.providers)
        timeout_s = request.timeout or context.timeout or context.config.routing.deadline_s or float("inf")
        most = Decimal(0)
        for price in prices:
            worst = worst_case(price, request, prompt, longest, timeout_s)
            if worst is None:
                return None
            most = max(most, worst.usd)
        return most


def _key(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """The same for all rows of a route: the order of its targets may change with prices and rate limits."""
    return tuple(sorted({each.target.name for each in candidates}))


def _output_tokens(candidate: Candidate) -> float:
    return candidate.size.output_tokens(candidate.health.usual_output_tokens)


def _cost(price: Price | None, usage: Usage) -> Decimal | None:
    if isinstance(price, HourPrice) or usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return cost_of_tokens(price, counted(usage, lambda: (0.0, 0.0))).usd


def _saved(attempts: Iterable[Any]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for attempt in attempts:
        if attempt.outcome == "cached":
            total = sum_of(total, attempt.saved_usd)
    return total
