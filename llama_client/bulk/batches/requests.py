"""Rows as requests of one target, and its answers as completions, through the target's own codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from llama_client.bulk.batches.lines import AnswerLine
from llama_client.costs.bills import Tokens, counted
from llama_client.errors import ConfigError, InvalidResponseError, LlamaClientError, ProviderError
from llama_client.providers.base import AttemptFacts, HttpAnswer, ProviderCall
from llama_client.providers.http.provider import HttpProvider
from llama_client.routing.accumulator import Accumulator
from llama_client.routing.billing import longest_answer, most_prompt_tokens, worst_case
from llama_client.routing.request_size import BYTES_PER_TOKEN
from llama_client.routing.targets import TargetList
from llama_client.types.completion import Usage
from llama_client.types.request import check_request

if TYPE_CHECKING:
    from llama_client.bulk.rows import Row
    from llama_client.chat import CallContext
    from llama_client.costs.prices import Price
    from llama_client.routing.candidate import Candidate
    from llama_client.routing.targets import Target

# As a price row names the tier, and an answer the way in which it was served.
TIER = "batch"
# A machine that is paid by the hour is not priced for a batch of unknown length.
_NO_TIMEOUT_S = float("inf")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a line says.

    Attributes:
        answer: The answer, as far as it came.
        facts: What the codec learnt beside it.
        error: Why it is none; None: it is complete.
        tokens: What is charged for; None: nothing.
    """

    answer: Accumulator
    facts: AttemptFacts
    error: LlamaClientError | None
    tokens: Tokens | None


class Requests:
    """The requests of one target.

    Args:
        context: The client's.
        target: The target.

    Raises:
        ConfigError: The target runs in this process.
    """

    def __init__(self, context: CallContext, target: Target) -> None:
        if not isinstance(target.provider, HttpProvider):
            raise ConfigError(f"{target.name} runs in this process, and has no batch API")
        self.target = target
        self._provider = target.provider
        self._context = context

    def open(self) -> None:
        """Reads the key, and refuses an address that may not be connected to."""
        self._provider.open()

    def candidate(self, row: Row) -> Candidate:
        """A row, checked.

        Raises:
            InvalidRequestError: A parameter is wrong.
            UnsupportedFeatureError: The target cannot honour one, or a file of requests cannot hold it.
        """
        candidate = self._unchecked(row)
        if not candidate.is_supported(may_drop=self._context.config.routing.drop_unsupported):
            raise candidate.error or ConfigError(f"{self.target.name} cannot take the row")
        if candidate.request.extra_headers:
            raise self._call(candidate).unsupported("extra_headers", "a line of a batch file has no headers")
        return candidate

    def body(self, candidate: Candidate) -> bytes:
        """A request as JSON on one line."""
        return self._provider.encode(self._call(candidate)).body

    def worst_usd(self, candidate: Candidate, at: float) -> Decimal | None:
        """The most that a request can cost; None: unknown."""
        context = self._context.providers.context_tokens(self.target.provider_name, self.target.model)
        prompt = most_prompt_tokens(candidate.size, context)
        longest = longest_answer(candidate, self._context.providers)
        worst = worst_case(self.price(at), candidate.request, prompt, longest, _NO_TIMEOUT_S)
        return None if worst is None else worst.usd

    def price(self, at: float) -> Price | None:
        """The price of a batch that was created then: the tier's, else the usual one, with that as its doubt."""
        target, prices = self.target, self._context.accounting.prices
        return prices.price(target.provider_name, target.model, at, is_free=target.is_free, service_tier=TIER)

    def decode(self, line: AnswerLine, row: Row, at: float) -> Decoded:
        """What a line says about a row."""
        # Whether the target takes such a request is no question any more.
        candidate = self._unchecked(row)
        call, answer = self._call(candidate), Accumulator(made_by=self.target.name)
        error: LlamaClientError | None = None
        call.facts.sent, call.facts.http_status = True, line.status
        call.facts.provider_request_id = line.request_id
        try:
            answer.add(self._provider.decode(HttpAnswer(line.status or 0, {}, to_json(line.body), at), call))
            if not answer.is_complete:
                error = InvalidResponseError("the answer ended without a finish reason", http_status=line.status)
        except ProviderError as failure:
            failure.http_status = line.status
            failure.request_id = failure.request_id or line.request_id
            error = failure
        if error is not None and answer.usage is None and not answer.answer_bytes:
            return Decoded(answer, call.facts, error, None)

        def estimate() -> tuple[float, float]:
            return candidate.size.input_tokens, answer.answer_bytes / BYTES_PER_TOKEN

        return Decoded(answer, call.facts, error, counted(answer.usage or Usage(), estimate))

    def _unchecked(self, row: Row) -> Candidate:
        params: Mapping[str, Any] = {name: value for name, value in row.params.items() if name != "model"}
        request = check_request(params, stream=False)
        [candidate] = self._context.router.candidates([TargetList([self.target])], request)
        return candidate

    def _call(self, candidate: Candidate) -> ProviderCall:
        target = self.target
        call = ProviderCall(
            candidate.request, target.provider_name, target.model, "", None, AttemptFacts(), refused=candidate.refused
        )
        call.facts.warnings.extend(candidate.warnings)
        return call
