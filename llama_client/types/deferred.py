"""Models whose schemas are built at their first use, to keep the import of the package fast."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from llama_client.process import between_forks


class DeferredModel(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(defer_build=True)

    @classmethod
    def model_rebuild(cls, *, _parent_namespace_depth: int = 2, **options: Any) -> bool | None:
        # pydantic has one lock for all models: a child that is forked meanwhile would wait for it for ever.
        with between_forks():
            return super().model_rebuild(_parent_namespace_depth=_parent_namespace_depth + 1, **options)
