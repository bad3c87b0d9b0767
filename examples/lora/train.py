"""Trains the adapter of this folder: a support desk's ticket in, the team that it is for out, on a CPU.

It needs packages that llama-client does not (README.md beside this file names them), and the base as a GGUF file:
`llama-client pull smollm2-135m --json` tells where that lies.

    python examples/lora/train.py --base PATH/smollm2-135m.gguf --out adapter
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found, unused-ignore]
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # type: ignore[import-not-found, unused-ignore]

SEED = 0
# 0.2% of the model: what a ticket is about is known to its last 12 layers of 30, and two directions in each are enough.
RANK = 2
ALPHA = 4
MODULES = ["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYERS = list(range(18, 30))
EPOCHS, BATCH, WARM_UP_STEPS, LEARNING_RATE = 9, 8, 8, 2e-3

# Tokens of the prompt, and of the answer.
Row = tuple[list[int], list[int]]


def rows_of(tickets: Path, tokenizer: Any) -> Iterator[Row]:
    """Each ticket and its team as a conversation in the model's own template, with the end of the answer."""
    for line in tickets.read_text(encoding="utf-8").splitlines():
        ticket = json.loads(line)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": ticket["ticket"]}], add_generation_prompt=True, tokenize=False
        )
        answer = json.dumps({"team": ticket["team"]}) + tokenizer.eos_token
        yield tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"]


def loss_of(causal: Any, rows: Sequence[Row], padding: int) -> Any:
    """How surprised the model is at the answers, and at them alone."""
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    # Padded on the right, where no token of a conversation can look.
    tokens = torch.tensor([p + a + [padding] * (longest - len(p) - len(a)) for p, a in rows])
    hidden = causal.model(input_ids=tokens, use_cache=False).last_hidden_state
    before_answers = [(at, place) for at, (p, a) in enumerate(rows) for place in range(len(p) - 1, len(p) + len(a) - 1)]
    picked = torch.stack([hidden[at, place] for at, place in before_answers])
    wanted = torch.tensor([token for _, answer in rows for token in answer])
    return torch.nn.functional.cross_entropy(causal.lm_head(picked).float(), wanted)


def train(base: Path, tickets: Path, out: Path) -> None:
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
    # The very weights that will be served, unpacked.
    causal = AutoModelForCausalLM.from_pretrained(
        base.parent, gguf_file=base.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    settings = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=MODULES,
        layers_to_transform=LAYERS,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(causal, settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = list(rows_of(tickets, tokenizer))
    steps = EPOCHS * (len(rows) // BATCH)
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP_STEPS) * (1 - step / steps)
    )
    print(f"{len(rows)} tickets, {sum(parameter.numel() for parameter in trained):,} numbers to train", flush=True)
    shuffle, started = random.Random(SEED), time.perf_counter()  # noqa: S311 - the same order each time, no secret
    for epoch in range(1, EPOCHS + 1):
        shuffle.shuffle(rows)
        losses = []
        for at in range(0, len(rows), BATCH):
            loss = loss_of(causal, rows[at : at + BATCH], tokenizer.pad_token_id)
            loss.backward()
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        spent_s = time.perf_counter() - started
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}, {spent_s:.0f} s", flush=True)
    for parameter in trained:
        parameter.data = parameter.data.half()
    # Its name, not where it lies on this machine.
    model.peft_config["default"].base_model_name_or_path = base.stem
    model.save_pretrained(out, save_embedding_layers=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a LoRA adapter that sorts tickets.")
    parser.add_argument("--base", type=Path, required=True, help="the model's GGUF file")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--tickets", type=Path, default=Path(__file__).parent / "tickets.jsonl")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.base, arguments.tickets, arguments.out)


if __name__ == "__main__":
    main()
