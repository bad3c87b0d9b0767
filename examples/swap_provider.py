"""One program, five kinds of provider: what changes is one line of the configuration.

Groq, Together, Ollama and an OpenAI-compatible server are played by a stand-in here, so that this runs without keys.
For the real ones, leave out each `base_url` but the last, and set GROQ_API_KEY and TOGETHER_API_KEY. The model in this
process is a real one: run it after `llama-client pull smollm2-135m`. Expected output:

    groq/openai/gpt-oss-20b: The capital of Japan is Tokyo.
    together/meta-models/Muse-Glimmer-30B: The capital of Japan is Tokyo.
    ollama/llama3.1:8b: The capital of Japan is Tokyo.
    vllm/meta-llama/Llama-3.1-8B-Instruct: The capital of Japan is Tokyo.
    gguf/smollm2-135m: The capital of Japan is Tokyo.
"""

import tempfile
from pathlib import Path

from standin import standin

from llama_client import LlamaClient

CONFIGURATION = """
default_model = "{model}"            # this line

[providers.groq]
api_key = "a-key"
base_url = "{url}"

[providers.together]
api_key = "a-key"
base_url = "{url}/v1"

[providers.ollama]
base_url = "{url}"
options = {{ num_ctx = 8192 }}

[providers.vllm]
kind = "openai"                      # any OpenAI-compatible server
base_url = "{url}/v1"

[providers.gguf]                     # a model in this process
"""


def program(configuration: Path) -> None:
    """Knows nothing of providers."""
    with LlamaClient(configuration) as client:
        reply = client.chat.completions.create(
            messages=[{"role": "user", "content": "What is the capital of Japan?"}], temperature=0, max_tokens=50
        )
        print(f"{reply.target}: {reply.choices[0].message.content}")


with standin() as url, tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "llama-client.toml"
    for model in (
        "groq/openai/gpt-oss-20b",
        "together/meta-models/Muse-Glimmer-30B",
        "ollama/llama3.1:8b",
        "vllm/meta-llama/Llama-3.1-8B-Instruct",
        "gguf/smollm2-135m",
    ):
        file.write_text(CONFIGURATION.format(model=model, url=url), encoding="utf-8")
        program(file)
