"""One chat-completions interface over hosted, local and in-process language models.

from llama_client import LlamaClient

with LlamaClient() as client:
    print(client.ask("Why do llamas hum?").text)
"""

from typing import TYPE_CHECKING, Any

from llama_client.client import AsyncLlamaClient, LlamaClient
from llama_client.errors import (
    AllTargetsFailedError,
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigError,
    ContextLengthError,
    GenerationFailedError,
    InvalidRequestError,
    InvalidResponseError,
    JobError,
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
from llama_client.models import ModelInfo, ProviderInfo
from llama_client.streams import AsyncChatStream, ChatStream
from llama_client.types.completion import (
    Attempt,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    Cost,
    Message,
    Source,
    TargetHealth,
    Timing,
    ToolCall,
    Usage,
)
from llama_client.version import __version__

if TYPE_CHECKING:
    from llama_client.bulk.api import AsyncBulk, Bulk
    from llama_client.bulk.planning.quotes import BulkPlan, VenueQuote
    from llama_client.bulk.receipt import BulkProgress, BulkReceipt, VenueReceipt
    from llama_client.bulk.results import BulkResult
    from llama_client.config.load import load_config
    from llama_client.config.schema import Config
    from llama_client.types.report import (
        BudgetState,
        CostEstimate,
        CostGroup,
        CostReport,
        DayCosts,
        TokenCount,
        TrafficReport,
    )
    from llama_client.types.request import AskParams, CreateParams, ParseParams

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AllTargetsFailedError",
    "AskParams",
    "AsyncBulk",
    "AsyncChatStream",
    "AsyncLlamaClient",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "BudgetState",
    "Bulk",
    "BulkPlan",
    "BulkProgress",
    "BulkReceipt",
    "BulkResult",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatStream",
    "Choice",
    "Config",
    "ConfigError",
    "ContextLengthError",
    "Cost",
    "CostEstimate",
    "CostGroup",
    "CostReport",
    "CreateParams",
    "DayCosts",
    "GenerationFailedError",
    "InvalidRequestError",
    "InvalidResponseError",
    "JobError",
    "LlamaClient",
    "LlamaClientError",
    "LocalOnlyError",
    "Message",
    "MissingExtraError",
    "ModelInfo",
    "ModelLoadError",
    "ModelNotFoundError",
    "OverloadedError",
    "ParseParams",
    "PermissionDeniedError",
    "PluginError",
    "ProviderError",
    "ProviderInfo",
    "QuotaExceededError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServerError",
    "Source",
    "StreamInterruptedError",
    "TargetHealth",
    "Timing",
    "TokenCount",
    "ToolCall",
    "TrafficReport",
    "UnsupportedFeatureError",
    "Usage",
    "VenueQuote",
    "VenueReceipt",
    "__version__",
    "load_config",
]


# What not every program needs, and where it is: each takes a millisecond or more to import.
_LATER = {
    **dict.fromkeys(("AsyncBulk", "Bulk"), "llama_client.bulk.api"),
    **dict.fromkeys(("BulkProgress", "BulkReceipt", "VenueReceipt"), "llama_client.bulk.receipt"),
    "BulkResult": "llama_client.bulk.results",
    **dict.fromkeys(("BulkPlan", "VenueQuote"), "llama_client.bulk.planning.quotes"),
    "Config": "llama_client.config.schema",
    "load_config": "llama_client.config.load",
    **dict.fromkeys(("AskParams", "CreateParams", "ParseParams"), "llama_client.types.request"),
    **dict.fromkeys(
        ("BudgetState", "CostEstimate", "CostGroup", "CostReport", "DayCosts", "TokenCount", "TrafficReport"),
        "llama_client.types.report",
    ),
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return __all__
