"""Prompts for measuring: of about the length asked for, and each unlike the others, so that no cache has read it."""

from __future__ import annotations

import random

# Each is one token, with the space before it, in the vocabularies of Llama 3 and GPT.
_WORDS = """
    time year people way day man thing woman life child world school state family student group country problem hand
    part place case week company system program question work government number night point home water room mother
    area money story fact month lot right study book eye job word business issue side kind head house service friend
    father power hour game line end member law car city community name president team minute idea body information
    back parent face others level office door health person art war history party result change morning reason
    research girl guy moment air teacher force education
"""
_TASK = "Tell a very long story in which each of these words comes up, one after the other, and do not stop:"
# The task, the mark before it and a template's own tokens, as far as they are alike.
_TOKENS_BESIDE = 60


class Prompts:
    """Makes prompts of about a number of tokens.

    Args:
        input_tokens: How many.
        chance: Where words come from.

    Examples:
        >>> prompts = Prompts(100, random.Random(1))
        >>> first, second = prompts.next(), prompts.next()
        >>> first[:10] == second[:10]
        False
    """

    def __init__(self, input_tokens: int, chance: random.Random) -> None:
        self._input_tokens = input_tokens
        self._chance = chance
        self._known = _WORDS.split()
        self._words = max(input_tokens - _TOKENS_BESIDE, 1)

    def next(self) -> str:
        """Another one. It differs from its first word on, as caches go by beginnings."""
        mark = f"{self._chance.getrandbits(64):016x}"
        return f"{mark} {_TASK} {' '.join(self._chance.choices(self._known, k=self._words))}"

    def correct(self, counted_tokens: int) -> None:
        """Takes in how many tokens the last prompt really had."""
        # Whatever the tokenizer, a word has from one to three.
        tokens_a_word = min(max(counted_tokens / (self._words + _TOKENS_BESIDE), 1.0), 3.0)
        self._words = max(self._words + round((self._input_tokens - counted_tokens) / tokens_a_word), 1)
