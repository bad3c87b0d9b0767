"""The steps in the life of a part, as data: what `plan` decides, and `driver` does."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Which = Literal["answers", "errors"]


@dataclass(frozen=True, slots=True)
class Save:
    """Write down what the part is now."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Think of what is to be set aside; the part keeps it."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set it aside."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Put the cost in its place.

    Attributes:
        usd: `nothing`: it cost nothing; `told`: `part.usd`; `most`: all of it.
    """

    usd: Literal["nothing", "told", "most"]


@dataclass(frozen=True, slots=True)
class Upload:
    """Upload the file of requests."""


@dataclass(frozen=True, slots=True)
class FindFiles:
    """Look for uploaded files with the part's name."""


@dataclass(frozen=True, slots=True)
class Create:
    """Create the batch."""


@dataclass(frozen=True, slots=True)
class FindBatches:
    """Look for batches with the part's name or file."""


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Ask how far a batch is.

    Attributes:
        batch_id: Which.
    """

    batch_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask a batch to stop.

    Attributes:
        batch_id: Which.
    """

    batch_id: str


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch a file.

    Attributes:
        which: What for.
        file_id: Which.
    """

    which: Which
    file_id: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Read what was fetched, and record the result of each row, and the counts and the cost of the part."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a file at the provider.

    Attributes:
        file_id: Which.
    """

    file_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the part's own files."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Let time pass, unless the part is cancelled.

    Attributes:
        seconds: How much.
    """

    seconds: float


Step: TypeAlias = (
    Save | Hold | Reserve | Settle | Upload | FindFiles | Create | FindBatches | Retrieve | Cancel | Download | Collect
    | Delete | Forget | Wait
)  # fmt: skip
Steps: TypeAlias = Generator[Step, Any, None]
