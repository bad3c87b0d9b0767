"""Writes the table of servers in docs/guides/providers.md: `python -m tests.wire.servers_page`.

The numbers are those of the rows in answers.json, failures.json and cases.json; a row here says where a server's facts
come from.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "providers.md"
_MARKED = re.compile(r"(<!-- servers -->\n).*?(<!-- end of servers -->)", re.DOTALL)
_FOLDER = Path(__file__).parent
_ROWS = {name: json.loads((_FOLDER / f"{name}.json").read_text("utf-8")) for name in ("answers", "failures")}
_CASES = json.loads((_FOLDER / "cases.json").read_text("utf-8"))["cases"]
_RECORDED = "recordings of public projects, with invented words here"
_DOCUMENTED = "its documentation and package"
_REPORTED = "its documentation, and public reports"


class Server(NamedTuple):
    """A server: its rows are those whose `server` begins with one of `names`."""

    title: str
    names: tuple[str, ...]
    provider: str
    verified: str
    # How the ids of its exchanges in cases.json begin.
    case: str = ""
    when: str = "2026-11"


SERVERS = (
    Server("OpenAI", ("OpenAI",), "`openai`", _RECORDED, "openai-"),
    Server("OpenRouter", ("OpenRouter",), "`openrouter`", _RECORDED),
    Server("Mistral", ("Mistral",), "`mistral`", _RECORDED),
    Server("DeepSeek", ("DeepSeek",), "`deepseek`", _RECORDED),
    Server("xAI", ("xAI",), "`xai`", _RECORDED),
    Server("Gemini's endpoint", ("Gemini",), "`gemini`", _REPORTED),
    Server("Azure", ("Azure",), "`openai` with a `base_url`", _RECORDED),
    Server("Groq", ("Groq",), "`groq`", f"{_RECORDED}; {_DOCUMENTED}", "groq-"),
    Server("Together", ("Together",), "`together`", _DOCUMENTED, "together-"),
    Server("Cerebras", ("Cerebras",), "`cerebras`", f"{_RECORDED}; {_DOCUMENTED}"),
    Server("Perplexity", ("Perplexity",), "`openai` with a `base_url`", _RECORDED),
    Server("Snowflake Cortex", ("Snowflake",), "`openai` with a `base_url`", _RECORDED),
    Server("vLLM", ("vLLM",), "`vllm`", f"{_RECORDED}; its source", "vllm-"),
    Server("SGLang", ("SGLang",), "`openai` with a `base_url`", _REPORTED),
    Server("LM Studio", ("LM Studio",), "`lmstudio`", _REPORTED),
    Server("GPUStack", ("GPUStack",), "`openai` with a `base_url`", _RECORDED),
    Server("llama.cpp's server", ("llama.cpp",), "`llamacpp`", "the real server on loopback, b11549", "llamacpp-"),
    Server("Ollama, its own API", ("Ollama",), "`ollama`", "bytes that the real server sent, 0.34.2", "ollama-"),
    Server("Ollama's `/v1`", ("Ollama /v1",), "`openai` with a `base_url`", "bytes that the real server sent, 0.34.2"),
    Server("LiteLLM's proxy", ("LiteLLM",), "`litellm`", "the real proxy on loopback, 1.108.7"),
)


def filled(page: str) -> str:
    """The page with the table as the rows have it."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", page)


def table() -> str:
    """A line for each server."""
    lines = ["| server | here | verified by | when | answers, failures tested |", "|---|---|---|---|---|"]
    for server in SERVERS:
        of_answers, of_failures = (_rows_of(server, rows) for rows in _ROWS.values())
        cases = [case["expect"]["ok"] for case in _CASES if case["id"].startswith(server.case)] if server.case else []
        counts = f"{of_answers + sum(cases)}, {of_failures + len(cases) - sum(cases)}"
        lines.append(f"| {server.title} | {server.provider} | {server.verified} | {server.when} | {counts} |")
    return "\n".join(lines) + "\n"


def _rows_of(server: Server, rows: list[dict[str, object]]) -> int:
    others = [name for each in SERVERS if each is not server for name in each.names if name.startswith(server.names)]
    named = [str(row["server"]) for row in rows]
    return sum(name.startswith(server.names) and not name.startswith(tuple(others)) for name in named)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
