#!/usr/bin/env bash
# litellm 1.110.2: a stream that has the same text in 100 chunks in a row ends in an error in the middle.
#
# A model that draws a line, fills a table or writes out a long number may send one token over and over. LiteLLM takes that for a
# model caught in a loop: after 100 equal chunks (texts of more than two characters) it raises, though the server goes on
# and ends with a finish reason. LiteLLM's proxy does the same to its clients.
#
# Seen: of 90 chunks of 'la la ' 90 were read; of 150, 100 and then MidStreamFallbackError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "litellm==1.110.2"
LITELLM_LOCAL_MODEL_COST_MAP=True "$work/venv/bin/python" - <<'PY'
import json
import socket
import threading

import litellm

litellm.suppress_debug_info = True
TEXT = "la la "


def event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n".encode()


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            count = int(request.split()[1].split(b"/")[1])
            body = event({"content": TEXT}) * count + event({}, "stop") + b"data: [DONE]\n\n"
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            connection.sendall(head + body)


def read(url: str, count: int) -> tuple[int, str]:
    chunks = litellm.completion(
        "openai/m", [{"role": "user", "content": "Sing."}], api_base=f"{url}/{count}", api_key="some-key", stream=True,
        num_retries=0,
    )  # fmt: skip
    got = 0
    try:
        for chunk in chunks:
            got += bool(chunk.choices[0].delta.content)
    except Exception as error:
        return got, type(error).__name__
    return got, "no error"


with socket.create_server(("127.0.0.1", 0)) as listener:
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    found = {count: read(url, count) for count in (90, 150)}
print(found)
assert found[90] == (90, "no error"), "a shorter row breaks off too"
assert found[150][0] < 150, "a long row is read to its end now"
PY
