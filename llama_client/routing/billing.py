"""What the attempts of one call cost, and what each settles its budget with."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from llama_client.clock import Clock
from llama_client.costs.bills import (
    BYTES_PER_TOKEN,
    Tokens,
    cost_of_time,
    cost_of_tokens,
    counted,
    nothing_charged,
    total,
)
from llama_client.costs.prices import FREE, HourPrice, PriceBook
from llama_client.errors import (
    APIConnectionError,
    GenerationFailedError,
    InvalidResponseError,
    LlamaClientError,
    ProviderError,
)
from llama_client.routing.trial import Trial
from llama_client.types.attempt import AttemptOutcome
from llama_client.types.cost import Cost

if TYPE_CHECKING:
    from llama_client.costs.prices import Price


class Billing:
    """One call's bill.

    Args:
        prices: Whose price holds.
        at: When the call began, in seconds since the Unix epoch: it is priced by its own day, however long it takes.
        clock: The time.
    """

    def __init__(self, prices: PriceBook, at: float, clock: Clock) -> None:
        self._prices = prices
        self._at = at
        self._clock = clock
        self._charged: list[Cost] = []

    def bill(
        self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        """The tokens that are charged for, and what they cost; None: none are, or it was never sent.

        What it may have set aside is settled, and a machine's time ends.
        """
        tokens, cost = self._charged_for(trial, outcome, error)
        if trial.reservation is not None:
            trial.reservation.settle(_settled(cost, tokens))
        return tokens, cost

    def total(self, trial: Trial) -> Cost:
        """What the call has cost so far, of which this is the last attempt."""
        # While it goes on, nothing is known of what costs anything at all.
        return total(self._charged or [cost_of_tokens(FREE, Tokens(0, 0)) if self._price(trial) is FREE else Cost()])

    def _charged_for(
        self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None
    ) -> tuple[Tokens | None, Cost | None]:
        use, machine_s = trial.machine_use, 0.0
        if use is not None:
            machine_s = use.machine.end(use.began, self._clock.monotonic())
        if not trial.facts.sent:
            return None, None
        price, is_worked_on = self._price(trial), _was_worked_on(trial, outcome, error)
        tokens = self._tokens(trial, outcome, error) if is_worked_on else None
        if isinstance(price, HourPrice):
            cost = cost_of_time(price, machine_s, self._reading_share(trial))
        elif tokens is not None:
            cost = cost_of_tokens(price, tokens)
        else:
            return None, nothing_charged("local" if price is FREE else "it was refused")
        self._charged.append(cost)
        if price is not None and not isinstance(price, HourPrice):
            for doubt in (price.origin.doubt, price.origin.warning):
                if doubt is not None:
                    trial.facts.warn(f"cost: {doubt}")
        return tokens, cost

    def _price(self, trial: Trial) -> Price | None:
        target = trial.target
        return self._prices.price(
            target.provider_name,
            target.model,
            self._at,
            is_free=target.provider.is_free(target.model),
            service_tier=trial.fold.service_tier or trial.call.request.service_tier,
        )

    def _tokens(self, trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None) -> Tokens:
        usage, fold = trial.fold.usage, trial.fold
        if usage is not None:
            # Some count along while they answer: where an answer did not come to its end, that is not the whole.
            is_whole = outcome == "ok" or fold.is_complete
            # No prompt has no tokens at all, and no answer that has something in it.
            has_count = bool(usage.completion_tokens) or not fold.answer_bytes
            if not (is_whole and has_count and usage.prompt_tokens):
                answer = usage.completion_tokens if is_whole and has_count else None
                known = {"prompt_tokens": usage.prompt_tokens or None, "completion_tokens": answer}
                usage = usage.model_copy(update=known)
        return counted(usage, lambda: self._guessed(trial, error))

    def _guessed(self, trial: Trial, error: LlamaClientError | None) -> tuple[float, float]:
        """The tokens of an attempt whose tokens nobody has counted: of the prompt, and of what was generated."""
        generated = float(trial.fold.answer_bytes)
        if isinstance(error, GenerationFailedError) and not generated:
            generated = float(len((error.failed_generation or "").encode("utf-8", "replace")))
        size = trial.candidate.size
        if not generated and not trial.call.request.stream:
            # Whoever makes a whole answer has made it, or some of it, without a word.
            return size.input_tokens, size.output_tokens(trial.candidate.health.usual_output_tokens)
        return size.input_tokens, generated / BYTES_PER_TOKEN

    def _reading_share(self, trial: Trial) -> float:
        """Which part of an attempt passed before its first content."""
        took_s = self._clock.monotonic() - trial.started_at
        return trial.ttft_s / took_s if trial.call.request.stream and trial.ttft_s is not None and took_s > 0 else 0.0


def _settled(cost: Cost | None, tokens: Tokens | None) -> Decimal | None:
    """What a budget is charged with; None: nobody knows for sure, so the worst case."""
    if cost is None:
        return Decimal(0)
    return None if tokens is not None and tokens.are_estimated else cost.usd


def _was_worked_on(trial: Trial, outcome: AttemptOutcome, error: LlamaClientError | None) -> bool:
    """Whether an attempt that was sent is charged for: all are, but those that were refused."""
    if outcome != "error" or trial.fold.usage is not None or trial.fold.has_content:
        return outcome != "skipped"
    if isinstance(error, GenerationFailedError):
        return True
    status = trial.facts.http_status
    if status is None and isinstance(error, ProviderError):
        status = error.http_status
    # Without a status nobody knows how far it had come. An error in the place of an answer is a refusal; an answer that
    # broke off, or cannot be read, is one that was made.
    return status is None or (status < 400 and isinstance(error, InvalidResponseError | APIConnectionError))
