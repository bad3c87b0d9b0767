"""Token counts. A count that the provider did not report is None, never 0."""

from __future__ import annotations

from llama_client.types.base import AnswerModel


class PromptTokensDetails(AnswerModel):
    """What the prompt's tokens were."""

    cached_tokens: int | None = None


class CompletionTokensDetails(AnswerModel):
    """What the answer's tokens were."""

    reasoning_tokens: int | None = None


class Usage(AnswerModel):
    """Token counts under OpenAI's names.

    `prompt_tokens` includes the cached ones and is counted once for `n > 1`; `completion_tokens` is the sum over all
    choices.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from a cache; None where the provider does not say."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    @property
    def reasoning_tokens(self) -> int | None:
        """Answer tokens spent on reasoning; None where the provider does not say."""
        return self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None
