"""What every provider must do, asked of the parrot: `pip install . && pytest`."""

import json

from llama_client.testing.conformance import Said, Wire, conformance_tests


class ParrotWire(Wire):
    can = frozenset({"usage", "errors"})

    def whole(self, said: Said) -> bytes:
        body: dict[str, object] = {"says": said.text}
        if said.counts is not None:
            prompt, completion = said.counts.prompt, said.counts.completion
            tokens = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            body["usage"] = tokens
        return json.dumps(body).encode()


test_acme = conformance_tests("acme")
test_parrot = conformance_tests("parrot", ParrotWire())
