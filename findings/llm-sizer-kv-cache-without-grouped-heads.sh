#!/usr/bin/env bash
# llm-sizer 0.1.0: the KV cache of models with grouped heads is sized as if each attention head had its own.
#
# It takes 2 x layers x width numbers a token. Llama-3.3-70B has keys and values for 8 of its 64 heads (its published config.json:
# num_key_value_heads 8, head_dim 128, 80 layers), so a token takes 2 x 80 x 8 x 128 numbers, an eighth. Four users of 32k tokens
# in 16 bits take 40 GiB, not 320, and fit the machine that it proposes for 4k tokens, at a quarter of the price.
#
# Seen: llama-3.3-70b, fp16, four users of 32k tokens: 320 GiB of cache (by config.json 40 GiB), p4de.24xlarge, $29,495 a month;
# four users of 4k tokens, whose cache it sizes at 40 GiB: g6e.12xlarge, $7,556 a month.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "llm-sizer==0.1.0"
for context in 4k 32k; do
    "$work/venv/bin/llm-sizer" --model llama-3.3-70b --quant fp16 --context "$context" --concurrent-users 4 --json \
        >"$work/$context.json"
done
"$work/venv/bin/python" - "$work" <<'PY'
import json
import sys
from pathlib import Path

LAYERS, HEADS_WITH_A_CACHE, HEAD, BYTES = 80, 8, 128, 2
short, long = (json.loads((Path(sys.argv[1]) / f"{context}.json").read_text()) for context in ("4k", "32k"))
needed = 2 * LAYERS * HEADS_WITH_A_CACHE * HEAD * BYTES * long["context_tokens"] * long["concurrent_users"] / 2**30
for said in (short, long):
    machine = said["recommendation"]
    print(f"{said['context']}: {said['vram_gb']['kv_cache']} GiB of cache, {machine['instance']}, ${machine['usd_per_month']} a month")
print(f"32k by config.json: {needed:g} GiB of cache")
assert long["vram_gb"]["kv_cache"] == 8 * needed, "the cache is sized otherwise now"
assert short["vram_gb"]["kv_cache"] == needed
PY
