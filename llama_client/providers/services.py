"""Known services, one row of data each, and those that installed packages add. No I/O with a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from llama_client.errors import PluginError
from llama_client.hosts import name_in
from llama_client.imports import ready

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from llama_client.catalog.catalog import Catalog
    from llama_client.providers.base import Provider, ProviderSetup

GROUP = "llama_client.providers"
"""The entry points of packages that add services."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TEMPLATE_CONTINUES = {"continue_final_message": True, "add_generation_prompt": False}
LIMIT_NAMES: Mapping[str, str] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The two names of the limit of an answer, each with the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a service's wire differs from OpenAI's: declared, and applied by the codec.

    Attributes:
        refuses: Parameters that it does not have; a request that sets one is refused before it is sent.
        adds: Parameters that it has beyond those of OpenAI-compatible servers (`reasoning_format`).
        only: Parameters of which it supports only these values.
        without_effect: Parameters that it accepts and ignores: sent, with a warning.
        max_stops: The maximum number of texts in `stop`; None: no limit is known.
        refused_formats: Types of `response_format` that none of its models supports.
        renames: The names under which a field of the body is sent (`{"seed": ("random_seed",)}`).
        effort_none: The fields that replace `reasoning_effort: "none"`.
        continuation: The fields that make it continue an assistant message at the end.
        always: Fields of every body.
        stream_usage: `ask`: a stream has its usage if `stream_options` asks; `unasked`: always; `never`: always, and
            `stream_options` is refused. Where a server refuses `stream_options` by name, it is left out from then on.
        is_strict: Whether it refuses unknown fields of messages, parts and tools: `name` and marks of what is to be
            cached are left out, others are refused before they are sent.
        keeps_developer: Whether it knows the role `developer`; else it is sent as `system`.
        stop_is_list: Whether `stop` must be a list.
        tool_call_id_chars: The number of letters and digits in a tool call's id; None: any.
        takes_back: The fields of an answer's message and tool calls that it takes back (`reasoning_content`;
            `content_parts`: the content as a list with its reasoning); None: all that it has sent.
        own_only: Whether it takes these only of its own answers (a model that does not reason refuses `reasoning`), so
            that they are left out of a message whose maker is unknown.
        takes: Further names that a strict service knows on messages, parts and tools.
        part_types: The types of content parts that it knows; None: not known, and any is sent.
        tool_types: The types of tools that it knows; None: as above.
        needs: What an assistant message must have in a conversation with tools, and what stands for it where the
            message has none: another target made it.
        calls_need: The same for the first tool call of a message.
    """

    refuses: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()
    max_stops: int | None = None
    refused_formats: frozenset[str] = frozenset()
    renames: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    effort_none: Mapping[str, Any] | None = None
    continuation: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    stream_usage: Literal["ask", "unasked", "never"] = "ask"
    is_strict: bool = False
    keeps_developer: bool = False
    stop_is_list: bool = False
    tool_call_id_chars: int | None = None
    takes_back: frozenset[str] | None = None
    own_only: bool = False
    takes: frozenset[str] = frozenset()
    part_types: frozenset[str] | None = None
    tool_types: frozenset[str] | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)
    calls_need: Mapping[str, Any] = field(default_factory=dict)


NO_QUIRKS = Quirks()


@cache
def _host_of_row(base_url: str) -> str:
    """Each client that opens compares those of all rows."""
    return name_in(base_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A known service: every fact about it that the package uses.

    Example:
        ACME = Service(
            name="acme",
            title="Acme's cloud",
            base_url="https://api.acme.example/v1",
            key_variables=("ACME_API_KEY",),
            models={"gpt-oss-120b": "gpt-oss-120b"},
        )

    Attributes:
        name: Its name in configurations and targets, and its kind.
        title: What it is, in a few words.
        base_url: Its address; "" where it has none (a provider inside this process).
        below: The path between the address and that of a request, where the official client adds it itself.
        hosts: The hosts to which the variable's key is sent; empty: that of `base_url`, or for a local server loopback.
        key_variables: The environment variables for its key; the first that is set counts.
        url_variable: The environment variable for its address, as its official package reads it.
        keys_url: The page to create keys.
        docs_url: Its documentation.
        is_local: Whether it runs on the user's own machine: it needs no key, and the variable's key is sent only to
            loopback.
        forwards: Whether a local one forwards requests to other servers, so that `local_only` refuses it.
        is_any_server: Whether a `base_url` means another server than the service's, which gets no key from a variable.
        is_prefix: Whether model ids of other services begin with its name; a target then means it only if its key is
            set.
        models: Some of its model ids, each with the model's name in the catalog, or "".
        models_path: The path of its list of models, relative to the address.
        price_source: The provider's id in genai-prices; None: prices come only from this package's lists.
        price_doubt: Why a price found there is an estimate; None: it is exact.
        timeout_s: The default of `timeout_s`.
        quirks: How its wire differs from OpenAI's.
        elsewhere: Where `is_any_server`, how the wire of another server does; None: no differently.
        continues: Whether each of its models continues an assistant message at the end of a request.
        sdk: The package of its official client; "" where it has none.
        codec: Its codec class, as `module:Class`; a subclass of `CompatibleCodec`.
        client: Its HTTP class, as `module:Class`; a subclass of `HttpService`.
        factory: Creates its provider, where it is not an OpenAI-compatible server.
        package: The package that adds it; "" for a built-in one.
        verified: When and against which sources the facts were checked, and which could not be.
    """

    name: str
    title: str = ""
    base_url: str = ""
    below: str = ""
    hosts: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    url_variable: str = ""
    keys_url: str = ""
    docs_url: str = ""
    is_local: bool = False
    forwards: bool = False
    is_any_server: bool = False
    is_prefix: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    models_path: str = "models"
    price_source: str | None = None
    price_doubt: str | None = None
    timeout_s: float = 600.0
    quirks: Quirks = NO_QUIRKS
    elsewhere: Quirks | None = None
    continues: bool = False
    sdk: str = "openai"
    codec: str = "llama_client.providers.wire.openai_codec:CompatibleCodec"
    client: str = "llama_client.providers.http.sdk:HttpService"
    factory: Callable[[ProviderSetup], Provider] | None = None
    package: str = ""
    verified: str = ""

    @property
    def host(self) -> str:
        """The host of `base_url`."""
        return _host_of_row(self.base_url)

    @property
    def key_hosts(self) -> tuple[str, ...]:
        """The hosts to which the variable's key is sent, the usual one first."""
        return self.hosts or (LOOPBACK if self.is_local else (self.host,))

    def key_variable(self, environ: Mapping[str, str]) -> str | None:
        """The variable that holds its key: the first that is set, else the first; None: it has none.

        Args:
            environ: The environment.
        """
        return next((name for name in self.key_variables if environ.get(name)), next(iter(self.key_variables), None))

    def has_key(self, environ: Mapping[str, str]) -> bool:
        """Whether one of its variables is set.

        Args:
            environ: The environment.
        """
        return any(environ.get(name) for name in self.key_variables)

    def quirks_at(self, url: str) -> Quirks:
        """How the wire of the server at an address differs.

        Args:
            url: The address.
        """
        host = name_in(url)
        if self.elsewhere is None or host in self.key_hosts:
            return self.quirks
        known = next((row.quirks for row in SERVICES.values() if not row.is_local and host in row.key_hosts), None)
        if known is None and host.endswith(_AZURE_OPENAI):
            known = self.quirks
        if known is None:
            return self.elsewhere
        # Of a service that is known by another name, what an answer depends on. What it refuses may have become less,
        # and who names it by its address may know that.
        names = {name: known.renames[name] for name in LIMIT_NAMES if name in known.renames}
        others = {name: there for name, there in self.elsewhere.renames.items() if name not in LIMIT_NAMES}
        return replace(self.elsewhere, renames={**others, **names}, stream_usage=known.stream_usage)


