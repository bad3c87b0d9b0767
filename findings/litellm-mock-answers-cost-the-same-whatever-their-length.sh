#!/usr/bin/env bash
# litellm 1.110.2: a mocked answer has 10 and 20 tokens however long it is, but not where it is streamed.
#
# `completion(mock_response=TEXT)` reports 10 prompt tokens and 20 completion tokens for any prompt and any text, and
# `completion_cost` bills these; the same mock with `stream=True` counts the tokens of prompt and text. `max_tokens` cuts neither.
# So a test of costs or budgets on mocked answers sees one constant cost, whatever the program under test asks.
#
# Seen: 1 word: 10 + 20 tokens, $0.00000675; 2,000 words: 10 + 20 tokens, $0.00000675; 2,000 words, streamed: 509 + 2008 tokens.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "litellm==1.110.2"
LITELLM_LOCAL_MODEL_COST_MAP=True "$work/venv/bin/python" - <<'PY'
from typing import Any

import litellm

LONG = "word " * 2000


def ask(text: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": "word " * 500}]
    return litellm.completion(model="groq/openai/gpt-oss-20b", messages=messages, mock_response=text, **more)


def counted(reply: Any) -> tuple[int, int]:
    return reply.usage.prompt_tokens, reply.usage.completion_tokens


found = {}
for name, text in (("1 word", "word"), ("2,000 words", LONG)):
    reply = ask(text, max_tokens=5)
    found[name] = *counted(reply), litellm.completion_cost(reply)
    print(f"{name}: {found[name][0]} + {found[name][1]} tokens, ${found[name][2]:.8f}")
last = [chunk for chunk in ask(LONG, stream=True, stream_options={"include_usage": True})][-1]
print("2,000 words, streamed: {} + {} tokens".format(*counted(last)))
assert found["1 word"] == found["2,000 words"], "mocked answers are counted now"
assert counted(last)[1] > 1000, "mocked streams are counted otherwise now"
PY
