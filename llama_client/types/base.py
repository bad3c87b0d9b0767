"""What all answer models share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AnswerModel(BaseModel):
    """A part of an answer.

    Unknown fields are ignored: providers add fields at any time, and `ChatCompletion.raw` keeps them all. Schemas are
    built at first use, so that importing the package stays cheap.
    """

    model_config = ConfigDict(extra="ignore", defer_build=True)
