"""What all answer models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import TypeVar

    # What `parsed` holds: any object, where nobody says. Not Any, which would make an answer Any in `asyncio.gather`.
    Parsed_co = TypeVar("Parsed_co", covariant=True, default=object)
else:
    Parsed_co = Any


class AnswerModel(BaseModel):
    """A part of an answer.

    Unknown fields are ignored: providers add fields at any time, and `ChatCompletion.raw` keeps them all. Schemas are
    built at first use, so that importing the package stays cheap.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", defer_build=True)


if TYPE_CHECKING:

    class ParsedModel(AnswerModel, Generic[Parsed_co]):
        """A part of an answer that may hold an object, whose type `parse` tells to type checkers."""

else:

    class ParsedModel(AnswerModel):
        """A part of an answer that may hold an object.

        While a program runs there is one class, whatever stands in its brackets: only `parse` knows a type, and
        pydantic would build the class anew for each.
        """

        def __class_getitem__(cls, _parsed: object) -> type[ParsedModel]:
            return cls
