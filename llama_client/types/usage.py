"""Token counts. A count that the provider did not report is None, never 0."""

from __future__ import annotations

from llama_client.types.base import AnswerModel


class PromptTokensDetails(AnswerModel):
    """What the prompt's tokens were.

    Attributes:
        cached_tokens: Those that came from a cache.
    """

    cached_tokens: int | None = None


class CompletionTokensDetails(AnswerModel):
    """What the answer's tokens were.

    Attributes:
        reasoning_tokens: Those that were spent on thinking.
    """

    reasoning_tokens: int | None = None


class Usage(AnswerModel):
    """Token counts under OpenAI's names. A count that the provider did not report is None, never 0.

    Attributes:
        prompt_tokens: Of the prompt, the cached ones included; counted once for `n > 1`.
        completion_tokens: Of the answer, the sum over all choices.
        total_tokens: Both together.
        prompt_tokens_details: What the prompt's tokens were.
        completion_tokens_details: What the answer's tokens were.
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
