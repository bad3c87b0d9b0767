"""When is a machine of one's own cheaper than an API? With the traffic of one's own ledger, and an honest "never".

The API is played by a stand-in here, so that this runs without keys. Expected output:

    20 calls in the ledger, 36% of their tokens are output
    as much as that, at $0.40 per million tokens: api
    ten million times as much: self-host
    at $0.05 per million tokens: never
    llama-2-70b, which none of the sellers has: no-api
    first cheaper from 372 million tokens a day, for good from 1018 million
"""

import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from standin import standin

from llama_client import LlamaClient
from llama_client.crossover import ApiPrice, Scenario, SelfHost, Traffic, evaluate
from llama_client.crossover.user_tables import traffic_of

TODAY = date(2026, 11, 26)
PAIR = SelfHost(gpu="h100_sxm", n_gpus=2, precision="fp8", gpu_usd_per_hour=2.69)


def api(usd_per_mtok: float) -> ApiPrice:
    return ApiPrice(input_usd_per_mtok=usd_per_mtok, output_usd_per_mtok=usd_per_mtok)


def verdict(traffic: Traffic, usd_per_mtok: float) -> str:
    scenario = Scenario(model="llama-3.1-70b", traffic=traffic, self_host=PAIR, apis=[api(usd_per_mtok)])
    return evaluate(scenario, today=TODAY).verdict


with standin() as cloud, tempfile.TemporaryDirectory() as folder:
    configuration = {
        "default_model": "cloud/llama-3.3-70b",
        "providers": {"cloud": {"kind": "openai", "base_url": f"{cloud}/v1"}},
        "ledger": {"url": f"sqlite:///{Path(folder) / 'ledger.db'}"},
    }
    with LlamaClient(configuration) as client:
        for _ in range(20):
            client.ask("What is the capital of Japan?")
        report = client.costs.traffic(since="30d")

print(report.calls, "calls in the ledger,", f"{report.output_share or 0:.0%} of their tokens are output")
# So few calls say nothing of peaks, as a real ledger does; 1.3 is that of users all over the world.
traffic = replace(traffic_of(report), peak_to_mean=1.3, hourly_tokens=())
print("as much as that, at $0.40 per million tokens:", verdict(traffic, 0.40))
much = replace(traffic, tokens_per_day=(traffic.tokens_per_day or 0) * 1e7)
print("ten million times as much:", verdict(much, 0.40))
print("at $0.05 per million tokens:", verdict(much, 0.05))

gone = Scenario(model="llama-2-70b", traffic=traffic, self_host=PAIR)
print("llama-2-70b, which none of the sellers has:", evaluate(gone, today=TODAY).verdict)

all_volumes = Traffic(peak_to_mean=1.3)
scenario = Scenario(model="llama-3.1-70b", traffic=all_volumes, self_host=PAIR, apis=[api(0.40)])
found = evaluate(scenario, today=TODAY)
first, forever = (found.first_crossing or 0) / 1e6, (found.permanent_crossing or 0) / 1e6
print(f"first cheaper from {first:.0f} million tokens a day, for good from {forever:.0f} million")
