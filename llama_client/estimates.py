"""`client.count_tokens` and `client.estimate_cost`: answers before anything is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_client.types.estimate import CostEstimate, TokenCount

if TYPE_CHECKING:
    from llama_client.chat import CallContext
    from llama_client.routing.targets import Choice
    from llama_client.types.request import ChatRequest


def token_count(request: ChatRequest) -> TokenCount:
    """How many tokens the prompt of a checked request has."""
    from llama_client.routing.sizes import RequestSize

    size = RequestSize(request)
    return TokenCount(tokens=round(size.input_tokens), most_tokens=size.most_input_tokens)


def cost_estimate(context: CallContext, request: ChatRequest, choices: list[Choice]) -> CostEstimate:
    """What a checked request would cost with the first target that it would ask."""
    from llama_client.routing.purchases import longest_answer, worst_case

    router, providers = context.router, context.providers
    candidates = router.candidates(choices, request)
    may_drop = context.config.routing.drop_unsupported
    candidate = next((each for each in candidates if each.is_fit(may_drop=may_drop)), candidates[0])
    target, size = candidate.target, candidate.size
    price = router.prices.price(
        target.provider_name,
        target.model,
        context.clock.wall(),
        is_free=target.provider.is_free(target.model),
        service_tier=request.service_tier,
    )
    longest = longest_answer(candidate, providers.max_output_tokens, providers.context_tokens)
    timeout_s = context.config.routing.deadline_s if request.timeout is None else request.timeout
    worst = worst_case(price, candidate.request, size, longest, timeout_s)
    known: dict[str, Any] = {}
    if price is not None:
        known = {
            "usd": Decimal(0) if price.is_nothing else router.expected_usd(candidate),
            "most_usd": Decimal(0) if price.is_nothing else worst.usd if worst is not None else None,
            "status": "free" if price.is_nothing else "estimated",
            "source": price.origin.source,
        }
    return CostEstimate(
        target=target.name,
        input_tokens=round(size.input_tokens),
        output_tokens=round(size.output_tokens(candidate.health.usual_output_tokens)),
        **known,
    )
