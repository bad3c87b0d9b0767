"""Every error that leaves this package, in one tree.

    LlamaClientError                    always with .attempts (empty where nothing was tried)
    ├── ConfigError                     the configuration, or the `model` argument, names something that is not there
    ├── InvalidRequestError             caught before anything is sent; .param names the field
    ├── BudgetExceededError             a budget does not allow the call; its numbers are attributes
    ├── LocalOnlyError                  refused by `local_only`; .rule says by which of its rules, .source who wants it
    ├── MissingExtraError       an optional package is missing; .extra names what to install
    └── ProviderError                   one target failed; .retryable and .failover decide what happens next
        ├── AuthenticationError         the key is missing or refused
        ├── PermissionDeniedError       the key is good, but not for this
        ├── ModelNotFoundError          the provider does not have that model
        ├── ModelLoadError              a local model cannot be loaded; .path says which
        ├── ContextLengthError          the prompt is longer than the context; .prompt_tokens, .context_tokens
        ├── RequestTooLargeError        the request is more than the provider takes at once
        ├── RateLimitError              too many requests or tokens for now; .retry_after_s
        ├── QuotaExceededError          the account has no money or quota left
        ├── BadRequestError             the provider refused the request itself
        ├── UnsupportedFeatureError     the target cannot honour a parameter; .param names it
        ├── GenerationFailedError       what the model wrote is not what was asked for; .failed_generation
        ├── OverloadedError             the provider has no room right now
        ├── ServerError                 the provider broke
        ├── APIConnectionError          no answer, or none that was complete
        │   └── APITimeoutError         none in time
        ├── StreamInterruptedError      broke after text had arrived; .partial holds it
        ├── InvalidResponseError        the answer does not have the form of an answer
        └── AllTargetsFailedError       several targets were tried and none is left; .errors has each one's

Errors are data for the plan of attempts: `retryable` says that the same target may be tried again, `failover` that
another one may be. Both are set by class and may be overridden where a provider knows better. `blames_target` says, by
class, that the target itself is at fault (down, broken, gone) and not the request or the moment: enough of these in a
row, and the target is left alone for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from llama_client.types.completion import Attempt, ChatCompletion

LocalOnlyRule = Literal[
    "connection", "proxy", "remote_image", "cloud_model", "http_client", "key_command", "ledger", "pull", "redirect"
]
"""The rules of `local_only`, by names that stay: see `LocalOnlyError`."""
ConfigErrorReason = Literal["missing", "unreadable", "wrong"]
"""Why a configuration cannot be used: see `ConfigError`."""


class LlamaClientError(Exception):
    """The root of every error of this package.

    Attributes:
        attempts: What was tried before this was raised, in order; empty where nothing was.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.attempts: list[Attempt] = []


