"""An app that answers from your own files and needs no network: a handbook of text files, and a model in this process.

It makes sure that the model is there, looks for the page that a question is about, asks under `local_only`, and keeps
what could not be answered for later. It is sized for the demo model: run it after `llama-client pull smollm2-135m`.
Expected output:

    gguf/smollm2-135m is here (98 MB)
    How long is the warranty? [warranty.txt] The warranty period is 12 months.
    Where is the key of the shed? [shed.txt] The key of the shed is under the blue pot.
    How long does delivery take? [delivery.txt] Delivery takes three days.
    Who won the match? no page is about that
    kept for later: Is there a photo of the shed? (ModelNotFoundError)
    4 calls in the ledger, for 0 dollars
"""

import json
import re
import sys
import tempfile
from pathlib import Path

from llama_client import LlamaClient, LlamaClientError

HANDBOOK = {
    "warranty.txt": "Repairs have a warranty of 12 months. Keep the receipt.",
    "shed.txt": "The key of the shed is under the blue pot.",
    "delivery.txt": "Delivery takes three days.",
}
MODEL, LARGER_MODEL = "gguf/smollm2-135m", "gguf/one-that-sees"


def words(text: str) -> set[str]:
    """The words that say what a text is about."""
    return set(re.findall(r"[a-z]{4,}", text.lower()))


def page_about(question: str, handbook: Path) -> Path | None:
    """The page with most of the question's words; None: it has nothing to do with any."""
    asked = words(question)
    shared, page = max((len(asked & words(page.read_text(encoding="utf-8"))), page) for page in handbook.glob("*.txt"))
    return page if shared else None


def answer(client: LlamaClient, question: str, page: Path, model: str) -> str:
    """The model's answer from that page."""
    text = page.read_text(encoding="utf-8")
    return client.ask(f"{text}\n\n{question}", model=model, temperature=0, max_tokens=30).text


def require_model(client: LlamaClient) -> None:
    """Ends the program where the model is not on this machine. Only the command line downloads models."""
    here = {model.target: model for model in client.models.list() if model.is_served}
    if MODEL not in here:
        sys.exit("while you have a network, run: llama-client pull smollm2-135m")
    print(f"{MODEL} is here ({(here[MODEL].size_bytes or 0) / 1e6:.0f} MB)")


def main(folder: Path) -> None:
    """Answers a queue of questions."""
    handbook, later = folder / "handbook", folder / "later.json"
    handbook.mkdir()
    for name, text in HANDBOOK.items():
        (handbook / name).write_text(text, encoding="utf-8")
    questions = [
        ("How long is the warranty?", MODEL),
        ("Where is the key of the shed?", MODEL),
        ("How long does delivery take?", MODEL),
        ("Who won the match?", MODEL),
        ("Is there a photo of the shed?", LARGER_MODEL),
    ]
    # Nothing but this machine is reached, whatever else is configured in here one day.
    configuration = {
        "local_only": True,
        "providers": {"gguf": {"n_ctx": 2048}},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
    }
    kept = []
    with LlamaClient(configuration) as client:
        require_model(client)
        for question, model in questions:
            page = page_about(question, handbook)
            if page is None:
                print(f"{question} no page is about that")
                continue
            try:
                print(f"{question} [{page.name}] {answer(client, question, page, model)}")
            except LlamaClientError as error:
                # Its model is not pulled, the file is damaged, the machine is out of memory: ask again another day.
                kept.append({"question": question, "model": model})
                print(f"kept for later: {question} ({type(error).__name__})")
        later.write_text(json.dumps(kept), encoding="utf-8")
        report = client.costs.report()
        print(f"{report.calls} calls in the ledger, for {report.total_usd} dollars")


with tempfile.TemporaryDirectory() as temporary:
    main(Path(temporary))