_FEW_EFFORTS = ("low", "medium", "high")
# All servers but OpenAI's reasoning models take this one; others ignore the newer one (Ollama 0.34.2, older vLLM, TGI),
# and OpenAI refuses both together.
_ONLY_MAX_TOKENS = {"max_completion_tokens": ("max_tokens",)}
_ONLY_NEWER_LIMIT = {"max_tokens": ("max_completion_tokens",)}
_TWO_REPETITION_NAMES = {"repetition_penalty": ("repetition_penalty", "repeat_penalty")}
# Azure's addresses of OpenAI's models.
_AZURE_OPENAI = ".openai.azure.com"
_NO_SAMPLERS = frozenset({"top_k", "min_p", "repetition_penalty"})
_PENALTIES = ("frequency_penalty", "presence_penalty")
_REASONING, _REASONING_CONTENT = frozenset({"reasoning"}), frozenset({"reasoning_content"})
_FUNCTIONS, _TEXT_AND_IMAGES = frozenset({"function"}), frozenset({"text", "image_url"})
# What OpenAI itself takes back; another server of that kind gets all that it has sent.
OPENAI_TAKES_BACK = frozenset({"annotations", "audio", "function_call"})

# At most ten lines each. Unknown facts are left out; none was tried against a live service.
# fmt: off
_ROWS = (
    Service(
        name="groq", title="Groq's cloud", base_url="https://api.groq.com", below="/openai/v1", sdk="groq",
        key_variables=("GROQ_API_KEY",), keys_url="https://console.groq.com/keys", url_variable="GROQ_BASE_URL",
        docs_url="https://console.groq.com/docs", price_source="groq", timeout_s=60.0, continues=True,
        quirks=Quirks(
            refuses=_NO_SAMPLERS | {"logprobs", "top_logprobs", "logit_bias"}, adds=frozenset({"reasoning_format"}),
            only={"n": (1,), "reasoning_effort": ("none", "default", *_FEW_EFFORTS)}, without_effect=_PENALTIES,
            max_stops=4, stream_usage="unasked", is_strict=True, keeps_developer=True,
            part_types=_TEXT_AND_IMAGES | {"document"}, takes_back=frozenset()),  # some models refuse `reasoning`
        codec="llama_client.providers.groq_together:GroqCodec", verified="2026-11-23: groq 1.7.0, its documentation"),
    Service(
        name="together", title="Together's cloud", base_url="https://api.together.ai/v1", price_source="together",
        hosts=("api.together.ai", "api.together.xyz"), key_variables=("TOGETHER_API_KEY",),
        keys_url="https://api.together.ai/settings/api-keys", docs_url="https://docs.together.ai",
        url_variable="TOGETHER_BASE_URL", codec="llama_client.providers.groq_together:TogetherCodec",
        quirks=Quirks(refuses=frozenset({"service_tier", "user"}), only={"parallel_tool_calls": (True,)},
            renames={**_ONLY_MAX_TOKENS, "parallel_tool_calls": ()}, stop_is_list=True,
            effort_none={"reasoning": {"enabled": False}}, takes_back=_REASONING | _REASONING_CONTENT),
        verified="2026-11-23: together 3.1.1, Together's documentation"),
    Service(
        name="ollama", title="an Ollama server, through its own API", base_url="http://127.0.0.1:11434", sdk="",
        hosts=("ollama.com",), key_variables=("OLLAMA_API_KEY",), keys_url="https://ollama.com/settings/keys",
        docs_url="https://docs.ollama.com", url_variable="OLLAMA_HOST", is_local=True, continues=True,
        client="llama_client.providers.ollama:Ollama", verified="2026-11-23: ollama's source",
        quirks=Quirks(is_strict=True, takes_back=frozenset({"thinking"}), part_types=_TEXT_AND_IMAGES,
            tool_types=_FUNCTIONS)),
    Service(
        name="openai", title="OpenAI, and with a base_url any OpenAI-compatible server", is_any_server=True,
        base_url="https://api.openai.com/v1", key_variables=("OPENAI_API_KEY",), url_variable="OPENAI_BASE_URL",
        keys_url="https://platform.openai.com/api-keys", docs_url="https://developers.openai.com/api/docs",
        price_source="openai", is_prefix=True,
        models={"gpt-5.4-mini": "", "gpt-5.5": ""},
        quirks=Quirks(renames={**_ONLY_NEWER_LIMIT, **_TWO_REPETITION_NAMES}, keeps_developer=True),
        elsewhere=Quirks(renames={**_ONLY_MAX_TOKENS, **_TWO_REPETITION_NAMES}, keeps_developer=True,
            continuation=_TEMPLATE_CONTINUES), verified="2026-11-29: openai 3.51, genai-prices 0.2.3"),
    Service(
        name="fireworks", title="Fireworks' cloud", base_url="https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",), keys_url="https://app.fireworks.ai/settings/users/api-keys",
        docs_url="https://docs.fireworks.ai", price_source="fireworks",
        models={"accounts/fireworks/models/gpt-oss-20b": "gpt-oss-20b",
            "accounts/fireworks/models/muse-spark-open": "muse-spark-open"},
        # Else it lowers max_tokens silently.
        quirks=Quirks(always={"context_length_exceeded_behavior": "error"}, takes_back=_REASONING_CONTENT),
        verified="2026-11-29: fireworks-ai 1.2.30"),
    Service(
        name="deepinfra", title="DeepInfra's cloud", base_url="https://api.deepinfra.com/v1/openai",
        key_variables=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"), keys_url="https://deepinfra.com/dash/api_keys",
        docs_url="https://docs.deepinfra.com",
        models={"openai/gpt-oss-120b": "gpt-oss-120b",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo": "llama-3.3-70b-instruct", "Qwen/Qwen3.8-27B": "qwen3.8-27b"},
        quirks=Quirks(renames=_ONLY_MAX_TOKENS, only={"reasoning_effort": ("none", *_FEW_EFFORTS, "xhigh")}),
        verified="2026-11-29: its documentation; not its list of models"),
    Service(
        name="cerebras", title="Cerebras' cloud", base_url="https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",), keys_url="https://cloud.cerebras.ai",
        docs_url="https://inference-docs.cerebras.ai", price_source="cerebras",
        models={"gpt-oss-120b": "gpt-oss-120b", "qwen-3.8-27b": "qwen3.8-27b"},
        quirks=Quirks(refuses=_NO_SAMPLERS, renames=_ONLY_NEWER_LIMIT, max_stops=4,
            without_effect=("logit_bias",), is_strict=True, takes_back=_REASONING, own_only=True,
            part_types=_TEXT_AND_IMAGES | {"image"}, tool_types=_FUNCTIONS),
        verified="2026-11-29: cerebras-cloud-sdk 1.91.0"),
    Service(
        name="sambanova", title="SambaNova's cloud", base_url="https://api.sambanova.ai/v1",
        key_variables=("SAMBANOVA_API_KEY",), keys_url="https://cloud.sambanova.ai/apis",
        docs_url="https://docs.sambanova.ai",
        models={"gpt-oss-120b": "gpt-oss-120b", "Meta-Llama-3.3-70B-Instruct": "llama-3.3-70b-instruct",
            "DeepSeek-V3.1": ""},
        quirks=Quirks(refuses=frozenset({"min_p"}), without_effect=_PENALTIES, only={"reasoning_effort": _FEW_EFFORTS}),
        verified="2026-11-29: sambanova 1.13.0, its documentation"),
    Service(
        name="nebius", title="Nebius Token Factory", base_url="https://api.tokenfactory.nebius.com/v1",
        key_variables=("NEBIUS_API_KEY",), keys_url="https://tokenfactory.nebius.com",
        docs_url="https://docs.tokenfactory.nebius.com",
        models={"openai/gpt-oss-120b": "gpt-oss-120b", "Qwen/Qwen3.8-27B": "qwen3.8-27b",
            "meta-models/muse-spark-open": "muse-spark-open"},
        quirks=Quirks(only={"reasoning_effort": _FEW_EFFORTS}), verified="2026-11-29: its documentation"),
    Service(
        name="openrouter", title="OpenRouter, which forwards prompts to other services", base_url="https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",), keys_url="https://openrouter.ai/settings/keys",
        docs_url="https://openrouter.ai/docs", price_source="openrouter",
        price_doubt="OpenRouter chooses the provider, and that decides the price",
        models={"openai/gpt-oss-120b": "gpt-oss-120b", "meta-llama/llama-3.3-70b-instruct": "llama-3.3-70b-instruct",
            "meta/muse-glimmer-30b": "muse-glimmer-30b", "qwen/qwen3.8-27b": "qwen3.8-27b"},
        quirks=Quirks(only={"n": (1,)}, stream_usage="unasked"), verified="2026-11-29: openrouter 1.3.84"),
    Service(
        name="mistral", title="Mistral's cloud", base_url="https://api.mistral.ai/v1", price_source="mistral",
        hosts=("api.mistral.ai", "api.eu.mistral.ai", "api.us.mistral.ai"), key_variables=("MISTRAL_API_KEY",),
        keys_url="https://console.mistral.ai/api-keys", docs_url="https://docs.mistral.ai",
        models={"mistral-small-latest": "", "mistral-small-2603": "", "ministral-8b-2512": ""},
        quirks=Quirks(refuses=frozenset({"min_p", "user", "logit_bias"}), stream_usage="never", is_strict=True,
            renames={**_ONLY_MAX_TOKENS, "seed": ("random_seed",)}, tool_call_id_chars=9, takes=frozenset({"prefix"}),
            takes_back=frozenset({"content_parts"}), tool_types=_FUNCTIONS, part_types=_TEXT_AND_IMAGES |
            {"document_url", "input_audio", "file", "reference", "thinking"}), verified="2026-11-29: mistralai 3.7.0"),
    Service(
        name="deepseek", title="DeepSeek's cloud", base_url="https://api.deepseek.com", price_source="deepseek",
        key_variables=("DEEPSEEK_API_KEY",), keys_url="https://platform.deepseek.com",
        docs_url="https://api-docs.deepseek.com", models={"deepseek-flash": "", "deepseek-v4-pro": ""},
        price_doubt="DeepSeek charges more at busy hours, and which days of China have none is not known exactly",
        quirks=Quirks(refuses=_NO_SAMPLERS | {"seed", "parallel_tool_calls"}, only={"n": (1,)},
            without_effect=_PENALTIES, renames=_ONLY_MAX_TOKENS, effort_none={"thinking": {"type": "disabled"}},
            refused_formats=frozenset({"json_schema"}), takes_back=_REASONING_CONTENT,
            needs={"reasoning_content": " "}),  # an empty one is refused
        verified="2026-11-29: its documentation, and reports of what it refuses"),
    Service(
        name="xai", title="xAI's cloud", base_url="https://api.x.ai/v1", key_variables=("XAI_API_KEY",),
        keys_url="https://console.x.ai", docs_url="https://docs.x.ai", price_source="x-ai", timeout_s=900.0,
        models={"grok-4.7": "", "grok-4.6": ""},
        verified="2026-11-29: xai-sdk 1.21.0, its documentation; not its list of models"),
    Service(
        name="huggingface", title="Hugging Face's router to its partners", price_source=None,
        base_url="https://router.huggingface.co/v1", key_variables=("HF_TOKEN",),
        keys_url="https://huggingface.co/settings/tokens", docs_url="https://huggingface.co/docs/inference-providers",
        models={"openai/gpt-oss-120b": "gpt-oss-120b", "Qwen/Qwen3.8-27B": "qwen3.8-27b"},
        quirks=Quirks(only={"n": (1,)}, renames=_ONLY_MAX_TOKENS, is_strict=True, takes_back=frozenset()),
        verified="2026-11-29: huggingface_hub 2.4.0, its documentation; prices hang on the partner"),
    Service(
        name="gemini", title="Google's Gemini API", price_source="google",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai", key_variables=("GEMINI_API_KEY",),
        keys_url="https://aistudio.google.com/apikey", docs_url="https://ai.google.dev/gemini-api/docs/openai",
        models={"gemini-3.8-flash": "", "gemma-4-31b-it": ""},
        quirks=Quirks(refuses=_NO_SAMPLERS | {*_PENALTIES, "seed"}, is_strict=True,
            only={"reasoning_effort": ("none", "minimal", *_FEW_EFFORTS)}, takes_back=frozenset({"extra_content"}),
            # Its documentation names this text for calls that another model has made.
            calls_need={"extra_content": {"google": {"thought_signature": "skip_thought_signature_validator"}}}),
        verified="2026-11-29: its documentation and reports; what it refuses may have become less"),
    Service(
        name="lmstudio", title="LM Studio", base_url="http://127.0.0.1:1234/v1", is_local=True,
        key_variables=("LM_API_TOKEN",), docs_url="https://lmstudio.ai/docs/developer",
        quirks=Quirks(renames={**_ONLY_MAX_TOKENS, "repetition_penalty": ("repeat_penalty",)},
            refused_formats=frozenset({"json_object"})), verified="2026-11-29: its documentation and reports"),
    Service(
        name="vllm", title="a vLLM server", base_url="http://127.0.0.1:8000/v1", is_local=True,
        key_variables=("VLLM_API_KEY",), docs_url="https://docs.vllm.ai",
        quirks=Quirks(renames=_ONLY_MAX_TOKENS, continuation=_TEMPLATE_CONTINUES),
        verified="2026-11-29: vLLM's source"),
    Service(
        # 9931 in newer versions: say base_url.
        name="llamacpp", title="llama.cpp's server", base_url="http://127.0.0.1:8080/v1", is_local=True,
        key_variables=("LLAMA_API_KEY",), docs_url="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        quirks=Quirks(renames={**_ONLY_MAX_TOKENS, "repetition_penalty": ("repeat_penalty",)},
            continuation=_TEMPLATE_CONTINUES),
        verified="2026-11-29: llama.cpp's source; its usual port is changing from 8080 to 9931"),
    Service(
        name="litellm", title="a LiteLLM proxy, which forwards prompts to other services", base_url="http://127.0.0.1:4000",
        is_local=True, forwards=True, key_variables=("LITELLM_PROXY_API_KEY",),
        docs_url="https://docs.litellm.ai/docs/simple_proxy", verified="2026-11-29: litellm 1.110.2"),
)
# fmt: on
SERVICES: Mapping[str, Service] = {row.name: row for row in _ROWS}


