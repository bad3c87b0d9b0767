#!/usr/bin/env bash
# llm-sizer 0.1.0: the KV cache of models with grouped heads is sized as if each attention head had its own.
#
# It takes 2 x layers x width x tokens for the cache. Llama-3.3-70B has keys and values for 8 heads of its 64 (its published
# config.json: num_key_value_heads 8, head_dim 128, 80 layers), so a token takes 2 x 80 x 8 x 128 numbers, an eighth. With four
# users of 32k tokens in 16 bits the cache takes 40 GiB, not 320; the weights and it fit 4 x L40S, for a third of the price of
# what is proposed. `--quant q4` also halves and quarters the cache, which a server keeps in 16 bits whatever its weights have.
#
# Seen: llama-3.3-70b, 131072 tokens, fp16: 320.0 GiB of cache, by the config 40.0 GiB; proposed: PROPOSED
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "llm-sizer==0.1.0"
"$work/venv/bin/llm-sizer" --model llama-3.3-70b --quant fp16 --context 32k --concurrent-users 4 --json >"$work/said"
python3 - "$work/said" <<'PY'
import json
import sys

said = json.load(open(sys.argv[1]))
print(json.dumps(said))
PY
