"""The configuration as a whole, and how it is read. The tables of providers are in providers.py."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    StrictBool,
    Tag,
    ValidationError,
    model_validator,
)

from llama_client.catalog.catalog import ABILITIES, UserRow
from llama_client.config.provider_tables import (
    GgufConfig,
    GroqConfig,
    HttpProviderConfig,
    LoraAdapter,
    OllamaConfig,
    OpenAIConfig,
    TogetherConfig,
)
from llama_client.config.tables import (
    BudgetTable,
    ConfigTable,
    CrossoverConfig,
    ExpertsTable,
    GpuPriceTable,
    GpuTable,
    LedgerTable,
    ModelTable,
    Name,
    PriceRow,
    PrivacyConfig,
    RouteConfig,
    RouteTarget,
    RoutingConfig,
    TelemetryConfig,
    is_target,
    time_zone,
)
from llama_client.errors import ConfigError
from llama_client.validation import Problem, broken_rule, most_telling, place, problem_of, quoted, suggestion

if TYPE_CHECKING:
    from llama_client.validation import Detail

TABLES: dict[str, type[HttpProviderConfig] | type[GgufConfig]] = {
    "groq": GroqConfig,
    "together": TogetherConfig,
    "ollama": OllamaConfig,
    "openai": OpenAIConfig,
    "gguf": GgufConfig,
}
PROVIDER_KINDS = tuple(TABLES)
# These answer without a table of their own; a server of kind `openai` has no address that could be guessed.
BUILT_IN_PROVIDERS = ("groq", "together", "ollama", "gguf")
# What must not be shown, whatever is wrong with it.
SECRET_KEYS = frozenset({"api_key", "headers", "proxy", "api_key_command", "url"})


Provider = Annotated[
    Annotated[GroqConfig, Tag("=groq")]
    | Annotated[TogetherConfig, Tag("=together")]
    | Annotated[OllamaConfig, Tag("=ollama")]
    | Annotated[OpenAIConfig, Tag("=openai")]
    | Annotated[GgufConfig, Tag("=gguf")],
    Discriminator(lambda table: f"={table['kind'] if isinstance(table, dict) else table.kind}"),
]


def _known_ability(ability: str) -> str:
    if ability not in ABILITIES:
        raise broken_rule("", f"must be one of {', '.join(sorted(ABILITIES))}{suggestion(ability, ABILITIES)}")
    return ability


class ModelRow(ConfigTable):
    """What the user knows of a model: it wins over the catalogue's own row.

    Attributes:
        target: `provider/model-id`.
        name: The canonical name, known or new, under which routing finds it too.
        aliases: Other names for it.
        context_tokens: The context that the provider serves it with.
        max_output_tokens: The longest answer.
        abilities: Of `tools`, `vision`, `reasoning`, `json_schema` and `prefill` (it goes on from an assistant message
            at the end), all that it has; absent: unknown.
        deprecated_on: The first day on which it is not served.
        replacement: The same provider's id to use then.
    """

    target: Annotated[Name, AfterValidator(is_target)]
    name: Name
    aliases: tuple[Name, ...] = ()
    context_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(strict=True, ge=1)] | None = None
    abilities: tuple[Annotated[str, AfterValidator(_known_ability)], ...] | None = None
    deprecated_on: date | None = None
    replacement: Name | None = None

    def as_row(self) -> UserRow:
        """The same for the catalogue."""
        return UserRow(**dict(self))


def _is_route_name(name: str) -> str:
    if not name or "/" in name:
        raise broken_rule("", f"a route's name must not be empty or hold '/', got {quoted(name)}")
    return name


class Config(ConfigTable):
    """The whole configuration.

    Attributes:
        default_model: What `model` means where it is omitted.
        local_only: Refuse whatever would leave this machine.
        timezone: Where days and months begin, for budgets, reports and prices.
        providers: Who answers, by name.
        routes: Named lists of targets.
        routing: What failover does.
        models: What the user knows of models beyond the catalogue.
        prices: The user's own prices.
        ledger: Where each attempt is written down.
        budgets: What may be spent.
        telemetry: OpenTelemetry's spans and metrics.
        crossover: Models, GPUs and rents of the user's own.
        privacy: Exceptions from `local_only`.
    """

    default_model: Annotated[str, Field(min_length=1)] | None = None
    local_only: StrictBool = False
    timezone: Annotated[Name, AfterValidator(time_zone)] = "UTC"
    providers: dict[str, Provider] = Field(default_factory=dict)
    routes: dict[Annotated[str, AfterValidator(_is_route_name)], RouteConfig] = Field(default_factory=dict)
    routing: RoutingConfig = RoutingConfig()
    models: tuple[ModelRow, ...] = ()
    prices: tuple[PriceRow, ...] = ()
    ledger: LedgerTable = LedgerTable()
    budgets: tuple[BudgetTable, ...] = ()
    telemetry: TelemetryConfig = TelemetryConfig()
    crossover: CrossoverConfig = CrossoverConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    _local_only_source: str | None = PrivateAttr(None)

    @property
    def local_only_source(self) -> str | None:
        """What switched `local_only` on, as `LocalOnlyError.source` names it; None where it is off."""
        return (self._local_only_source or "config") if self.local_only else None

    def made_local_only(self, source: str) -> Config:
        """The same with `local_only` on.

        Args:
            source: What wants it so.
        """
        made = self.model_copy(update={"local_only": True})
        made._local_only_source = source
        return made

    @model_validator(mode="after")
    def _names_are_of_providers(self) -> Config:
        known = (*self.providers, *(name for name in BUILT_IN_PROVIDERS if name not in self.providers))
        for name, route in self.routes.items():
            for number, row in enumerate(route.targets):
                provider, slash, model = row.target.partition("/")
                where = f"routes.{name}.targets[{number}]"
                if slash and not (model and provider in known):
                    hint = suggestion(provider, known)
                    who = f"no provider is named {quoted(provider)} (providers: {', '.join(known)})"
                    raise broken_rule(where, f"{who}{hint}")
                if row.target in self.routes:
                    raise broken_rule(where, f"{quoted(row.target)} is a route itself; a route lists targets")
        for number, budget in enumerate(self.budgets):
            kind, _, provider = budget.scope.partition(":")
            if kind == "provider" and provider not in known:
                hint = suggestion(provider, known)
                where = f"budgets[{number}].scope"
                who = f"no provider is named {quoted(provider)} (providers: {', '.join(known)})"
                raise broken_rule(where, f"{who}{hint}")
        return self


def read_config(values: dict[str, Any], *, origin: str, folder: Path | None = None, file: Path | None = None) -> Config:
    """Checks a configuration's values.

    Args:
        values: The tables and keys of the TOML.
        origin: Where they come from, for messages.
        folder: Where relative paths start; None: the working directory.
        file: The file that they come from, for errors; None: they come from none.

    Raises:
        ConfigError: Names the key, what was wrong and what would be right. It tells of one thing that is wrong;
            `problems.all_problems` tells of all.
    """
    values, wrong = with_kinds(values)
    if wrong:
        raise ConfigError(f"{origin}: {wrong[0].sentence}", key=wrong[0].field, file=file)
    try:
        return Config.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        problem = problem_at(most_telling(error.errors(include_url=False)))
        told = f"{origin}: {problem.sentence}"
        raise ConfigError(told, key=problem.field or None, file=file) from None


def problem_at(detail: Detail) -> Problem:
    """What pydantic found, as a sentence that suggests the keys of its table and never shows a secret."""
    show_values = not SECRET_KEYS.intersection(str(part) for part in detail["loc"])
    return problem_of(detail, known=_names_beside(detail["loc"]), show_values=show_values)


def kind_of(name: str, table: object) -> object:
    """A table's kind is its name where it gives none; so a name that is no kind needs one."""
    return table.get("kind", name) if isinstance(table, dict) else name