def service_names() -> tuple[str, ...]:
    """The names of all services, those of installed packages last. Loads no package."""
    return tuple(dict.fromkeys([*SERVICES, *_entry_points()]))


@cache
def service_of(name: str) -> Service | None:
    """The row of a name; raises a `PluginError` for one of a package that cannot be used."""
    if name in SERVICES:
        return SERVICES[name]
    entry = _entry_points().get(name)
    return None if entry is None else _loaded(entry)


def all_services() -> list[Service]:
    """Every row except those of packages that cannot be used; see `plugin_problems`."""
    rows = []
    for name in service_names():
        with suppress(PluginError):
            rows.append(service_of(name))
    return [row for row in rows if row is not None]


@cache
def known_catalog() -> Catalog:
    """The catalog, with the models in the rows added by name."""
    from llama_client.catalog.catalog import Catalog, Offer

    bundled = Catalog.bundled()
    offers = [
        Offer(row.name, model_id, name or model_id, source=row.verified)
        for row in all_services()
        # Other servers of that kind have other models.
        if not row.is_any_server
        for model_id, name in row.models.items()
        if bundled.offer(row.name, model_id) is None
    ]
    return Catalog(bundled.models, (*bundled.all_offers, *offers))


@cache
def plugin_problems() -> tuple[PluginError, ...]:
    problems = []
    for name, entry in _entry_points().items():
        try:
            service_of(name)
        except PluginError as error:
            problems.append(error)
        if name in SERVICES:
            problems.append(_wrong(entry, "that name is of a built-in service"))
    return tuple(problems)


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    # 3 ms, once, and only for a name that is not built in or for all names.
    ready("importlib.metadata")
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _loaded(entry: EntryPoint) -> Service:
    """The row of an entry point: a `Service`, or a provider factory."""
    if "/" in entry.name:
        raise _wrong(entry, "a provider's name is what stands before the first / of a target")
    try:
        found = entry.load()
    except Exception as error:
        raise _wrong(entry, f"{entry.value} cannot be imported ({type(error).__name__}: {error})") from error
    if isinstance(found, Service):
        return replace(found, name=entry.name, package=_package(entry))
    if not callable(found):
        raise _wrong(entry, f"{entry.value} must be a Service or a provider factory, got a {type(found).__name__}")
    package = _package(entry)
    return Service(name=entry.name, title=f"of {package}", is_local=True, sdk="", factory=found, package=package)


def _wrong(entry: EntryPoint, why: str) -> PluginError:
    package = _package(entry)
    message = f"the package {package} adds the provider {entry.name!r}, which cannot be used: {why}"
    return PluginError(message, package=package, provider=entry.name)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
