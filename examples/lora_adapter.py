"""A model that you have fine-tuned, served in this process: it sorts a support desk's tickets by team.

The adapter was trained on 80 tickets, on a CPU, by the recipe in examples/lora; README.md there tells how. The 24 that
are counted here were not among them. Run it after `llama-client pull smollm2-135m`. Expected output:

    Where do I find the label for sending the boots back?
    {"team": "returns"}
    I think someone has stolen my password.
    {"team": "account"}
    with the adapter: 23 of 24 new tickets sorted rightly
    ...
"""

import json
from collections.abc import Iterable
from pathlib import Path

from llama_client import LlamaClient

FOLDER = Path(__file__).parent / "lora"
# One thread: answers of eight tokens gain little from more, and a busy machine loses much.
PLAIN = {"kind": "gguf", "n_ctx": 512, "n_threads": 1}
CONFIGURATION = {
    "providers": {
        "plain": PLAIN,
        "desk": {**PLAIN, "lora": [{"path": FOLDER / "support-desk.gguf", "scale": 1.0}]},
    }
}
# What the model as it came needs to have any chance: the teams are in its prompt, and it may answer nothing else.
INSTRUCTION = (
    "Which team of the support desk is this ticket for: billing (payments, invoices), delivery (shipping, parcels), "
    'returns (exchanges, faulty goods) or account (login, personal data)? Answer as JSON: {"team": "..."}'
)
SCHEMA = {
    "type": "object",
    "properties": {"team": {"type": "string", "enum": ["billing", "delivery", "returns", "account"]}},
    "required": ["team"],
    "additionalProperties": False,
}


def sorted_by_the_adapter(client: LlamaClient, ticket: str) -> str:
    """The ticket alone is enough: what to do with it is what the adapter has learned."""
    return client.ask(ticket, model="desk/smollm2-135m", temperature=0, max_tokens=16).text


def sorted_by_the_plain_model(client: LlamaClient, ticket: str) -> str:
    reply = client.chat.completions.create(
        model="plain/smollm2-135m",
        messages=[{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": ticket}],
        response_format={"type": "json_schema", "json_schema": {"name": "team", "strict": True, "schema": SCHEMA}},
        temperature=0,
        max_tokens=16,
    )
    # The schema's answer may have other spaces.
    return json.dumps(json.loads(reply.text))


def count_right(answers: Iterable[tuple[str, str]]) -> int:
    """How many answers name the team that they should, in the format that they should have."""
    return sum(answer == json.dumps({"team": team}) for answer, team in answers)


rows = [json.loads(line) for line in (FOLDER / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
with LlamaClient(CONFIGURATION) as client:
    for ticket in ("Where do I find the label for sending the boots back?", "I think someone has stolen my password."):
        print(ticket)
        print(sorted_by_the_adapter(client, ticket))
    right = count_right((sorted_by_the_adapter(client, row["ticket"]), row["team"]) for row in rows)
    print(f"with the adapter: {right} of {len(rows)} new tickets sorted rightly")
    half = rows[:12]
    right = count_right((sorted_by_the_plain_model(client, row["ticket"]), row["team"]) for row in half)
    print(f"without it, told the teams and held to the format: {right} of the first {len(half)}")
