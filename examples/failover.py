"""A cloud that goes down, and a model on your own machine that takes over; then the cloud is back.

The cloud is played by a stand-in here, so that this runs without keys; the model in this process is a real one: run it
after `llama-client pull smollm2-135m`. Expected output:

    the cloud is up
    cloud/openai/gpt-oss-20b ok
    the cloud is down
    cloud/openai/gpt-oss-20b ServerError, laptop/smollm2-135m ok
    cloud/openai/gpt-oss-20b ServerError, laptop/smollm2-135m ok
    cloud/openai/gpt-oss-20b skipped, laptop/smollm2-135m ok
    cloud/openai/gpt-oss-20b is open after 2 failures
    the cloud is up again
    cloud/openai/gpt-oss-20b ok
"""

import threading
import time

from standin import standin

from llama_client import LlamaClient

outage = threading.Event()
with standin(outage) as cloud:
    configuration = {
        "default_model": "chat",
        "providers": {
            "cloud": {"kind": "openai", "base_url": f"{cloud}/v1"},
            "laptop": {"kind": "gguf"},
        },
        "routes": {"chat": {"targets": ["cloud/openai/gpt-oss-20b", "laptop/smollm2-135m"]}},
        # Without this it is 3 failures and 30 seconds.
        "routing": {"breaker_failures": 2, "breaker_cooldown_s": 5},
    }
    with LlamaClient(configuration) as client:

        def ask() -> None:
            reply = client.ask("What is the capital of Japan?", temperature=0, max_tokens=20)
            print(", ".join(f"{attempt.target} {attempt.error or attempt.outcome}" for attempt in reply.attempts))

        print("the cloud is up")
        ask()
        print("the cloud is down")
        outage.set()
        for _ in range(3):
            ask()
        health = client.health()["cloud/openai/gpt-oss-20b"]
        print(f"{health.target} is {health.breaker} after {health.failures_in_row} failures")
        outage.clear()
        time.sleep(5)
        print("the cloud is up again")
        ask()