def with_kinds(values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The values with each provider's kind written out, and what is wrong with kinds and names of providers.

    In the place of a table that is wrong there is an empty one that is right, so that the rest can be checked.
    """
    providers = values.get("providers")
    if not isinstance(providers, dict):
        return values, []
    written: dict[str, Any] = {}
    wrong = []
    for name, table in providers.items():
        problem = _wrong_kind(name, table)
        if problem is None:
            written[name] = {**table, "kind": kind_of(name, table)}
            continue
        wrong.append(problem)
        if isinstance(name, str):
            written[name] = {"kind": "gguf"}
    return {**values, "providers": written}, wrong


def _wrong_kind(name: object, table: object) -> Problem | None:
    if not isinstance(name, str):
        return Problem("providers", "providers: every name must be text")
    kind = kind_of(name, table)
    if kind not in PROVIDER_KINDS:
        known = ", ".join(repr(known) for known in PROVIDER_KINDS)
        key = place(("providers", name, "kind"))
        return Problem(key, f"{key}: must be one of {known}, got {quoted(kind)}{suggestion(str(kind), PROVIDER_KINDS)}")
    if "/" in name or not name:
        return Problem("providers", f"providers: a name must not be empty or hold '/', got {quoted(name)}")
    if not isinstance(table, dict):
        key = place(("providers", name))
        return Problem(key, f"{key}: must be a table of keys")
    return None


def _names_beside(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The keys that exist in the table where an error is."""
    match location:
        case ("providers", _, _, "lora", *_):
            return tuple(LoraAdapter.model_fields)
        case ("providers", _, str(tag), *_):
            return tuple(TABLES[tag.removeprefix("=")].model_fields)
        case ("models", *_):
            return tuple(ModelRow.model_fields)
        case ("routes", _, "targets", int(), *_):
            return tuple(RouteTarget.model_fields)
        case ("routes", *_):
            return tuple(RouteConfig.model_fields)
        case ("routing", *_):
            return tuple(RoutingConfig.model_fields)
        case ("prices", *_):
            return tuple(PriceRow.model_fields)
        case ("ledger", *_):
            return tuple(LedgerTable.model_fields)
        case ("budgets", *_):
            return tuple(BudgetTable.model_fields)
        case ("telemetry", *_):
            return tuple(TelemetryConfig.model_fields)
        case ("privacy", *_):
            return tuple(PrivacyConfig.model_fields)
        case ("crossover", table, *rest):
            return _names_of_crossover(str(table), rest)
        case _:
            return tuple(Config.model_fields)


def _names_of_crossover(table: str, rest: list[int | str]) -> tuple[str, ...]:
    match table, rest:
        case ("models", [_, "moe", *_]):
            return tuple(ExpertsTable.model_fields)
        case ("models", [_, *_]):
            return tuple(ModelTable.model_fields)
        case ("gpus", [_, *_]):
            return tuple(GpuTable.model_fields)
        case ("gpu_prices", [_, *_]):
            return tuple(GpuPriceTable.model_fields)
        case _:
            return tuple(CrossoverConfig.model_fields)
