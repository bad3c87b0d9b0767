"""The tables of routing: routes, what failover does, and the user's own prices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from llama_client.config.accounting import PositiveUsd, Usd
from llama_client.config.providers import Seconds
from llama_client.config.tables import ConfigTable, Name
from llama_client.validation import broken_rule, quoted, suggestion

Policy = Literal["ordered", "cheapest", "fastest", "weighted"]

# What shapes the answer itself (tools, its form, how many) is the call's to say, and must be the same wherever it goes.
_TARGET_PARAMS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "logit_bias", "parallel_tool_calls", "reasoning_effort", "reasoning_format", "service_tier",
    "user", "extra_body",
)  # fmt: skip
_NOBODY_ASKS = [{"role": "user", "content": "?"}]


# A million dollars for a million tokens: more is a slip of the pen.
_Price = Annotated[Usd, Field(le=1_000_000)]


def is_target(target: str) -> str:
    """Checks that a text is `provider/model-id`."""
    if not all(target.partition("/")):
        raise broken_rule("", f"must be 'provider/model-id', got {quoted(target)}")
    return target


def _checked_params(params: object) -> object:
    """Parameters as a call could have given them, in the form that a checked request holds."""
    if not isinstance(params, Mapping):
        raise broken_rule("", "must be a table of parameters")
    for name in params:
        if name not in _TARGET_PARAMS:
            raise broken_rule(str(name), f"is no parameter of a target{suggestion(str(name), _TARGET_PARAMS)}")
    # Building the request's schema takes as long as importing the package, so it waits until somebody needs it.
    from llama_client.errors import InvalidRequestError
    from llama_client.types.request import check_request

    try:
        request = check_request({"messages": _NOBODY_ASKS, **params}, stream=False)
    except InvalidRequestError as error:
        raise broken_rule("", str(error)) from None
    return {name: getattr(request, name) for name in params if getattr(request, name) is not None}


class RouteTarget(ConfigTable):
    """One target of a route.

    Attributes:
        target: `provider/model-id`, or a name that the catalogue knows.
        weight: Its share under the policy `weighted`; 0: only after all others.
        params: Parameters for this target where the call itself does not give them.
    """

    target: Name
    weight: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] = 1.0
    params: Annotated[dict[str, Any], BeforeValidator(_checked_params)] = Field(default_factory=dict)


def _as_table(target: object) -> object:
    return {"target": target} if isinstance(target, str) else target


class Route(ConfigTable):
    """A named list of targets, and how they are ordered.

    Attributes:
        targets: Who may answer: texts, or tables with `weight` and `params`.
        policy: `ordered` (as written), `cheapest` (expected cost of the request at hand), `fastest` (as measured by
            this client), `weighted` (at random, by `weight`).
        max_price_usd: Targets whose expected cost of a call is more, or unknown, are skipped; absent: no limit.
    """

    targets: Annotated[tuple[Annotated[RouteTarget, BeforeValidator(_as_table)], ...], Field(min_length=1)]
    policy: Policy = "ordered"
    max_price_usd: PositiveUsd | None = None


class Routing(ConfigTable):
    """What failover does.

    Attributes:
        retries: How often a target is asked again after a failure that may pass.
        deadline_s: The seconds that a call may take in all; a stream, until its first content. A call's own `timeout`
            replaces it.
        first_content_s: How long one attempt of a stream may take to its first content.
        stall_s: How long a stream may pause between chunks.
        breaker_failures: After that many failures in a row a target is left alone.
        breaker_cooldown_s: For that long; then exactly one call tries it.
        hedge_after_s: Ask the next target too where the first has not answered by then; absent: never.
        on_interrupt: `continue`: another target goes on from what has arrived where a stream breaks off; absent: the
            break is raised.
        drop_unsupported: Leave out what a target cannot honour, with a warning, instead of skipping the target.
    """

    retries: Annotated[int, Field(strict=True, ge=0, le=100)] = 2
    deadline_s: Seconds = 120.0
    first_content_s: Seconds = 30.0
    stall_s: Seconds = 60.0
    breaker_failures: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 3
    breaker_cooldown_s: Seconds = 30.0
    hedge_after_s: Seconds | None = None
    on_interrupt: Literal["continue"] | None = None
    drop_unsupported: StrictBool = False


class PriceRow(ConfigTable):
    """A price of the user's own; it wins over every other source.

    Attributes:
        target: `provider/model-id`.
        input_usd_per_mtok: US dollars per million tokens of the prompt.
        output_usd_per_mtok: US dollars per million tokens of the answer.
        cached_usd_per_mtok: US dollars per million tokens of the prompt that were cached; absent: as the others.
        service_tier: The tier that it is the price of, as the provider's answers name it; absent: of every tier that
            has no row of its own.
        effective_from: The first day on which it holds; absent: always.
        effective_until: The first day on which it no longer does.
    """

    target: Annotated[Name, AfterValidator(is_target)]
    input_usd_per_mtok: _Price
    output_usd_per_mtok: _Price
    cached_usd_per_mtok: _Price | None = None
    service_tier: Name | None = None
    effective_from: date | None = None
    effective_until: date | None = None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> PriceRow:
        if self.effective_from and self.effective_until and self.effective_from >= self.effective_until:
            raise broken_rule("effective_until", "must be after effective_from")
        return self

    def holds_on(self, day: date) -> bool:
        """Whether it is the price of that day.

        Args:
            day: In the configuration's time zone.
        """
        return (self.effective_from is None or self.effective_from <= day) and (
            self.effective_until is None or day < self.effective_until
        )