class ConfigError(LlamaClientError):
    """The configuration is wrong, or `model` names a provider or model that is not configured.

    Attributes:
        key: The dotted key that is at fault (`providers.laptop.n_ctx`), where there is one.
        file: The configuration's file that is at fault, where there is one.
        variable: The environment variable that is at fault, where there is one.
        reason: `missing`: there is no such file; `unreadable`: there is, and nothing of it can be read; `wrong`: what
            the configuration says is wrong.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        file: Path | None = None,
        variable: str | None = None,
        reason: ConfigErrorReason = "wrong",
    ) -> None:
        super().__init__(message)
        self.key = key
        self.file = file
        self.variable = variable
        self.reason: ConfigErrorReason = reason


class InvalidRequestError(LlamaClientError):
    """The request is wrong and nothing was sent.

    Attributes:
        param: The parameter at fault, with its place (`messages[1].role`).
    """

    def __init__(self, message: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BudgetExceededError(LlamaClientError):
    """A budget does not allow the call.

    Attributes:
        budget: Which: its scope and window.
        spent_usd: Settled in this window.
        reserved_usd: Held by calls that are under way.
        needed_usd: The worst case of this call.
        resets_at: When the window ends.
        max_tokens_that_fit: The longest answer that what is left could pay for.
    """

    def __init__(
        self,
        message: str = "",
        *,
        budget: str | None = None,
        spent_usd: Decimal | None = None,
        reserved_usd: Decimal | None = None,
        needed_usd: Decimal | None = None,
        resets_at: datetime | None = None,
        max_tokens_that_fit: int | None = None,
    ) -> None:
        super().__init__(message)
        self.budget = budget
        self.spent_usd = spent_usd
        self.reserved_usd = reserved_usd
        self.needed_usd = needed_usd
        self.resets_at = resets_at
        self.max_tokens_that_fit = max_tokens_that_fit


class LocalOnlyError(LlamaClientError):
    """`local_only` is on and this would have left the machine.

    Attributes:
        rule: Which of its rules forbids it.
            `connection`: a connection, or the lookup of a name, to what is neither this machine nor in
            `privacy.allow_hosts`.
            `proxy`: a provider's `proxy`.
            `remote_image`: an image behind an address, which somebody would have to fetch.
            `cloud_model`: a model that an Ollama server hands on to a cloud.
            `http_client`: an HTTP client of the caller's own, whose connections nobody here can judge.
            `key_command`: a provider's `api_key_command`, for the same reason.
            `ledger`: a database elsewhere.
            `pull`: a model that would have to be downloaded.
            `redirect`: what a server that was asked redirects to, wherever that is.
        source: What switched `local_only` on: `local_only=True` (the argument), `LLAMA_CLIENT_LOCAL_ONLY` (the
            variable), the path of a file, or `config` (a dict or a `Config`); None where that is not known.
    """

    def __init__(self, message: str = "", *, rule: LocalOnlyRule = "connection", source: str | None = None) -> None:
        super().__init__(message)
        self.rule: LocalOnlyRule = rule
        self.source = source


class MissingExtraError(LlamaClientError):
    """A provider needs a package that is not installed.

    Attributes:
        extra: The extra that brings it: `pip install "llama-client[EXTRA]"`.
    """

    def __init__(self, message: str = "", *, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


class ProviderError(LlamaClientError):
    """One target failed.

    Attributes:
        provider: The provider's name in the configuration.
        target: `provider/model`.
        http_status: The status of the provider's answer; None where none came.
        provider_code: The provider's own code for the failure.
        request_id: The provider's id of the request.
        retryable: The same target may be tried again.
        failover: Another target may be tried.
        retry_after_s: The wait that the provider asked for, in seconds.
        body: The provider's error body, parsed where it was JSON.
    """

    retryable_by_default: ClassVar[bool] = False
    failover_by_default: ClassVar[bool] = True
    blames_target: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        target: str | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        failover: bool | None = None,
        retry_after_s: float | None = None,
        body: object = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.target = target
        self.http_status = http_status
        self.provider_code = provider_code
        self.request_id = request_id
        self.retryable: bool = self.retryable_by_default if retryable is None else retryable
        self.failover: bool = self.failover_by_default if failover is None else failover
        self.retry_after_s = retry_after_s
        self.body = body


class AuthenticationError(ProviderError):
    """The key is missing, wrong or expired."""

    blames_target = True


class PermissionDeniedError(ProviderError):
    """The key is good, but not for this model or action."""

    blames_target = True


class ModelNotFoundError(ProviderError):
    """The provider does not have that model, or no longer."""

    blames_target = True


class ModelLoadError(ProviderError):
    """A local model, or an adapter of it, cannot be loaded.

    Attributes:
        path: The file at fault.
    """

    blames_target = True

    def __init__(self, message: str = "", *, path: str | None = None, target: str | None = None) -> None:
        super().__init__(message, target=target)
        self.path = path


class ContextLengthError(ProviderError):
    """The prompt does not fit the model's context.

    Attributes:
        prompt_tokens: The tokens of the prompt, where the provider says.
        context_tokens: The tokens that fit, where the provider says.
    """

    def __init__(
        self,
        message: str = "",
        *,
        prompt_tokens: int | None = None,
        context_tokens: int | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        body: object = None,
    ) -> None:
        super().__init__(message, http_status=http_status, provider_code=provider_code, body=body)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class RequestTooLargeError(ProviderError):
    """The request is more than the provider takes at once; waiting does not help."""


class RateLimitError(ProviderError):
    """Too many requests or tokens for now; `retry_after_s` is the wait that the provider asked for."""

    retryable_by_default = True


class QuotaExceededError(ProviderError):
    """The account has no money or quota left."""

    blames_target = True


class BadRequestError(ProviderError):
    """The provider refused the request itself; another target would too."""

    failover_by_default = False


class UnsupportedFeatureError(ProviderError):
    """The target cannot honour a parameter.

    Attributes:
        param: The parameter.
    """

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        target: str | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        body: object = None,
    ) -> None:
        super().__init__(message, target=target, http_status=http_status, provider_code=provider_code, body=body)
        self.param = param


class GenerationFailedError(ProviderError):
    """What the model wrote is not what was asked for: a broken tool call, or an answer that misses its schema.

    Attributes:
        failed_generation: What it wrote.
    """

    retryable_by_default = True

    def __init__(
        self,
        message: str = "",
        *,
        failed_generation: str | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        retryable: bool | None = None,
        body: object = None,
    ) -> None:
        super().__init__(message, http_status=http_status, provider_code=provider_code, retryable=retryable, body=body)
        self.failed_generation = failed_generation


class OverloadedError(ProviderError):
    """The provider has no room for the request right now."""

    retryable_by_default = True
    blames_target = True


class ServerError(ProviderError):
    """The provider broke while working on the request."""

    retryable_by_default = True
    blames_target = True


class APIConnectionError(ProviderError):
    """No answer came, or the connection broke before one was complete."""

    retryable_by_default = True
    blames_target = True


class APITimeoutError(APIConnectionError):
    """No answer came in time."""


class StreamInterruptedError(ProviderError):
    """A stream broke after text had been handed over, so nothing may be tried again silently.

    Attributes:
        partial: What had arrived, as a `ChatCompletion`.
    """

    failover_by_default = False
    blames_target = True

    def __init__(
        self,
        message: str = "",
        *,
        partial: ChatCompletion | None = None,
        provider: str | None = None,
        target: str | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        body: object = None,
    ) -> None:
        super().__init__(
            message,
            provider=provider,
            target=target,
            http_status=http_status,
            provider_code=provider_code,
            body=body,
        )
        self.partial = partial


class InvalidResponseError(ProviderError):
    """What the provider sent does not have the form of an answer."""

    retryable_by_default = True
    blames_target = True


class AllTargetsFailedError(ProviderError):
    """Several targets were tried and none is left; raised from the last one's error.

    Attributes:
        errors: Each target's last error, in the order of the targets.
    """

    def __init__(self, message: str = "", *, errors: Sequence[LlamaClientError] = ()) -> None:
        super().__init__(message)
        self.errors: list[LlamaClientError] = list(errors)
