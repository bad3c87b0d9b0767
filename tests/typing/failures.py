"""Errors as users catch them, each with what it tells, checked by mypy and pyright: never run."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, assert_type

from llama_client import (
    AllTargetsFailedError,
    APIConnectionError,
    APITimeoutError,
    Attempt,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ChatCompletion,
    ConfigError,
    ContextLengthError,
    GenerationFailedError,
    InvalidRequestError,
    InvalidResponseError,
    LlamaClient,
    LlamaClientError,
    LocalOnlyError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PluginError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)


def before_anything_is_sent(client: LlamaClient) -> None:
    try:
        client.ask("hi")
    except PluginError as error:
        assert_type(error.package, str)
        assert_type(error.provider, str)
    except ConfigError as error:
        assert_type(error.key, str | None)
        assert_type(error.file, Path | None)
        assert_type(error.variable, str | None)
        assert_type(error.reason, Literal["missing", "unreadable", "wrong"])
    except InvalidRequestError as error:
        assert_type(error.param, str | None)
    except BudgetExceededError as error:
        assert_type(error.budget, str | None)
        assert_type(error.spent_usd, Decimal | None)
        assert_type(error.reserved_usd, Decimal | None)
        assert_type(error.needed_usd, Decimal | None)
        assert_type(error.resets_at, datetime | None)
        assert_type(error.max_tokens_that_fit, int | None)
    except LocalOnlyError as error:
        assert_type(
            error.rule,
            Literal[
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
            ],
        )
        assert_type(error.source, str | None)
    except MissingExtraError as error:
        assert_type(error.extra, str | None)
    except LlamaClientError as error:
        assert_type(error.attempts, list[Attempt])


def of_a_provider(client: LlamaClient) -> None:
    try:
        client.ask("hi")
    except AllTargetsFailedError as error:
        assert_type(error.errors, list[LlamaClientError])
    except ContextLengthError as error:
        assert_type(error.prompt_tokens, int | None)
        assert_type(error.context_tokens, int | None)
    except GenerationFailedError as error:
        assert_type(error.failed_generation, str | None)
    except ModelLoadError as error:
        assert_type(error.path, str | None)
    except UnsupportedFeatureError as error:
        assert_type(error.param, str | None)
        assert_type(error.is_lasting, bool)
    except APIConnectionError as error:
        assert_type(error.is_unreached, bool)
    except StreamInterruptedError as error:
        assert_type(error.partial, ChatCompletion | None)
    except RateLimitError as error:
        assert_type(error.retry_after_s, float | None)
    except ProviderError as error:
        assert_type(error.provider, str | None)
        assert_type(error.target, str | None)
        assert_type(error.http_status, int | None)
        assert_type(error.provider_code, str | None)
        assert_type(error.request_id, str | None)
        assert_type(error.retryable, bool)
        assert_type(error.failover, bool)
        assert_type(error.body, object)


def is_worth_a_second_try(error: LlamaClientError) -> bool:
    match error:
        case APITimeoutError() | APIConnectionError() | OverloadedError() | ServerError() | InvalidResponseError():
            return error.retryable
        case AuthenticationError() | PermissionDeniedError() | QuotaExceededError() | ModelNotFoundError():
            return error.failover
        case BadRequestError() | RequestTooLargeError():
            return False
        case ProviderError():
            return error.retryable_by_default and error.failover_by_default and not error.blames_target
        case _:
            return False
