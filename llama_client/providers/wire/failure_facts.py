"""How servers tell failures: the table from which an error's class is read. Data, with its sources.

A server that tells something in a new way is a new row, or a phrase or code in one. The first row that matches decides:
codes first, as they are specific; then phrases, which count only under statuses that say little; then statuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_client.errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    GenerationFailedError,
    InvalidResponseError,
    ModelLoadError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    UnsupportedFeatureError,
)

# What stands for the status of an error inside a response that began with success, or outside of HTTP.
NO_STATUS = 0
_NO_STATUS = frozenset({NO_STATUS})
# Statuses that servers use for failures of many kinds, so that their words decide.
_VAGUE = frozenset({NO_STATUS, 400, 403, 404, 405, 406, 410, 413, 415, 422, 424, 500, 501, 502, 503})
_NO_PATH = frozenset({404, 405})


@dataclass(frozen=True, slots=True)
class Fact:
    """One way to tell a failure. It matches where everything that it names does.

    Attributes:
        means: The class of the error.
        codes: Any of these is a code, type or status that the server names, in lower case.
        phrases: Any of these is in the message, in lower case; `*` stands for any text, `^` and `$` for its two ends.
        statuses: Any of these is the status; None: of a row with phrases the vague ones, else any.
        is_text: The body is text or empty, instead of JSON.
        param: The parameter that the target cannot honour; None: what the server names.
        is_lasting: The target refuses that parameter whatever its value is.
        failover: Whether another target may be tried, where that differs from the class's default.
        is_filter: A content filter refused the prompt or cut the answer.
        source: The server, and its version or documentation or who reported it, with the date.
    """

    means: type[ProviderError]
    codes: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    statuses: frozenset[int] | None = None
    is_text: bool = False
    param: str | None = None
    is_lasting: bool = False
    failover: bool | None = None
    is_filter: bool = False
    source: str = ""

    def matches(self, status: int, names: Sequence[str], words: str, *, is_text: bool) -> bool:
        """Whether a failure is of this kind.

        Args:
            status: The status; `NO_STATUS`: none.
            names: Its codes, types and statuses, in lower case.
            words: Its message, in lower case.
            is_text: Whether the body is no JSON.
        """
        statuses = self.statuses if self.statuses is not None or not self.phrases else _VAGUE
        return (
            (statuses is None or status in statuses)
            and (not self.codes or not self.codes.isdisjoint(names))
            and (not self.phrases or any(_says(phrase, words) for phrase in self.phrases))
            and (is_text or not self.is_text)
        )


def fact_of(status: int, names: Sequence[str], words: str, *, is_text: bool) -> Fact:
    """The row of a failure; see `Fact.matches`."""
    found = next((row for row in FACTS if row.matches(status, names, words, is_text=is_text)), None)
    return found or (_SERVER if status >= 500 or status < 400 else _REQUEST)


def _says(phrase: str, words: str) -> bool:
    """Whether the parts of a phrase occur in this order; in time that is linear in the words."""
    first, *more = phrase.removeprefix("^").removesuffix("$").split("*")
    at = (0 if words.startswith(first) else -1) if phrase.startswith("^") else words.find(first)
    end = at + len(first)
    for part in more:
        at = words.find(part, end) if at >= 0 else -1
        end = at + len(part)
    return at >= 0 and (end == len(words) or not phrase.endswith("$"))


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


# Statuses at which a quota, a key or a filter is also told by words alone.
_REFUSED = frozenset({NO_STATUS, 400, 403, 422, 429, 500})
_FAILED = frozenset({NO_STATUS, 500, 502, 503})
# Statuses at which a field of the body is refused by its name.
_REFUSED_FIELD = frozenset({NO_STATUS, 400, 403, 404, 422, 500, 501})

_BY_CODE = (
    Fact(
        ContextLengthError,
        codes=_codes("context_length_exceeded", "exceed_context_size_error"),
        source="OpenAI and Groq, documentation 2026-11; llama.cpp b10970 to b11549, recorded",
    ),
    Fact(
        ContextLengthError,
        codes=_codes("too_many_prompt_tokens", "model_context_window_exceeded", "context_window_exceeded", "1261"),
        source="Perplexity, recorded 2026; Z.ai, documentation 2026",
    ),
    Fact(
        ModelNotFoundError,
        codes=_codes(
            "model_not_found", "model_decommissioned", "model_not_available", "dedicated_endpoint_not_running"
        ),
        source="Groq and OpenAI, documentation 2026-11; Together, recorded 2026",
    ),
    Fact(
        ModelNotFoundError,
        codes=_codes("invalid_model", "model_not_supported", "deploymentnotfound", "deployment_not_found", "1211"),
        source="Mistral, recorded 2026; Hugging Face's router, reported 2026; Azure and Z.ai, documentation 2026",
    ),
    Fact(
        QuotaExceededError,
        codes=_codes("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"),
        source="OpenAI, documentation 2026-11",
    ),
    Fact(
        QuotaExceededError,
        codes=_codes(
            "exceeded_current_quota_error", "insufficient_credits", "payment_required", "arrearage",
            "budget_exceeded", "1113"
        ),
        source="Moonshot (under 429), Alibaba, Z.ai, LiteLLM (under 429), documentation or reported 2026",
    ),
    Fact(
        PermissionDeniedError,
        codes=_codes(
            "permission_error", "permission_denied", "key_model_access_denied", "team_model_access_denied",
            "unsupported_country_region_territory", "accessdeniedexception",
        ),
        source="Anthropic, Gemini, OpenAI, Bedrock, documentation 2026; LiteLLM (under 401 and 403), reported 2026",
    ),
    Fact(
        AuthenticationError,
        codes=_codes("invalid_api_key", "authentication_error", "invalid_authentication_error", "invalidapikey"),
        source="OpenAI, Groq, Together, Moonshot, Alibaba, documentation 2026; llama.cpp b10970, recorded",
    ),
    Fact(
        AuthenticationError,
        codes=_codes("unauthenticated", "token_not_found_in_db", "no_db_connection"),
        source="Gemini, documentation 2026; LiteLLM 1.73 to 1.108, reported: a key that it cannot look up",
    ),
    Fact(
        AuthenticationError,
        codes=_codes("auth_error", "unauthorized"),
        statuses=frozenset({NO_STATUS, 400, 401, 500}),
        source="LiteLLM 1.74, reported 2025: the same type under 403 is about an address or an action",
    ),
    Fact(
        BadRequestError,
        codes=_codes(
            "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed",
            "datainspectionfailed", "moderation_blocked", "1301",
        ),
        is_filter=True,
        source="Azure and OpenAI, documentation 2026; Alibaba and Z.ai, documentation 2026",
    ),
    Fact(
        GenerationFailedError,
        codes=_codes("json_validate_failed", "tool_use_failed"),
        source="Groq, documentation 2026-11",
    ),
    Fact(
        OverloadedError,
        codes=_codes(
            "unavailable_error", "overloaded_error", "engine_overloaded", "engine_overloaded_error", "server_overloaded"
        ),
        source="llama.cpp b10970, recorded: its model is loading; Anthropic and Moonshot, documentation 2026",
    ),
)  # fmt: skip

_MISSING_FEATURES = (
    # Fields that this package chooses: the next attempt goes without them.
    Fact(
        UnsupportedFeatureError,
        phrases=("stream_options",),
        statuses=_REFUSED_FIELD,
        param="stream_options",
        is_lasting=True,
        source="Mistral (under 422), Azure before 2024-09, TGI, gateways, reported 2024 to 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=("use 'max_completion_tokens'", "use max_completion_tokens", "use `max_completion_tokens`"),
        statuses=_REFUSED_FIELD,
        param="max_tokens",
        is_lasting=True,
        source="OpenAI's and Azure's reasoning models, documentation 2026, also behind gateways",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "max_completion_tokens: extra inputs are not permitted", "argument supplied: max_completion_tokens",
            "unsupported parameter: 'max_completion_tokens'", "unknown parameter: 'max_completion_tokens'",
            "field `max_completion_tokens`", 'field "max_completion_tokens"', "parameters: ['max_completion_tokens'",
            "property 'max_completion_tokens'", "('max_completion_tokens' was unexpected",
            "max_completion_tokens is not supported", "max_completion_tokens' is not supported",
            "max_completion_tokens` is not supported",
        ),
        statuses=_REFUSED_FIELD,
        param="max_completion_tokens",
        is_lasting=True,
        source="Mistral (under 422), Azure before 2024-09, LiteLLM for other services, reported 2024 to 2026",
    ),
    # Images and other parts.
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "image input is not supported", "audio input is not supported", "image inputs are not supported",
            "images are not supported", "images not supported", "is not a multimodal model", "not a vision model",
            "image input is not enabled", "unsupported content part type", "at most 0 image", "support image input",
            "support images",
            "support vision", "support multimodal", "support multi-modal",
        ),
        param="messages",
        is_lasting=True,
        source="llama.cpp b10970 (under 500); vLLM 0.8 and later; xAI, Ollama's cloud, LM Studio, reported 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "unknown variant `image_url`", "unknown variant 'image_url'", "image_url is only supported by",
            "allowed values: ['text']", "image_url*is not supported",
            "no endpoints found that support*modalit",
        ),
        param="messages",
        is_lasting=True,
        source="DeepSeek, Groq, OpenAI, recorded 2026; OpenRouter, reported 2026-07",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=("content must be a string", "only supports text", "only text content"),
        param="messages",
        source="Groq, recorded 2026: also of parts of text, so it says nothing of the next request",
    ),
    # Conversations that a model's template cannot express.
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "roles must alternate", "only user and assistant roles", "system role not supported",
            "system role is not supported", "system message must be at the beginning",
            "developer instruction is not enabled", "system instruction is not enabled",
        ),
        param="messages",
        source="The templates of Mistral's and Google's models, in llama.cpp and vLLM; Gemini, reported 2025",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=("the provided 'tool_choice' value", "only named tools are supported", "support this tool_choice"),
        param="tool_choice",
        source="OpenRouter, reported 2026; vLLM 0.5; DeepSeek, reported 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "requires --jinja", "--enable-auto-tool-choice", "--tool-call-parser", "support tool", "support function",
            "support `tools`", "support 'tools'", "tool use is not supported", "tool calling is not supported",
            "tools are not supported", "tools is not supported", "tool calls are not supported",
            "function calling is not", "function calls are not supported", "unsupported parameter: 'tools'",
            "'tools')*extra inputs are not permitted",
        ),
        param="tools",
        is_lasting=True,
        source="llama.cpp until 2025-11 (under 500); vLLM 0.5 to 0.11; Ollama 0.34; OpenRouter, DeepInfra (under 405), "
        "Gemini, reported 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "logprobs are not enabled", "logprobs is not enabled", "logprobs are not supported",
            "logprobs is not supported",
            "logprobs` is not supported", "logprobs' is not supported", "support logprobs", "support `logprobs`",
            "unsupported parameter: 'logprobs'", "support parameter logprobs", "not supported on this model: logprobs",
            "logprobs*not supported with", "logprobs are not available", "logprobs not supported",
        ),
        param="logprobs",
        is_lasting=True,
        source="Mistral, recorded 2026; Gemini, Groq, OpenAI, xAI, reported 2024 to 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "support thinking", "support reasoning", "support parameter reasoning", "thinking is not supported",
            "thinking is not enabled", "reasoning is not supported", "support `reasoning_effort`",
            "support 'reasoning_effort'", "unsupported parameter: 'reasoning_effort'",
            "not supported on this model: reasoning",
            "reasoning_effort is not supported", "reasoning_effort` is not supported",
            "reasoning_effort' is not supported",
        ),
        param="reasoning_effort",
        is_lasting=True,
        source="Ollama 0.34, recorded; xAI, reported 2026-08; Groq, OpenAI, documentation 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=("think value*is not supported", "unsupported value: 'reasoning_effort'"),
        param="reasoning_effort",
        source="Ollama, OpenAI, reported 2026",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "response_format type is unavailable", "response_format.type' must be", "support response_format",
            "support response format", "support structured output", "support json", "json mode is not",
            "response_format*is not supported", "failed to parse grammar", "json schema conversion failed",
        ),
        param="response_format",
        source="DeepSeek, LM Studio 0.3, Gemini, reported 2025; llama.cpp b10970 (under 400 or 500)",
    ),
    Fact(
        UnsupportedFeatureError,
        codes=_codes("unsupported_parameter", "unsupported_value", "unsupported_feature", "not_supported_error"),
        source="OpenAI, documentation 2026; llama.cpp b10970 (under 501)",
    ),
    Fact(
        UnsupportedFeatureError,
        phrases=(
            "does not support", "doesn't support", "do not support", "don't support", "not supported with this model",
            "not supported by this model", "not supported for this model", "not supported on this model",
            "not supported for the current model", "is not a supported parameter", "unsupported parameter",
            "unsupportedparamserror", "unsupported for streaming", "image*not supported", "vision*not supported",
            "multimodal*not supported", "multi-modal*not supported", "audio*not supported", "tool*not supported",
            "function call*not supported", "logprobs*not supported", "thinking*not supported",
            "reasoning*not supported",
            "image*not enabled", "tool*not enabled", "thinking*not enabled", "logprobs*not enabled",
        ),
        source="Ollama, Groq, xAI, Gemini, Bedrock, LiteLLM, reported 2024 to 2026",
    ),
)  # fmt: skip

_BY_WORDS = (
    Fact(
        BadRequestError,
        phrases=('^option "*must be of type ',),
        source="Ollama 0.33, its source: an option of the wrong type is a 500",
    ),
    Fact(
        BadRequestError,
        phrases=(
            "content management policy", "inappropriate content", "contentpolicyviolationerror", "input was flagged",
            "content filter", "content policy", "safety system", "violating our usage polic", "requires moderation",
            "violates usage guidelines", "content exists risk", "considered high risk",
        ),
        statuses=_REFUSED,
        is_filter=True,
        source="Azure; Alibaba; LiteLLM 1.108; OpenRouter and xAI (under 403), DeepSeek, Moonshot, reported 2026",
    ),
    Fact(
        AuthenticationError,
        phrases=(
            "incorrect api key", "invalid api key", "invalid api-key", "api key not valid", "api key is not valid",
            "api key is invalid", "api key expired", "api key has expired", "make sure your api key is valid",
            "incorrect api-key", "invalid_api_key", "invalid*api key", "api key*invalid", "api key*not valid",
            "api key*expired", "invalid access token", "invalid bearer token", "invalid authentication",
            "authentication failed", "^unauthorized$",
        ),
        source="xAI and Gemini (under 400), Together, Bedrock (under 403), recorded 2026",
    ),
    Fact(
        AuthenticationError,
        phrases=(
            "no api key", "missing api key", "missing*api key", "api key is required", "api key required",
            "api key is missing",
            "provide an api key", "api_key client option must be set", "no connected db", "litellm.authenticationerror",
            "no auth credentials", "missing authentication",
        ),
        source="LiteLLM 1.73 to 1.108, reported: also under 400 and 500; OpenAI; OpenRouter",
    ),
    Fact(
        QuotaExceededError,
        phrases=(
            "insufficient balance", "insufficient account balance", "balance is insufficient", "insufficient credit",
            "insufficient_quota", "used all available credits", "any credits or licenses", "credit balance is too low",
            "monthly included credits", "billing hard limit", "account is in good standing", "not_enough_balance",
            "budget has been exceeded", "insufficient*balance", "insufficient*funds",
            "out of credits", "no credits left", "exceeded your monthly", "monthly spending limit",
        ),
        statuses=_REFUSED,
        source="DeepSeek, xAI (under 403 and 429), Alibaba, Z.ai, Hugging Face's router, reported 2026; LiteLLM 1.108",
    ),
    Fact(
        PermissionDeniedError,
        phrases=("location is not supported", "region, or territory not supported"),
        source="Gemini (under 400), OpenAI, documentation 2026",
    ),
    Fact(
        ContextLengthError,
        phrases=(
            "context length", "context size", "context window", "longer than the context", "prompt is too long",
            "prompt too long", "maximum input length", "exceed*context", "max_tokens must be at least 1, got -",
            "`inputs` tokens + `max_new_tokens` must", "`inputs` must be", "`inputs` must have",
            "context_length_exceeded",
        ),
        source="OpenAI, OpenRouter, vLLM, SGLang, TGI, LM Studio, llama.cpp, Ollama, Mistral, Together, recorded 2026",
    ),
    Fact(
        ContextLengthError,
        phrases=(
            "token count*exceeds", "maximum number of tokens allowed", "model token limit", "exceeds max length",
            "maximum prompt length", "input is too long", "reduce the length of the", "maximum allowed input length",
            "range of input length", "max input limit", "input tokens exceed", "token limit exceeded",
            "request has too many tokens", "messages*too long", "prompt*too long", "inputs are too long",
            "input too long",
            "too many input tokens", "maximum sequence length", "max sequence length", "prompt length*exceed",
            "input length*exceed", "exceed*token limit", "exceeds the maximum*tokens", "contextwindowexceedederror",
        ),
        source="Gemini, Moonshot, Z.ai, xAI, Bedrock, Groq, OpenRouter's partners, Alibaba, DeepInfra, Perplexity, "
        "reported 2025 to 2026; LiteLLM 1.108",
    ),
    Fact(
        ModelLoadError,
        phrases=(
            "no models loaded", "no model loaded", "no model is loaded", "model is not loaded", "model not loaded",
            "failed to load model", "unable to load model", "error loading model", "model failed to load",
            "requires more system memory",
        ),
        source="LM Studio 0.3 (under 400 and 404), llama.cpp's router, Ollama (under 500), reported 2025 to 2026",
    ),
    # Before the features: some of these also say what is not supported.
    Fact(
        ModelNotFoundError,
        phrases=(
            "model *not found", "model not found", "model: *not found", "model * does not exist",
            "model does not exist",
            "model * could not be found", "no such model", "unsupported model", "the model * is not supported",
            "^model * is not supported", "model * is not available", "model * has been deprecated",
            "model * was retired",
            "model * has been retired", "model not exist", "is not a valid model", "invalid model:",
            "invalid model name", "invalid model id", "unknown model", "supported api model names are",
            "not supported by any provider", "model identifier is invalid", "on-demand throughput",
            "no endpoints found for", "non-serverless model", "please specify a model",
            "specify a valid downloaded model",
            "is not a chat model", "has been decommissioned",
        ),
        source="Ollama, vLLM, OpenRouter, DeepSeek, Mistral, xAI, Hugging Face's router, Bedrock, Together, LM Studio, "
        "SiliconFlow, recorded or reported 2026; LiteLLM 1.108.7 (under 400), recorded",
    ),
    Fact(
        ModelNotFoundError,
        phrases=("unavailable in your region", "not available in your region"),
        statuses=frozenset({NO_STATUS, 400, 404}),
        source="Snowflake, reported 2025",
    ),
    *_MISSING_FEATURES,
    Fact(
        BadRequestError,
        phrases=("max_tokens is too large", "max_completion_tokens is too large", "at most*completion tokens"),
        failover=True,
        source="OpenAI, reported 2025: another model may write as much",
    ),
    Fact(
        RateLimitError,
        codes=_codes(
            "rate_limit_exceeded", "rate_limit_error", "rate_limit", "too_many_requests", "resource_exhausted"
        ),
        statuses=_FAILED | {400, 403},
        source="OpenAI, Groq, Anthropic, Gemini, documentation 2026: within a stream",
    ),
    Fact(
        RateLimitError,
        phrases=("rate limit", "rate-limit", "too many requests"),
        statuses=frozenset({NO_STATUS, 500}),
        source="OpenRouter, reported 2026: within a stream",
    ),
    Fact(
        OverloadedError,
        phrases=("currently loading", "loading model", "server busy", "overloaded", "over capacity", "at capacity"),
        statuses=_FAILED,
        source="Ollama 0.34; Hugging Face; Groq, documentation 2026",
    ),
    Fact(
        InvalidResponseError,
        phrases=(
            "unexpected endpoint or method", "^404 page not found", "^405 method not allowed", "^404: not found$",
            "^not found$", "^not found:*cannot post", "^not found: /", "^file not found$", "^page not found",
            "^resource not found$",
            "^method not allowed$", "^cannot post /", "^cannot get /", "invalid url (", "unknown request url",
            "no route matched", "^no such page", "^endpoint not found", "^route*not found$",
        ),
        statuses=_NO_PATH | {NO_STATUS},
        source="LM Studio (also under 200), reported 2026; Ollama 0.34.2, recorded; FastAPI's servers (vLLM, SGLang, "
        "LiteLLM), llama.cpp, OpenAI, Groq, Azure, reported 2025: the address is wrong",
    ),
    Fact(
        InvalidResponseError,
        statuses=_NO_PATH,
        is_text=True,
        source="web servers: a page, or nothing, instead of the JSON of a chat",
    ),
)  # fmt: skip

_BY_STATUS = (
    Fact(
        BadRequestError,
        codes=_codes("invalid_request_error", "badrequesterror", "invalid_argument", "invalid-argument"),
        statuses=_NO_STATUS,
        source="llama.cpp b10970, vLLM, Gemini, xAI: within a response that began with success",
    ),
    Fact(AuthenticationError, statuses=frozenset({401})),
    Fact(QuotaExceededError, statuses=frozenset({402})),
    Fact(PermissionDeniedError, statuses=frozenset({403})),
    Fact(ModelNotFoundError, statuses=frozenset({404, 410})),
    Fact(
        ServerError,
        statuses=frozenset({408, 409, 425}),
        source="transient and not caused by the request: the server waited too long, or its state conflicted",
    ),
    Fact(RequestTooLargeError, statuses=frozenset({413})),
    Fact(RateLimitError, statuses=frozenset({429})),
    Fact(OverloadedError, statuses=frozenset({498}), source="Groq, documentation 2026-11: the flex tier is full"),
    Fact(OverloadedError, statuses=frozenset({503, 529})),
)

FACTS: tuple[Fact, ...] = (*_BY_CODE, *_BY_WORDS, *_BY_STATUS)
# What no progress report has as its code.
FAILURE_CODES = frozenset().union(*(row.codes for row in FACTS))
_SERVER = Fact(ServerError)
_REQUEST = Fact(BadRequestError)

# What in a message names a parameter, where the row does not; the first one counts.
PARAMS_BY_WORD: Mapping[str, str] = {
    "stream_options": "stream_options",
    "max_completion_tokens": "max_completion_tokens",
    "thinking": "reasoning_effort",
    "reasoning": "reasoning_effort",
    "logprob": "logprobs",
    "logit_bias": "logit_bias",
    "presencepenalty": "presence_penalty",
    "presence_penalty": "presence_penalty",
    "frequencypenalty": "frequency_penalty",
    "frequency_penalty": "frequency_penalty",
    "tool": "tools",
    "image": "messages",
    "json": "response_format",
    "response_format": "response_format",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "parameter stop": "stop",
    "model: stop": "stop",
}

# The finish reasons of an answer that failed, also where a gateway tells its server's own reason beside `stop`.
BROKEN_REASONS: Mapping[str, type[ProviderError]] = {
    "error": ServerError,
    "network_error": ServerError,
    "server_error": ServerError,
    "internal_error": ServerError,
    # vLLM's and SGLang's, where the engine gives a request up.
    "abort": ServerError,
    # DeepSeek's.
    "insufficient_system_resource": OverloadedError,
}
