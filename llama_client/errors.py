"""Every error of this package, in one tree.

    LlamaClientError                    always with .attempts (empty if there was none)
    ├── ConfigError                     the configuration is wrong, or `model` names something that is not configured
    │   └── PluginError                 an installed package adds a provider that cannot be used; .package names it
    ├── InvalidRequestError             found before anything is sent; .param names the field
    ├── BudgetExceededError             a budget does not allow the call; its numbers are attributes
    ├── LocalOnlyError                  refused by `local_only`; .rule names the rule, .source what switched it on
    ├── JobError                        a bulk job cannot start or go on; .folder and .where say which and where
    ├── MissingExtraError               an optional package is not installed; .extra names the extra
    └── ProviderError                   one target failed; .retryable and .failover decide what happens next
        ├── AuthenticationError         the API key is missing or refused
        ├── PermissionDeniedError       the key is valid, but not for this model or action
        ├── ModelNotFoundError          the provider does not have the model
        ├── ModelLoadError              a local model cannot be loaded; .path names the file
        ├── ContextLengthError          the prompt is longer than the context; .prompt_tokens, .context_tokens
        ├── RequestTooLargeError        the request is larger than the provider accepts
        ├── RateLimitError              too many requests or tokens for now; .retry_after_s
        ├── QuotaExceededError          the account has no credit or quota left
        ├── BadRequestError             the provider refused the request as invalid
        ├── UnsupportedFeatureError     the target cannot honour a parameter; .param names it
        ├── GenerationFailedError       the model's output is not what was asked for; .failed_generation
        ├── OverloadedError             the provider has no capacity right now
        ├── ServerError                 the provider failed internally
        ├── APIConnectionError          no response, or an incomplete one
        │   └── APITimeoutError         not complete in time
        ├── StreamInterruptedError      a stream broke after its first content; .partial holds the text
        ├── InvalidResponseError        the response is not valid
        └── AllTargetsFailedError       several targets were tried and none is left; .errors has each one's

Errors are data for the router: `retryable` allows another attempt at the same target, `failover` an attempt at another
one. Both have defaults by class, which a provider may override. `blames_target`, by class, counts the error as a
failure of the target itself (down, broken, gone) and not of the request or the moment: enough consecutive ones open its
circuit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypedDict, Unpack

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from llama_client.types.completion import Attempt, ChatCompletion

LocalOnlyRule = Literal[
    "connection",
    "proxy",
    "remote_image",
    "cloud_model",
    "http_client",
    "key_command",
    "ledger",
    "pull",
    "redirect",
    "cache",
]
"""The rules of `local_only`, by stable names: see `LocalOnlyError`."""
ConfigErrorReason = Literal["missing", "unreadable", "wrong"]
"""Why a configuration cannot be used: see `ConfigError`."""


class LlamaClientError(Exception):
    """The root of every error of this package.

    Attributes:
        attempts: The attempts before the error, in order; empty if there was none.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.attempts: list[Attempt] = []

    def __copy__(self) -> Self:
        # Without `__init__`, which a class of another package may give arguments of its own, and without the traceback.
        same = type(self).__new__(type(self), *self.args)
        same.__dict__.update(self.__dict__)
        return same


class ConfigError(LlamaClientError):
    """The configuration is wrong, or `model` names a provider or model that is not configured.

    Attributes:
        key: The dotted key at fault (`providers.laptop.n_ctx`); None: unknown.
        file: The configuration file at fault; None: not a file.
        variable: The environment variable at fault; None: not a variable.
        reason: `missing`: the file does not exist; `unreadable`: it exists and cannot be read; `wrong`: its content is
            wrong.
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


class PluginError(ConfigError):
    """An installed package adds a provider (entry point `llama_client.providers`) that cannot be used.

    Attributes:
        package: The package that adds it.
        provider: The name under which it does.
    """

    def __init__(self, message: str = "", *, package: str = "", provider: str = "") -> None:
        super().__init__(message)
        self.package = package
        self.provider = provider


class InvalidRequestError(LlamaClientError):
    """The request is invalid, and nothing was sent.

    Attributes:
        param: The parameter at fault, with its place (`messages[1].role`); None: not a single one.
    """

    def __init__(self, message: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BudgetExceededError(LlamaClientError):
    """A budget does not allow the call. Amounts are in US dollars; None: unknown.

    Attributes:
        budget: The budget's scope and window.
        spent_usd: Settled in this window.
        reserved_usd: Reserved for calls in flight.
        needed_usd: The worst-case cost of this call.
        resets_at: The end of the window.
        max_tokens_that_fit: The largest `max_tokens` that the remaining amount allows.
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
    """`local_only` is on, and the action would have left this machine.

    Attributes:
        rule: The rule that forbids it.
            `connection`: a connection to (or the lookup of) a host that is neither this machine nor in
            `privacy.allow_hosts`.
            `proxy`: a provider's `proxy`.
            `remote_image`: an image behind an address, which would have to be fetched.
            `cloud_model`: a model that an Ollama server forwards to a cloud.
            `http_client`: the caller's own HTTP client, whose connections cannot be checked.
            `key_command`: a provider's `api_key_command`, for the same reason.
            `ledger`: a database on another machine.
            `cache`: the same for the database of `[cache]`.
            `pull`: a model that would have to be downloaded.
            `redirect`: a server's redirect, to any address.
        source: What switched `local_only` on: `local_only=True` (the argument), `LLAMA_CLIENT_LOCAL_ONLY` (the
            variable), the path of a file, or `config` (a dict or a `Config`); None: unknown.
    """

    def __init__(self, message: str = "", *, rule: LocalOnlyRule = "connection", source: str | None = None) -> None:
        super().__init__(message)
        self.rule: LocalOnlyRule = rule
        self.source = source


