"""The clients: what they own, and how it is opened and closed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from llama_client.chat import AsyncChat, CacheMode, CallContext, Chat, DefaultModel, asked, checked_tags, runs
from llama_client.clock import Clock, EventLoop, running_loop
from llama_client.errors import ConfigError
from llama_client.imports import ready
from llama_client.models import AsyncModels, AsyncProviderDirectory, Models, ProviderDirectory
from llama_client.streams import OfThisProcess
from llama_client.types.completion import ChatCompletion, Message, TargetHealth

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel, SecretStr

    from llama_client.bulk.api import AsyncBulk, Bulk
    from llama_client.bulk.receipt import BulkProgress
    from llama_client.cache.answers import AnswerCache
    from llama_client.config.load import Source
    from llama_client.config.schema import Config
    from llama_client.costs.accounting import Accounting
    from llama_client.costs.api import AsyncCosts, Costs
    from llama_client.providers.http.interceptor import Interceptor
    from llama_client.providers.registry import Providers
    from llama_client.routing.billing import Reserver
    from llama_client.routing.shortcut import Shortcut
    from llama_client.telemetry import Instrumentation
    from llama_client.types.report import CostEstimate, TokenCount

    AnyHttpClient = httpx.Client | httpx.AsyncClient

ClientT = TypeVar("ClientT", bound="_BaseClient")

# What only an open client needs, so that importing the package stays cheap.
_PARTS = (
    "llama_client.config.load",
    "llama_client.costs.accounting",
    "llama_client.costs.api",
    "llama_client.costs.budgets",
    "llama_client.providers.gguf.store",
    "llama_client.providers.registry",
    "llama_client.routing.drive",
    "llama_client.routing.router",
    "llama_client.routing.targets",
    "llama_client.types.request",
    # By pydantic, when it makes its first schema.
    "pydantic.plugin._loader",
    # By Python: for an event loop's threads, files of the package, and hosts.
    "concurrent.futures.thread",
    "importlib.readers",
    "encodings.idna",
)


def _for_provider(
    cls: type[ClientT],
    provider: str,
    *,
    http_client: httpx.Client | httpx.AsyncClient | None = None,
    tags: Mapping[str, str] | None = None,
    local_only: bool | None = None,
    timeout: float | None = None,
    **options: Any,
) -> ClientT:
    ready(*_PARTS)
    from llama_client.config.schema import read_config

    if "timeout_s" in options:
        raise ConfigError("options: timeout_s: unknown name; did you mean 'timeout'?", key="timeout_s")
    table = {name: value for name, value in {**options, "timeout_s": timeout}.items() if value is not None}
    try:
        config = read_config({"providers": {provider: table}}, origin="options")
    except ConfigError as error:
        # The table's key, as a configuration has it, is the argument `timeout` here.
        raise ConfigError(str(error).replace("timeout_s", "timeout"), key=error.key) from None
    return cls._of(cls._context_of(config, tags, http_client, local_only, only_provider=provider))


class Seams(NamedTuple):
    """What of the world outside tests replace; see `llama_client.testing`.

    Attributes:
        clock: The time of clients; None: the real one.
        random: The class of their random numbers.
        interceptor: What stands between them and their providers; None: nothing, or what the environment says.
        ledger_url: What stands for the user's own ledger, and for one on a server; None: it is as configured.
    """

    clock: Clock | None = None
    random: type[random.Random] = random.Random
    interceptor: Interceptor | None = None
    ledger_url: str | None = None


class _BaseClient(OfThisProcess):
    """What the sync and the async client share. Closing a client, or any view of it, closes all of them."""

    _is_async: ClassVar[bool]
    _seams: ClassVar[Seams] = Seams()
    _context: CallContext

    def _open(
        self, config: Source, tags: Mapping[str, str] | None, http_client: AnyHttpClient | None, local_only: bool | None
    ) -> None:
        ready(*_PARTS)
        from llama_client.config.load import load_config

        self._context = self._context_of(load_config(config), tags, http_client, local_only)
        self._bind()

    def _bind(self) -> None:
        """Creates `chat`, `models`, `providers` and `costs` from the context."""
        raise NotImplementedError

    def health(self) -> dict[str, TargetHealth]:
        """What this client has measured of each target that it called, by `provider/model`: breaker, times, limits.

        Example:
            for name, target in client.health().items():
                print(name, target.breaker, target.ttft_s, target.remaining_requests)
        """
        self._settle()
        return self._context.router.health.snapshot()

    def _settle(self) -> None:
        """Waits for what was dropped, unless on an event loop."""

    def __repr__(self) -> str:
        context = self._context
        model = context.config.default_model if context.model is None else context.model
        facts = [f"providers {', '.join(context.providers.in_use) or 'none'}"]
        facts += [f"model {model if isinstance(model, str) else ', '.join(model)}"] if model is not None else []
        facts += ["local only"] if context.config.local_only else []
        facts += ["closed"] if context.closing.is_set else []
        return f"<{type(self).__name__} {'; '.join(facts)}>"

    @classmethod
    @runs(_for_provider)
    def for_provider(
        cls,
        provider: str,
        *,
        api_key: str | SecretStr | None = None,
        api_key_env: str | None = None,
        api_key_file: str | Path | None = None,
        api_key_command: str | Sequence[str] | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | SecretStr | None = None,
        ca_file: str | Path | None = None,
        max_concurrency: int | None = None,
        takes_back: str | Sequence[str] | None = None,
        http_client: httpx.Client | httpx.AsyncClient | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
        kind: str | None = None,
        options: Mapping[str, object] | None = None,
        keep_alive: str | float | None = None,
        allow_truncation: bool | None = None,
        model_path: str | Path | None = None,
        n_ctx: int | None = None,
        n_parallel: int | None = None,
        n_gpu_layers: int | None = None,
        n_threads: int | None = None,
        mmproj: str | Path | None = None,
        lora: Sequence[Mapping[str, object]] | None = None,
        draft_model_path: str | Path | None = None,
        draft_tokens: int | None = None,
        prompt_cache_mib: int | None = None,
        usd_per_hour: float | Decimal | None = None,
        watts: float | None = None,
        usd_per_kwh: float | Decimal | None = None,
    ) -> Self:
        """A client for one provider, where `model` is that provider's own id, verbatim. It reads no configuration file.

        Nor does it read any `LLAMA_CLIENT_*` variable but `LLAMA_CLIENT_LOCAL_ONLY`. Attempts are written to the ledger
        in the user's data folder, as always. Which options apply depends on the kind.

        Args:
            provider: Its name: `groq`, `together`, `openai`, `ollama`, `gguf`, or any name with a `kind`.
            api_key: The key itself; better one of the next three.
            api_key_env: The environment variable that holds it.
            api_key_file: The file that holds it.
            api_key_command: The command that prints it.
            base_url: Where the provider is.
            timeout: The longest silence in seconds before and within an answer; that of a call limits the whole call.
            headers: Headers of every request.
            proxy: The proxy to go through.
            ca_file: The certificates to trust instead of the usual ones.
            max_concurrency: How many requests are in flight at once; more wait their turn.
            takes_back: The fields of its own answers that go back to it, or "all".
            http_client: As of the client itself.
            tags: Labels of every call.
            local_only: True: refuse every connection that leaves this machine.
            kind: The kind of provider, where its name is not one.
            options: Ollama's `options` for every request, such as `num_ctx`.
            keep_alive: How long Ollama keeps a model in memory.
            allow_truncation: Whether Ollama may cut a prompt that is longer than the context, instead of refusing it.
            model_path: The GGUF file behind `default`.
            n_ctx: The context of one request in tokens.
            n_parallel: How many requests a model in this process works on at once.
            n_gpu_layers: Layers on the GPU.
            n_threads: CPU threads; None: one for each physical core that this process may use.
            mmproj: The projector file that lets the model see images.
            lora: Adapters, as mappings of `path`, `scale` and `name`; one with a name is on where the model has it
                (`default+NAME`).
            draft_model_path: A smaller model with the same vocabulary, which proposes tokens.
            draft_tokens: The most tokens that it proposes at once.
            prompt_cache_mib: Memory in MiB for what was read in slots that others have taken since.
            usd_per_hour: The price of an hour of the machine.
            watts: The power it draws while it answers.
            usd_per_kwh: The price of electricity.

        Raises:
            ConfigError: An option is unknown to providers of that kind, or its value is wrong.

        Example:
            messages = [{"role": "user", "content": "Why do llamas hum?"}]
            with LlamaClient.for_provider("groq", api_key="...") as client:
                reply = client.chat.completions.create(model="openai/gpt-oss-20b", messages=messages)
                print(reply.choices[0].message.content)
        """
        raise NotImplementedError

    def with_options(
        self,
        *,
        tags: Mapping[str, str] | None = None,
        timeout: float | None = None,
        model: str | Sequence[str] | None = None,
        cache: CacheMode | None = None,
    ) -> Self:
        """A view with other defaults that shares everything else, loaded models included.

        Args:
            tags: Further labels of its calls.
            timeout: Seconds for each call; for a stream, until its first content.
            model: What a call asks where it names no model.
            cache: What its calls do with the cache, where `[cache]` is on: `use`; `refresh`: ask anew, and keep the
                new answer; `off`: neither look nor keep.

        Raises:
            InvalidRequestError: An option is wrong.

        Example:
            mine = client.with_options(tags={"user": "ann"}, timeout=20)
            print(mine.ask("Why do llamas hum?").text)
        """
        return self._of(self._context.with_options(tags=tags, timeout=timeout, model=model, cache=cache))

    @classmethod
    def _context_of(
        cls,
        config: Config,
        tags: Mapping[str, str] | None,
        http_client: AnyHttpClient | None,
        local_only: bool | None,
        *,
        only_provider: str | None = None,
    ) -> CallContext:
        from llama_client.config.load import local_only_source
        from llama_client.costs.accounting import Database, open_accounting
        from llama_client.costs.api import CostSource
        from llama_client.costs.money import Calendar
        from llama_client.providers.gguf.store import ModelStore
        from llama_client.providers.registry import Providers
        from llama_client.routing.concurrency import ClosingEvent
        from llama_client.routing.health import HealthRegistry
        from llama_client.routing.plan import Backoff
        from llama_client.routing.router import Router
        from llama_client.routing.targets import TargetResolver, default_model, ollama_to_ask

        # Any source that says true wins, also where no file was looked for.
        users = local_only_source(os.environ)
        if local_only:
            config = config.made_local_only("local_only=True")
        elif users is not None and not config.local_only:
            config = config.made_local_only(users.variable or str(users.file))
        closing = ClosingEvent()
        seams, store = _with_cassette(cls._seams), ModelStore.of_user()
        if seams.ledger_url is not None:
            config = _with_ledger(config, seams.ledger_url)
        if seams.interceptor is not None and config.cache.enabled:
            config = _with_cache_of_tests(config, plays=seams.interceptor.plays)
        clock = seams.clock or Clock(sleep=closing.sleep, asleep=closing.asleep)
        providers = Providers(
            config,
            store,
            clock,
            environ=os.environ,
            http_client=http_client,
            is_async=cls._is_async,
            interceptor=seams.interceptor,
        )
        chance, calendar = seams.random(), Calendar(config.timezone)
        database = Database.of_ledger(config, providers.guard)
        accounting = open_accounting(config, calendar, clock=clock, sellers=providers, database=database)
        router = Router(HealthRegistry(config, clock), accounting.prices, clock, providers.context_tokens, chance)
        cache = _cache(config, providers, clock, closing)
        return CallContext(
            config,
            providers,
            TargetResolver(providers, store, config.routes, only_provider=only_provider),
            clock,
            router,
            accounting,
            _reserver(accounting, providers),
            CostSource(accounting, database, calendar, config.budgets, clock),
            _telemetry(config, providers),
            Backoff(chance.uniform),
            closing,
            EventLoop(),
            DefaultModel(
                providers,
                ollama_to_ask(config, providers),
                lambda running: default_model(config, providers, store, running, only_provider=only_provider),
            ),
            tags=checked_tags(tags),
            cache=cache,
            shortcut=_shortcut(config, cache, accounting, clock),
        )

    @classmethod
    def _of(cls, context: CallContext) -> Self:
        client = cls.__new__(cls)
        client._context = context
        client._bind()
        return client


def _with_cassette(seams: Seams) -> Seams:
    """The same with what `llama-client record` puts into the clients of the programs that it runs."""
    from llama_client.config.environment import CASSETTE_VARIABLE

    if seams.interceptor is not None or not os.environ.get(CASSETTE_VARIABLE):
        return seams
    from importlib import import_module

    # By name: the test kit stands above the clients.
    found: Seams = import_module("llama_client.testing.cassettes").of_environment()
    return seams._replace(
        clock=seams.clock or found.clock,
        interceptor=found.interceptor,
        ledger_url=seams.ledger_url or found.ledger_url,
    )


def _with_ledger(config: Config, url: str) -> Config:
    """The same with another ledger, unless its own is a file that it names."""
    from pydantic import SecretStr

    if config.ledger.url.get_secret_value().startswith("sqlite:///"):
        return config
    return config.model_copy(update={"ledger": config.ledger.model_copy(update={"url": SecretStr(url)})})


def _with_cache_of_tests(config: Config, *, plays: bool) -> Config:
    """The same with a cache in which no answer that is played is taken for a real one, nor a real one played."""
    from pydantic import SecretStr

    changed: dict[str, object] = {"namespace": f"\0played {config.cache.namespace}"}
    if not plays:
        # What is recorded is asked for.
        changed["enabled"] = False
    elif not config.cache.url.get_secret_value().startswith("sqlite:///"):
        changed["url"] = SecretStr("memory")
    return config.model_copy(update={"cache": config.cache.model_copy(update=changed)})


def _cache(config: Config, providers: Providers, clock: Clock, user: object) -> AnswerCache | None:
    if not config.cache.enabled:
        return None
    ready("llama_client.cache.answers", "llama_client.routing.cached", "llama_client.routing.shortcut")
    from llama_client.cache.answers import open_cache

    cache = open_cache(config, providers.guard, clock.wall)
    if cache is not None:
        cache.enter(user)
    return cache


def _shortcut(config: Config, cache: AnswerCache | None, accounting: Accounting, clock: Clock) -> Shortcut | None:
    # Spans, and the rules of `local_only`, belong to attempts.
    if cache is None or config.telemetry.enabled or config.local_only:
        return None
    from llama_client.routing.shortcut import Shortcut

    return Shortcut(cache, accounting, clock, config.cache.namespace, config.cache.namespace_tags)


def _reserver(accounting: Accounting, providers: Providers) -> Reserver | None:
    if accounting.budgets is None:
        return None
    from llama_client.routing.billing import Reserver

    return Reserver(accounting.budgets, accounting.prices, providers)


def _telemetry(config: Config, providers: Providers) -> Instrumentation | None:
    if not config.telemetry.enabled:
        return None
    # OpenTelemetry is imported only where telemetry is on.
    from llama_client.telemetry import Instrumentation

    return Instrumentation(content=config.telemetry.content, kind=providers.kind, url=providers.url)


class LlamaClient(_BaseClient):
    """One chat interface over every configured model. Safe to share between threads.

    Args:
        config: A path, a dict with the TOML's keys, a `Config`, or None to look for a file (see `load_config`).
        tags: Labels of every call, for logs, the ledger and budgets.
        http_client: Your own `httpx.Client`, used for every provider behind HTTP and never closed here.
        local_only: True: refuse every connection that leaves this machine, also where the configuration allows it.

    Attributes:
        chat: `chat.completions.create` and `chat.completions.parse`: see `Completions`.
        models: The models of all providers: see `Models`.
        providers: Which providers answer, and what each serves: see `ProviderDirectory`.
        costs: What was spent, and calls of unknown cost: see `Costs`.

    Raises:
        ConfigError: The configuration is wrong.
        InvalidRequestError: A tag is not text, or `http_client` is not an HTTP client of the right kind.
        LocalOnlyError: `local_only` is on and there is an `http_client`, whose connections cannot be checked.
        MissingExtraError: `[telemetry]` is on, or the ledger is PostgreSQL, and that extra is missing.

    Example:
        with LlamaClient() as client:
            reply = client.ask("Why do llamas hum?")
            print(reply.text, reply.target)
    """

    _is_async = False
    chat: Chat
    models: Models
    providers: ProviderDirectory
    costs: Costs

    def __init__(
        self,
        config: Source = None,
        *,
        http_client: httpx.Client | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
    ) -> None:
        self._open(config, tags, http_client, local_only)

    def _bind(self) -> None:
        from llama_client.costs.api import Costs

        self.chat = Chat(self._context)
        self.costs = Costs(self._context.cost_source)
        self.providers = ProviderDirectory(self._context.providers)
        self.models = Models(self.providers)

    def sdk(self, provider: str) -> Any:
        """The official client of a provider, configured, for endpoints not wrapped here; on the same connections.

        Its requests bypass failover, costs and budgets. Do not close it: its connections are this client's.

        Under `local_only` its connections are checked like all others, but not the content of its requests: the rules
        `cloud_model` and `remote_image` do not apply, so a local server may forward what it receives.

        Args:
            provider: The provider's name.

        Returns:
            A `groq.Groq` for kind `groq`, an `openai.OpenAI` for every other service but Ollama.

        Raises:
            ConfigError: There is no such provider.
            InvalidRequestError: It has no official client (`ollama`, `gguf`).

        Example:
            groq = client.sdk("groq")
            print(groq.base_url)
        """
        return self._context.providers.sdk(provider)

    def default_model(self) -> str:
        """The model of calls that name none. Asks a running Ollama, so it may take a moment.

        Raises:
            ConfigError: There is none; the message says how to get one.
        """
        return self._context.default.name()

    def _ask(self, prompt: str | Sequence[Mapping[str, object] | Message], **params: Any) -> ChatCompletion:
        reply: ChatCompletion = self.chat.completions.create(**asked(prompt, params))
        return reply

    @runs(_ask)
    def ask(
        self,
        prompt: str | Sequence[Mapping[str, object] | Message],
        *,
        system: str | None = None,
        model: str | Sequence[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
    ) -> ChatCompletion:
        """The answer to a text or a list of messages: the short form of `chat.completions.create`. None means omitted.

        Args:
            prompt: What to ask: a text, or messages as of `create`.
            system: Instructions, put before the messages; an error where these begin with a system message.
            model: `provider/model-id`, a route, a catalogue name such as `llama-3.1-8b` (every provider that serves
                it), or a list of these as a fallback chain; omitted: the default.
            temperature: Randomness, 0 to 2.
            top_p: Keep the likeliest tokens up to this share of probability, 0 to 1.
            top_k: Keep this many of the likeliest tokens; 0 keeps all.
            min_p: Drop tokens less likely than this share of the likeliest, 0 to 1.
            max_tokens: The longest answer in tokens.
            max_completion_tokens: The same under OpenAI's newer name.
            stop: A text, or several, at which the answer ends.
            seed: Makes sampling repeatable where the provider can.
            n: How many answers.
            frequency_penalty: -2 to 2.
            presence_penalty: -2 to 2.
            repetition_penalty: Above 0; 1 is none.
            logit_bias: Token id to bias, -100 to 100.
            logprobs: Whether to return the tokens' log probabilities.
            top_logprobs: How many candidates for each token, 0 to 20; needs `logprobs`.
            tools: Functions that the model may ask to be called, in OpenAI's shape.
            tool_choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name": ...}}`.
            parallel_tool_calls: Whether several tools may be called at once.
            reasoning_effort: How much thinking: `none`, `default`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
            reasoning_format: How thinking is returned: `parsed`, `raw`, `hidden`.
            service_tier: The provider's own word for how a request is served and billed.
            user: An id of the end user, for the provider's abuse checks.
            timeout: Seconds for the whole call; for a stream, until its first content.
            tags: Labels for logs, the ledger and budgets.
            extra_body: Fields for the provider's request body that have no parameter here.
            extra_headers: Headers for the provider.
            response_format: `{"type": "text" | "json_object"}` or `{"type": "json_schema", "json_schema": {...}}`;
                for a Pydantic model see `parse`.

        Raises:
            LlamaClientError: As `create`.

        Example:
            reply = client.ask("What is the capital of Japan?", system="Answer in one word.", temperature=0)
            print(reply.text, reply.cost.usd, reply.target)
        """
        raise NotImplementedError

    def count_tokens(
        self, messages: str | Sequence[Mapping[str, object] | Message], model: str | Sequence[str] | None = None
    ) -> TokenCount:
        """How many tokens a prompt has, before anything is sent: exact for a loaded GGUF model, else by its bytes.

        Args:
            messages: A text, or a list of messages.
            model: As of `create`.

        Raises:
            InvalidRequestError: `messages` is neither.
            ConfigError: `model` is unknown.
        """
        return self._context.count_tokens(messages, model)

    def estimate_cost(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
    ) -> CostEstimate:
        """What a call would cost at its first target, before anything is sent.

        Args:
            messages: A text, or a list of messages.
            model: As of `create`.
            max_tokens: The longest answer in tokens.

        Raises:
            InvalidRequestError: A parameter is wrong.
            ConfigError: `model` is unknown.

        Example:
            estimate = client.estimate_cost("Why do llamas hum?", "groq/openai/gpt-oss-20b", max_tokens=500)
            print(estimate.usd, "expected,", estimate.most_usd, "at most")
        """
        return self._context.estimate_cost(messages, model, max_tokens)

    def bulk(
        self,
        rows: object,
        *,
        model: str | Sequence[str] | None = None,
        prompt: str | None = None,
        system: str | None = None,
        schema: type[BaseModel] | Mapping[str, object] | str | Path | None = None,
        params: Mapping[str, object] | None = None,
        job: str | Path | None = None,
        limit: int | None = None,
        max_concurrency: int | None = None,
        retry_failed: bool = False,
        on_progress: Callable[[BulkProgress], object] | None = None,
        max_usd: Decimal | float | str | None = None,
        deadline_s: float | None = None,
        venues: Sequence[Literal["now", "batch", "idle"]] | None = None,
        idle: str | None = None,
        engine: Literal["local", "ray"] = "local",
        ray_address: str | None = None,
        ray_workers: int | None = None,
    ) -> Bulk:
        """Many requests as one job: as many at once as the targets bear, each row answered once.

        Iterate over the job for results as they come, or call its `run` to have them in a file.

        Args:
            rows: A path (JSON lines, CSV, Parquet), a table of pandas, pyarrow or polars, or an iterable of prompts, of
                lists of messages, or of dicts. A row has a column `prompt`, `text` or `messages`, or the columns that
                `prompt` names, or is a line of OpenAI's batch files (`custom_id`, `body`).
            model: As of `create`, for rows that name none.
            prompt: A template with columns in it: `"Classify: {text}"`.
            system: Instructions before each prompt.
            schema: What answers have to fit: a Pydantic model's class, a JSON schema, or the path of one.
            params: What else `create` takes, for all rows.
            job: The folder that keeps the job, so that the same call goes on after an interruption; None: `run` has
                one beside its file, and an iteration has none.
            limit: How many rows to take, from the first; None: all.
            max_concurrency: The most calls in flight; None: as many as latency and rate limits allow.
            retry_failed: Ask the rows that failed in an earlier run again.
            on_progress: Called with how far the job is, at most ten times a second, in another thread.
            max_usd: What the job may cost over all of its runs, in US dollars. A call is made only while it would fit
                at its worst, so give `max_tokens` in `params`; then the job stops, and goes on with a larger amount.
            deadline_s: In how many seconds all should be done, counted from the first run of the job. With it, rows go
                to the batch API of their provider where that is cheaper; those of a batch that is late are asked at
                once, in time. For this an iteration needs `job`. None: all is asked at once. A job that is late itself
                goes on to its end.
            venues: Those that are permitted: `now`, `batch`, `idle`. Rows that no batch answers are asked at once
                anyhow; with `["idle"]` none is asked outside idle hours, and they may end after the deadline.
            idle: The hours in which this machine is idle, in the configuration's `timezone`, else in local time:
                `22:00-06:00`, `mon-fri 20:00-07:00, weekends`. In them, and only in them, a target of the model that is
                a GGUF file or a server on loopback answers rows, where that is not more expensive. Rows that it cannot
                answer before the deadline are asked at once, in time. None: this machine has no such hours.
            engine: `local`: this process makes the calls; `ray`: workers on Ray do, each with a client of its own,
                while the job's folder, input and output stay here.
            ray_address: The Ray cluster; None: that of `RAY_ADDRESS`, else one that is started on this machine.
            ray_workers: How many workers on Ray; None: one for each node, or each GPU where the model runs in the
                workers; two on a single machine.

        Returns:
            The job. Nothing is read or asked before it is iterated over, or run.

        Raises:
            InvalidRequestError: An argument is wrong. What is wrong with the rows is raised where the job begins.

        Example:
            for result in client.bulk(["Why do llamas hum?", "What do llamas eat?"], model="gguf/smollm2-135m"):
                print(result.row.position, result.text or result.error)
        """
        ready("llama_client.bulk.api", "llama_client.bulk.setup")
        from llama_client.bulk.api import Bulk
        from llama_client.bulk.options import BulkOptions
        from llama_client.bulk.setup import JobSetup

        options = BulkOptions(
            model, prompt, system, schema, params, job, limit, max_concurrency, retry_failed, on_progress,
            max_usd, deadline_s, venues, idle, engine, ray_address, ray_workers,
        )  # fmt: skip
        return Bulk(JobSetup(self._context, rows, options))

    def _settle(self) -> None:
        self._context.accounting.reaper.settle()

    def close(self) -> None:
        """Ends running calls and frees every model that no other client uses. Further calls are errors."""
        with ExitStack() as stack:
            stack.callback(self._context.accounting.close)
            if self._context.cache is not None:
                stack.callback(self._context.cache.close, self._context.closing)
            stack.callback(self._context.router.health.close)
            stack.callback(self._context.providers.close)
            self._context.closing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncLlamaClient(_BaseClient):
    """See `LlamaClient`: the same for asyncio, with `await` before each call, `async with`, and `aclose()`.

    Safe to share between the tasks of one event loop. `http_client` is an `httpx.AsyncClient`.

    Example:
        async with AsyncLlamaClient() as client:
            reply = await client.ask("Why do llamas hum?")
    """

    _is_async = True
    chat: AsyncChat
    models: AsyncModels
    providers: AsyncProviderDirectory
    costs: AsyncCosts

    def __init__(
        self,
        config: Source = None,
        *,
        http_client: httpx.AsyncClient | None = None,
        tags: Mapping[str, str] | None = None,
        local_only: bool | None = None,
    ) -> None:
        self._open(config, tags, http_client, local_only)

    def _bind(self) -> None:
        from llama_client.costs.api import AsyncCosts

        self.chat = AsyncChat(self._context)
        self.costs = AsyncCosts(self._context.cost_source, self._context.loop)
        self.providers = AsyncProviderDirectory(self._context.providers, self._context.loop)
        self.models = AsyncModels(self.providers)

    def sdk(self, provider: str) -> Any:
        """See `LlamaClient.sdk`: here a `groq.AsyncGroq` for kind `groq`, an `openai.AsyncOpenAI` for the others.

        The first call for a provider imports its package, which takes up to half a second.
        """
        return self._context.providers.async_sdk(provider)

    async def default_model(self) -> str:
        """`LlamaClient.default_model`, awaited."""
        self._context.loop.check()
        return await self._context.default.aname()

    async def _ask(self, prompt: str | Sequence[Mapping[str, object] | Message], **params: Any) -> ChatCompletion:
        reply: ChatCompletion = await self.chat.completions.create(**asked(prompt, params))
        return reply

    @runs(_ask)
    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, object] | Message],
        *,
        system: str | None = None,
        model: str | Sequence[str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
        n: int | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        repetition_penalty: float | None = None,
        logit_bias: Mapping[str, float] | Mapping[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
        tool_choice: str | Mapping[str, object] | None = None,
        parallel_tool_calls: bool | None = None,
        reasoning_effort: str | None = None,
        reasoning_format: str | None = None,
        service_tier: str | None = None,
        user: str | None = None,
        timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        response_format: Mapping[str, object] | None = None,
    ) -> ChatCompletion:
        """`LlamaClient.ask`, awaited."""
        raise NotImplementedError

    async def count_tokens(
        self, messages: str | Sequence[Mapping[str, object] | Message], model: str | Sequence[str] | None = None
    ) -> TokenCount:
        """`LlamaClient.count_tokens`, awaited."""
        return await self._context.in_thread(model, self._context.count_tokens, messages, model)

    async def estimate_cost(
        self,
        messages: str | Sequence[Mapping[str, object] | Message],
        model: str | Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
    ) -> CostEstimate:
        """`LlamaClient.estimate_cost`, awaited."""
        return await self._context.in_thread(model, self._context.estimate_cost, messages, model, max_tokens)

    def bulk(
        self,
        rows: object,
        *,
        model: str | Sequence[str] | None = None,
        prompt: str | None = None,
        system: str | None = None,
        schema: type[BaseModel] | Mapping[str, object] | str | Path | None = None,
        params: Mapping[str, object] | None = None,
        job: str | Path | None = None,
        limit: int | None = None,
        max_concurrency: int | None = None,
        retry_failed: bool = False,
        on_progress: Callable[[BulkProgress], object] | None = None,
        max_usd: Decimal | float | str | None = None,
        deadline_s: float | None = None,
        venues: Sequence[Literal["now", "batch", "idle"]] | None = None,
        idle: str | None = None,
        engine: Literal["local", "ray"] = "local",
        ray_address: str | None = None,
        ray_workers: int | None = None,
    ) -> AsyncBulk:
        """`LlamaClient.bulk`, for `async for` and `await job.run(...)`."""
        ready("llama_client.bulk.api", "llama_client.bulk.setup")
        from llama_client.bulk.api import AsyncBulk
        from llama_client.bulk.options import BulkOptions
        from llama_client.bulk.setup import JobSetup

        options = BulkOptions(
            model, prompt, system, schema, params, job, limit, max_concurrency, retry_failed, on_progress,
            max_usd, deadline_s, venues, idle, engine, ray_address, ray_workers,
        )  # fmt: skip
        return AsyncBulk(JobSetup(self._context, rows, options))

    async def aclose(self) -> None:
        """`LlamaClient.close`, awaited."""
        running_loop()
        self._context.closing.set()
        await self._context.providers.aclose()
        self._context.router.health.close()
        if self._context.cache is not None:
            import asyncio

            await asyncio.to_thread(self._context.cache.close, self._context.closing)
        await self._context.accounting.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
