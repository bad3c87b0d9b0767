#!/usr/bin/env bash
# litellm 1.110.2: Nscale's price of a million tokens, which holds for input and output alike, is charged by half.
#
# The price map's own note says "$0.40/1M tokens total. Assumed 50/50 split for input/output", and the map has half of that for
# input and half for output. Each token is one or the other, so a million of them, however they are mixed, costs $0.20 there,
# in `cost_per_token` as in budgets and reports that are made of it. Nine models have such a note.
#
# Seen: 900,000 tokens in and 100,000 out of Llama-3.3-70B: $0.20, by the note $0.40.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "litellm==1.110.2"
LITELLM_LOCAL_MODEL_COST_MAP=True "$work/venv/bin/python" - <<'PY'
import re

import litellm

MODEL = "nscale/meta-llama/Llama-3.3-70B-Instruct"
note = litellm.model_cost[MODEL]["metadata"]["notes"]
per_mtok = float(re.search(r"\$([\d.]+)/1M tokens total", note)[1])
charged = sum(litellm.cost_per_token(model=MODEL, prompt_tokens=900_000, completion_tokens=100_000))
print(note)
print(f"charged for a million tokens: ${charged:.2f}")
split = [name for name, row in litellm.model_cost.items() if "Assumed 50/50" in str(row.get("metadata"))]
print(f"{len(split)} models with such a note")
assert abs(charged - per_mtok / 2) < 1e-9, "the price is no longer halved"
PY