class JobError(LlamaClientError):
    """A bulk job cannot start or go on: its folder is in use or of another job, or its input has changed.

    Attributes:
        folder: The job's folder; None: it has none.
        where: The place in the input (`tickets.csv, line 3`); None: it is not about a row.
    """

    def __init__(self, message: str = "", *, folder: Path | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.folder = folder
        self.where = where


class MissingExtraError(LlamaClientError):
    """An optional package is not installed: a provider's, a database driver, for plots or for telemetry.

    Attributes:
        extra: The extra that installs it: `pip install "llama-client[EXTRA]"`.
    """

    def __init__(self, message: str = "", *, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


class _ProviderErrorFields(TypedDict, total=False):
    """What every `ProviderError` takes by keyword; its attributes of the same names describe them."""

    provider: str | None
    target: str | None
    http_status: int | None
    provider_code: str | None
    request_id: str | None
    retryable: bool | None
    failover: bool | None
    retry_after_s: float | None
    body: object


class ProviderError(LlamaClientError):
    """One target failed.

    Attributes:
        provider: The provider's name in the configuration.
        target: `provider/model`.
        http_status: The status of the response; None: there was none.
        provider_code: The provider's own code for the failure.
        request_id: The provider's id of the request.
        retryable: Whether the same target may be tried again.
        failover: Whether another target may be tried.
        retry_after_s: The wait that the provider asked for, in seconds.
        body: The provider's error body, parsed if it was JSON.
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
    """The API key is missing, wrong or expired."""

    blames_target = True


class PermissionDeniedError(ProviderError):
    """The key is valid, but not for this model or action."""

    blames_target = True


class ModelNotFoundError(ProviderError):
    """The provider does not have the model, or no longer."""

    blames_target = True


class ModelLoadError(ProviderError):
    """A local model or its adapter cannot be loaded.

    Attributes:
        path: The file at fault.
    """

    blames_target = True

    def __init__(self, message: str = "", *, path: str | None = None, **fields: Unpack[_ProviderErrorFields]) -> None:
        super().__init__(message, **fields)
        self.path = path


class ContextLengthError(ProviderError):
    """The prompt does not fit into the model's context.

    Attributes:
        prompt_tokens: The tokens of the prompt; None: the provider did not report them.
        context_tokens: The tokens that fit; None: the provider did not report them.
    """

    def __init__(
        self,
        message: str = "",
        *,
        prompt_tokens: int | None = None,
        context_tokens: int | None = None,
        **fields: Unpack[_ProviderErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class RequestTooLargeError(ProviderError):
    """The request is larger than the provider accepts; waiting does not help."""


class RateLimitError(ProviderError):
    """Too many requests or tokens for now; `retry_after_s` is the wait that the provider asked for."""

    retryable_by_default = True


class QuotaExceededError(ProviderError):
    """The account has no credit or quota left."""

    blames_target = True


class BadRequestError(ProviderError):
    """The provider refused the request as invalid; another target would too."""

    failover_by_default = False


class UnsupportedFeatureError(ProviderError):
    """The target cannot honour a parameter.

    Attributes:
        param: The parameter.
        is_lasting: Whether the target has refused it whatever its value is. It is remembered for a while either way.
    """

    def __init__(
        self,
        message: str = "",
        *,
        param: str | None = None,
        is_lasting: bool = False,
        **fields: Unpack[_ProviderErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        self.param = param
        self.is_lasting = is_lasting


class GenerationFailedError(ProviderError):
    """The model's output is not what was asked for: a broken tool call, or an answer that does not fit its schema.

    Attributes:
        failed_generation: The output.
    """

    retryable_by_default = True

    def __init__(
        self, message: str = "", *, failed_generation: str | None = None, **fields: Unpack[_ProviderErrorFields]
    ) -> None:
        super().__init__(message, **fields)
        self.failed_generation = failed_generation


class OverloadedError(ProviderError):
    """The provider has no capacity for the request right now."""

    retryable_by_default = True
    blames_target = True


class ServerError(ProviderError):
    """The provider failed while working on the request."""

    retryable_by_default = True
    blames_target = True


class APIConnectionError(ProviderError):
    """No response came, or the connection was lost before it was complete.

    Attributes:
        is_unreached: Whether there was no connection: refused, no such host, TLS failed, or not made in time.
    """

    retryable_by_default = True
    blames_target = True

    def __init__(
        self, message: str = "", *, is_unreached: bool = False, **fields: Unpack[_ProviderErrorFields]
    ) -> None:
        super().__init__(message, **fields)
        self.is_unreached = is_unreached


class APITimeoutError(APIConnectionError):
    """The answer was not complete (a stream: not begun, or stalled) in time."""


class StreamInterruptedError(ProviderError):
    """A stream broke after its first content was delivered, so it is not retried silently.

    Attributes:
        partial: The content so far, as a `ChatCompletion`.
    """

    failover_by_default = False
    blames_target = True

    def __init__(
        self, message: str = "", *, partial: ChatCompletion | None = None, **fields: Unpack[_ProviderErrorFields]
    ) -> None:
        super().__init__(message, **fields)
        self.partial = partial


class InvalidResponseError(ProviderError):
    """The provider's response is not valid."""

    retryable_by_default = True
    blames_target = True


class AllTargetsFailedError(ProviderError):
    """Several targets were tried and none is left; the last target's error is its `__cause__`.

    Attributes:
        errors: Each target's last error, in the order of the targets.
    """

    def __init__(self, message: str = "", *, errors: Sequence[LlamaClientError] = ()) -> None:
        super().__init__(message)
        self.errors: list[LlamaClientError] = list(errors)
