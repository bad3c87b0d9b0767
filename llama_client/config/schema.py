"""The shape of the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from llama_client.errors import ConfigError
from llama_client.validation import broken_rule, first_problem, suggestion

PROVIDER_KINDS = ("gguf",)


def _absolute(path: Path, info: ValidationInfo) -> Path:
    """`~` is the user's home; a relative path starts at the folder of the file that names it."""
    folder: Path | None = (info.context or {}).get("folder")
    try:
        # Pinned now: a program that changes its working folder before the first load means the same file.
        return ((folder or Path()) / path.expanduser()).absolute()
    except (RuntimeError, OSError) as error:  # no such user's home, or no working folder any more
        raise broken_rule("", f"has no such place: {error}") from None


def _path_text(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise broken_rule("", "must be the path of a file")
    return value


FilePath = Annotated[Path, BeforeValidator(_path_text), AfterValidator(_absolute)]
Threads = Annotated[int, Field(strict=True, ge=1, le=4096)]


class ConfigTable(BaseModel):
    """A table of the configuration: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class LoraAdapter(ConfigTable):
    """A fine-tuned adapter that changes a model's answers, and how strongly."""

    path: FilePath
    scale: Annotated[float, Field(strict=True, allow_inf_nan=False)] = 1.0


class GgufProvider(ConfigTable):
    """A provider of kind `gguf`: files run inside this process.

    Attributes:
        kind: `gguf`.
        model_path: The file behind `<provider>/default`; absent: the demo model, once pulled.
        n_ctx: The context of one request in tokens, which llama.cpp rounds up to a multiple of 256; absent: the model's
            own, at most 8192. Each of the `n_parallel` slots holds as much.
        n_parallel: How many requests are worked on at once; more wait.
        n_gpu_layers: Layers on the GPU; absent: as many as fit.
        n_threads: CPU threads; absent: llama.cpp's choice.
        mmproj: The projector file that lets the model see images.
        lora: Adapters.
    """

    kind: Literal["gguf"] = "gguf"
    model_path: FilePath | None = None
    n_ctx: Annotated[int, Field(strict=True, ge=64, le=1 << 24)] | None = None
    n_parallel: Annotated[int, Field(strict=True, ge=1, le=256)] = 1
    n_gpu_layers: Annotated[int, Field(strict=True, ge=0, le=10_000)] | None = None
    n_threads: Threads | None = None
    mmproj: FilePath | None = None
    lora: tuple[LoraAdapter, ...] = ()

    @model_validator(mode="after")
    def _slots_can_be_counted(self) -> GgufProvider:
        # llama.cpp holds all slots in one cache, and counts its tokens with 32 bits.
        if (self.n_ctx or 0) * self.n_parallel >= 2**31:
            raise broken_rule("n_ctx", f"times n_parallel must be below {2**31}, got {self.n_ctx} x {self.n_parallel}")
        return self


class Config(ConfigTable):
    """The whole configuration.

    Attributes:
        default_model: What `model` means where it is omitted.
        local_only: Refuse whatever would leave this machine.
        providers: Who answers, by name.
    """

    default_model: Annotated[str, Field(min_length=1)] | None = None
    local_only: StrictBool = False
    providers: dict[str, GgufProvider] = Field(default_factory=dict)


def read_config(values: dict[str, Any], *, origin: str, folder: Path | None = None) -> Config:
    """Checks a configuration's values.

    Args:
        values: The tables and keys of the TOML.
        origin: Where they come from, for messages.
        folder: Where relative paths start; None: the working directory.

    Raises:
        ConfigError: Names the key, what was wrong and what would be right.
    """
    _check_kinds(values, origin)
    try:
        return Config.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        problem = first_problem(error, known=_names_beside(error))
        raise ConfigError(f"{origin}: {problem.sentence}", key=problem.field or None) from None


def _check_kinds(values: dict[str, Any], origin: str) -> None:
    """A table's kind is its name where it gives none; so a name that is no kind needs one."""
    providers = values.get("providers")
    if isinstance(providers, dict) and not all(isinstance(name, str) for name in providers):
        raise ConfigError(f"{origin}: providers: every name must be text", key="providers")
    for name, table in providers.items() if isinstance(providers, dict) else ():
        kind = table.get("kind", name) if isinstance(table, dict) else "gguf"
        if kind not in PROVIDER_KINDS:
            known = ", ".join(repr(known) for known in PROVIDER_KINDS)
            key = f"providers.{name}.kind"
            raise ConfigError(
                f"{origin}: {key}: must be {known}, got {kind!r}{suggestion(str(kind), PROVIDER_KINDS)}", key=key
            )
        if "/" in name or not name:
            raise ConfigError(
                f"{origin}: providers: a name must not be empty or hold '/', got {name!r}", key="providers"
            )


def _names_beside(error: ValidationError) -> tuple[str, ...]:
    """The keys that exist in the table where the first error is."""
    match error.errors(include_url=False)[0]["loc"]:
        case ("providers", _, "lora", *_):
            return tuple(LoraAdapter.model_fields)
        case ("providers", *_):
            return tuple(GgufProvider.model_fields)
        case _:
            return tuple(Config.model_fields)
