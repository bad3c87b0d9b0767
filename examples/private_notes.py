"""A doctor's practice has its notes summarised, and no word of them may leave the machine: `local_only`.

The configuration also has a cloud with a key. It is refused by name, before anybody is asked where it is, and the model
in this process answers. The notes are made up. The demo model proves the plumbing and not more: for summaries that are
worth reading put a larger one in its place. Run it after `llama-client pull smollm2-135m`. Expected output:

    note 1: groq/openai/gpt-oss-20b LocalOnlyError, gguf/smollm2-135m ok
    note 2: groq/openai/gpt-oss-20b LocalOnlyError, gguf/smollm2-135m ok
    the cloud alone: refused by the rule connection, switched on by local_only=True
    a picture on the web: refused by the rule remote_image
    Ollama's cloud: refused by the rule cloud_model
    2 calls in the ledger, for 0 dollars, and not a word of the notes
    ...
"""

import tempfile
from pathlib import Path

from llama_client import LlamaClient, LocalOnlyError

NOTES = [
    "Dry cough for two weeks, worse at night. No fever. Lungs clear. Advised rest and fluids; review in one week.",
    "Follow-up of raised blood pressure. Home readings average 132 over 84. No side effects. Same dose.",
]
PICTURE = {"type": "image_url", "image_url": {"url": "https://pictures.example/rash.png"}}


def configuration(folder: str) -> dict[str, object]:
    """A cloud first, what is here second, and a ledger in that folder."""
    return {
        "providers": {"groq": {"api_key": "a-key"}, "gguf": {"n_ctx": 2048}},
        "routes": {"notes": {"targets": ["groq/openai/gpt-oss-20b", "gguf/smollm2-135m"]}},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
    }


def summarise(client: LlamaClient, number: int, note: str) -> str:
    """The note in a sentence, by a target that may read it."""
    instructions = "Summarise this note in one short sentence: "
    reply = client.ask(instructions + note, model="notes", temperature=0, max_tokens=40, tags={"purpose": "summary"})
    story = ", ".join(f"{attempt.target} {attempt.error or attempt.outcome}" for attempt in reply.attempts)
    print(f"note {number}: {story}")
    return reply.text


with tempfile.TemporaryDirectory() as folder:
    with LlamaClient(configuration(folder), local_only=True) as client:
        summaries = [summarise(client, number, note) for number, note in enumerate(NOTES, start=1)]

        # A target that is forbidden and alone raises why.
        try:
            client.ask(NOTES[0], model="groq/openai/gpt-oss-20b")
        except LocalOnlyError as error:
            print(f"the cloud alone: refused by the rule {error.rule}, switched on by {error.source}")
        try:
            client.ask([{"role": "user", "content": [PICTURE]}], model="notes")
        except LocalOnlyError as error:
            print(f"a picture on the web: refused by the rule {error.rule}")
        try:
            client.ask(NOTES[0], model="ollama/gpt-oss:120b-cloud")
        except LocalOnlyError as error:
            print(f"Ollama's cloud: refused by the rule {error.rule}")

        groups = {group.key: group for group in client.costs.report(by="tag:purpose").groups}
        calls, dollars = groups["summary"].calls, groups["summary"].usd

    # The ledger keeps counts, times and money. It has no place for what was said.
    written = b"".join(file.read_bytes() for file in Path(folder).glob("ledger.db*"))
    words = {word for text in (*NOTES, *summaries) for word in text.split() if len(word) > 7}
    found = [word for word in words if word.encode() in written]
    print(f"{calls} calls in the ledger, for {dollars} dollars, and {'words' if found else 'not a word'} of the notes")

for summary in summaries:
    print("summary:", summary)
