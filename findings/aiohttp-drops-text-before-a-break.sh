#!/usr/bin/env bash
# aiohttp 3.14.5: what a server sent before its connection broke is lost to a reader that is a moment late.
#
# A stream announces more than it sends: two events come, then the connection ends. A reader who waits already gets both events
# and then ClientPayloadError. One who comes 0.2 s later gets the error alone, though the events were received. HTTPX 0.28.1
# gives them in both cases. So the text of a stream that breaks off over httpx-aiohttp depends on how busy the event loop is.
#
# Seen: aiohttp, at once: 22 bytes, ClientPayloadError; aiohttp, late: 0 bytes, ClientPayloadError;
# httpx, at once: 22 bytes, RemoteProtocolError; httpx, late: 22 bytes, RemoteProtocolError.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "aiohttp==3.14.5" "httpx==0.28.1"
"$work/venv/bin/python" - <<'PY'
import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import aiohttp
import httpx

EVENTS = b"data: one\n\ndata: two\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n"


def serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(HEAD + EVENTS)


async def collected(pieces: AsyncIterator[bytes], late_s: float) -> tuple[int, str]:
    await asyncio.sleep(late_s)
    size = 0
    try:
        async for piece in pieces:
            size += len(piece)
    except (aiohttp.ClientError, httpx.TransportError) as error:
        return size, type(error).__name__
    return size, "no error"


async def with_aiohttp(url: str, late_s: float) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await collected(response.content.iter_any(), late_s)


async def with_httpx(url: str, late_s: float) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as response:
        return await collected(response.aiter_raw(), late_s)


with socket.create_server(("127.0.0.1", 0)) as listener:
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    found = {}
    for ask in (with_aiohttp, with_httpx):
        for late_s in (0.0, 0.2):
            found[ask, late_s] = size, error = asyncio.run(ask(url, late_s))
            print(f"{ask.__name__}, {late_s} s late: {size} bytes, {error}")
assert found[with_aiohttp, 0.0][0] == len(EVENTS), "a reader in time gets nothing either"
assert found[with_aiohttp, 0.2][0] == 0, "nothing is lost any more"
assert found[with_httpx, 0.2][0] == len(EVENTS), "HTTPX loses it too"
PY
