"""A budget that is spent: the cloud answers while it lasts, then a model on your own machine; and what it all cost.

The cloud is played by a stand-in here, so that this runs without keys; the model in this process is a real one: run it
after `llama-client pull smollm2-135m`. Expected output:

    cloud/openai/gpt-oss-20b $0.0000054 exact
    cloud/openai/gpt-oss-20b $0.0000054 exact
    laptop/smollm2-135m $0 free
    the budget all a day: $0.0000108 of $0.0005 spent
    2 calls with cloud: $0.0000108
    1 calls with laptop: $0
"""

import tempfile
from pathlib import Path

from standin import standin

from llama_client import LlamaClient

with standin() as cloud, tempfile.TemporaryDirectory() as folder:
    configuration = {
        "default_model": "chat",
        "providers": {
            "cloud": {"kind": "openai", "base_url": f"{cloud}/v1"},
            "laptop": {"kind": "gguf"},
        },
        "routes": {"chat": {"targets": ["cloud/openai/gpt-oss-20b", "laptop/smollm2-135m"]}},
        "prices": [{"target": "cloud/openai/gpt-oss-20b", "input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.5}],
        # Without this it is a file in your data folder, which every program of yours shares.
        "ledger": {"url": f"sqlite:///{Path(folder) / 'costs.db'}"},
        "budgets": [{"usd": 0.0005, "window": "day", "on_exceeded": "local"}],
    }
    with LlamaClient(configuration) as client:
        # What is set aside before a call is the most that it can cost, so a shorter max_tokens lets more of them in.
        for max_tokens in (50, 50, 1000):
            reply = client.ask("What is the capital of Japan?", temperature=0, max_tokens=max_tokens)
            print(reply.target, f"${reply.cost.usd:f}", reply.cost.status)
        for budget in client.costs.budgets():
            print(f"the budget {budget.budget}: ${budget.spent_usd:f} of ${budget.usd:f} spent")
        for group in client.costs.report(by="provider").groups:
            print(f"{group.calls} calls with {group.key}: ${group.usd:f}")
