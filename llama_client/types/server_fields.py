"""What servers put on the messages of their answers, by name: kept, and handed back to who takes it."""

from __future__ import annotations

# The model's reasoning as a text: Groq's, vLLM's and OpenRouter's name, DeepSeek's and llama.cpp's, Ollama's.
REASONING_NAMES = ("reasoning", "reasoning_content", "thinking")
# Our name for a content that is a list with more than texts, as Mistral's.
CONTENT_PARTS = "content_parts"
# Names that only answers have. A request with one has it from an answer.
ANSWER_NAMES = frozenset(
    {
        *REASONING_NAMES, CONTENT_PARTS, "reasoning_details", "thinking_blocks", "extra_content", "annotations",
        "audio", "images", "citations", "search_results", "executed_tools", "function_call", "parsed", "refusal",
        "provider_specific_fields",
    }
)  # fmt: skip
# Types of parts that only an answer's content has.
ANSWER_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning", "reference"})
# Marks of what is to be cached, without effect on the answer: Anthropic's and OpenRouter's, OpenAI's.
CACHE_MARKS = frozenset({"cache_control", "prompt_cache_breakpoint"})
