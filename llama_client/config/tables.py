"""What all tables of the configuration share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationInfo

from llama_client.validation import broken_rule


class ConfigTable(BaseModel):
    """A table of the configuration: unknown keys are errors, and nothing changes once read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, defer_build=True)


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
Name = Annotated[StrictStr, Field(min_length=1)]
