"""Two providers for llama-client: a service that is OpenAI-compatible, and one whose wire is its own."""

import json

from llama_client import ChatCompletionChunk
from llama_client.providers.base import HttpAnswer, HttpCall, ProviderCall
from llama_client.providers.services import Quirks, Service
from llama_client.providers.wire.plain import PlainCodec

ACME = Service(
    name="acme",
    base_url="https://api.acme.example/v1",
    key_variables=("ACME_API_KEY",),
    models={"openai/gpt-oss-120b": "gpt-oss-120b"},
    price_source="openrouter",
    quirks=Quirks(stream_usage="unasked"),
)


class ParrotCodec(PlainCodec):
    parameters = frozenset()  # a parrot takes none: a request with one is refused

    def encode(self, call: ProviderCall) -> HttpCall:
        messages = [message.model_dump(mode="json", exclude_none=True) for message in call.request.messages]
        return HttpCall("speak", json.dumps({"voice": call.model, "hear": messages}).encode(), {})

    def decode(self, answer: HttpAnswer, call: ProviderCall) -> ChatCompletionChunk:
        return self.chunk(answer, call, (said := json.loads(answer.body))["says"], said.get("usage"))


PARROT = Service(
    name="parrot",
    base_url="https://parrot.example",
    key_variables=("PARROT_API_KEY",),
    models={"polly-1": ""},
    factory=lambda setup: setup.over_http(ParrotCodec()),
)
