"""Images in a question: from a file, from bytes and as a `data:` URI; and what happens without a vision model.

A stand-in plays the vision models, so that this runs without keys: it decodes the image and answers with its size and
colour. For real ones see the comments at the configuration. The model in this process is a real one, and
blind: run it after `llama-client pull smollm2-135m`. Expected output:

    a file: A picture of 32 x 24 pixels, most of it red.
    bytes: A picture of 16 x 16 pixels, most of it blue.
    a data: URI: A picture of 16 x 16 pixels, most of it blue.
    two at once: A picture of 32 x 24 pixels, most of it red. A picture of 16 x 16 pixels, most of it blue.
    ollama/llama3.2-vision: A picture of 32 x 24 pixels, most of it red.
    refused, nothing was sent: messages: groq/openai/gpt-oss-20b cannot honour messages: the model accepts no images
    refused: messages: the model accepts no images (no mmproj is configured)
    refused: messages[0].content[1].image_url.url: must be a PNG, JPEG, GIF, BMP or WebP image of at most 20 MiB
    with a fallback: groq/openai/gpt-oss-20b skipped, groq/qwen/qwen3.8-27b ok
"""

import base64
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

from standin import standin

from llama_client import InvalidRequestError, LlamaClient, UnsupportedFeatureError

SEEING = "groq/qwen/qwen3.8-27b"  # the catalogue knows that it has eyes
BLIND = "groq/openai/gpt-oss-20b"  # and that this one has none


def png(width: int, height: int, rgb: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + bytes(rgb) * width) * height))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def question(*pictures: object) -> list[dict[str, Any]]:
    """OpenAI's shape. A plain text is an address or a `data:` URI, never the name of a file."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": picture}} for picture in pictures]
    return [{"role": "user", "content": [{"type": "text", "text": "What is on these pictures?"}, *parts]}]


red, blue = png(32, 24, (200, 20, 20)), png(16, 16, (10, 10, 220))
with standin() as url, tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "red.png"
    file.write_bytes(red)
    data_uri = "data:image/png;base64," + base64.b64encode(blue).decode()
    configuration: dict[str, Any] = {
        "default_model": SEEING,
        "providers": {
            "groq": {"api_key": "a-key", "base_url": url},
            # `ollama pull llama3.2-vision`, or llava. Ollama says itself whether a model sees.
            "ollama": {"base_url": url},
            # A vision model in this process has a second file:
            # model_path = "...Q4_K_M.gguf", mmproj = "mmproj-...f16.gguf".
            "gguf": {},
        },
        # For a server of your own: [[models]] target = "vllm/my-model", name = "my-model", abilities = ["vision"].
    }
    with LlamaClient(configuration) as client:
        print("a file:", client.ask(question(file)).text)
        print("bytes:", client.ask(question(blue)).text)
        print("a data: URI:", client.ask(question(data_uri)).text)
        print("two at once:", client.ask(question(file, blue)).text)

        reply = client.ask(question(file), model="ollama/llama3.2-vision")
        print(f"{reply.target}: {reply.text}")

        try:
            client.ask(question(file), model=BLIND)
        except UnsupportedFeatureError as error:
            sent = any(attempt.sent for attempt in error.attempts)
            print(f"refused, {'it was' if sent else 'nothing was'} sent: {error.param}: {error}")
        try:
            client.ask(question(file), model="gguf/smollm2-135m")
        except UnsupportedFeatureError as error:
            print(f"refused: {error.param}: {str(error).partition('messages: ')[2]}")
        try:
            client.ask(question(b"no picture"))
        except InvalidRequestError as error:
            print(f"refused: {error}")

        # In a chain, who is blind is passed over.
        reply = client.ask(question(file), model=[BLIND, SEEING])
        print("with a fallback:", ", ".join(f"{attempt.target} {attempt.outcome}" for attempt in reply.attempts))
