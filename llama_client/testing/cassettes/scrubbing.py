"""Takes secrets out of what is recorded: nothing is kept that is not on a list, and what is kept is searched."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from llama_client.providers.services import SERVICES
from llama_client.redaction import is_masked, key_spans, secrets_in, secrets_of_address
from llama_client.testing.cassettes.bodies import Piece
from llama_client.testing.cassettes.deltas import payloads_of, rewritten, texts_in

# Stands in a cassette for a secret. No prompt has it, as `***` is in many: a replay takes anything in its place.
MARK = "<secret-taken-out>"

# Everything that the package reads in an answer's head. Never cookies, organisations, projects or accounts.
_KEPT_HEADERS = frozenset(
    (
        "content-type", "date", "location", "request-id", "retry-after", "retry-after-ms", "x-amzn-requestid",
        "x-request-id", "x-should-retry",
    )
)  # fmt: skip
_RATE_LIMITS = re.compile(r"x-ratelimit-[a-z0-9-]+|x-tokens-[a-z-]+")
# Headers of requests whose values are no secrets, and stand in other places too: `python`, say.
_OPEN_HEADERS = re.compile(
    r"x-stainless-.*|accept.*|content-.*|user-agent|host|connection|http-referer|referer|x-title|idempotency-key"
    r"|openai-beta",
    re.IGNORECASE,
)
# So much of a secret's beginning tells something of it: an answer may end within it.
_TELLING_CHARS = 12
_LONG_BASE64 = re.compile(r"(data:[^,]{0,200};base64,)?([A-Za-z0-9+/_-]{256,}={0,2})")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)', re.IGNORECASE)


class Scrubber:
    """Knows the secrets that it was shown, and finds what looks like a key besides."""

    def __init__(self) -> None:
        environment = (os.environ.get(name, "") for row in SERVICES.values() for name in row.key_variables)
        self._values: tuple[str, ...] = ()
        self._forms: tuple[str, ...] = ()
        self.learn(environment)

    def learn(self, values: Iterable[str]) -> None:
        """Remembers secrets."""
        known = {*self._values, *(value for value in values if is_masked(value))}
        if len(known) == len(self._values):
            return
        # Longest first, so that no part of one remains.
        self._values = tuple(sorted(known, key=len, reverse=True))
        forms = {form for value in self._values for form in (value, json.dumps(value)[1:-1], _as_latin_1(value))}
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def learn_address(self, url: str, headers: Mapping[str, str]) -> None:
        """Remembers the secrets of a provider's address and of the headers that it gets."""
        self.learn_headers(headers)
        self.learn(secrets_of_address(url))
        pair = unquote(urlsplit(url).netloc.rpartition("@")[0])
        self.learn([base64.b64encode(pair.encode()).decode()] if pair else [])

    def learn_headers(self, headers: Mapping[str, str]) -> None:
        self.learn(secrets_in({name: value for name, value in headers.items() if not _OPEN_HEADERS.fullmatch(name)}))

    def text(self, text: str) -> str:
        """A text without secrets."""
        return _masked(text, self._spans(text))

    def value(self, value: Any) -> Any:
        """A JSON value without secrets."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self.value(below) for name, below in value.items()}
            case list() | tuple():
                return [self.value(each) for each in value]
            case _:
                return value

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """An answer's headers: those of the allow-list, in one order."""
        kept: dict[str, str] = {}
        for name in sorted(headers, key=str.lower):
            plain = name.lower()
            if plain in _KEPT_HEADERS or _RATE_LIMITS.fullmatch(plain):
                value = headers[name]
                kept[plain] = self.text(_without_query(value) if plain == "location" else value)
        return kept

    def pieces(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces of a body without secrets, also those that are torn between pieces or between events."""
        pieces = self._without_deltas(pieces)
        joined = b"".join(data for _, data in pieces).decode("latin-1")
        spans = list(self._spans(joined))
        if not spans:
            return pieces
        cleaned, start = [], 0
        for at_s, data in pieces:
            cleaned.append((at_s, _masked_part(joined, spans, start, start + len(data)).encode("latin-1")))
            start += len(data)
        return [(at_s, data) for at_s, data in cleaned if data]

    def events(self, events: list[Any]) -> list[Any]:
        """The events of a stream without secrets, also those that come bit by bit in the deltas of several."""
        events = copy.deepcopy(events)
        # Before each event by itself: the rest of a secret whose beginning is taken out is not found.
        for found in texts_in(events):
            texts = [holder[key] for holder, key in found]
            joined = "".join(texts)
            spans = list(self._spans(joined))
            start = 0
            for (holder, key), text in zip(found, texts, strict=True) if spans else ():
                holder[key] = _masked_part(joined, spans, start, start + len(text))
                start += len(text)
        return [self.value(each) for each in events]

    def _without_deltas(self, pieces: list[Piece]) -> list[Piece]:
        payloads = payloads_of(b"".join(data for _, data in pieces))
        cleaned = self.events([each.value for each in payloads])
        pairs = zip(payloads, cleaned, strict=True)
        changes = [each._replace(value=value) for each, value in pairs if value != each.value]
        return rewritten(pieces, changes) if changes else pieces

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets are, in order and apart."""
        found = [(start, end) for start, end in key_spans(text)]
        for form in self._forms:
            # All addresses begin alike.
            begin = form if "://" in form else form[:_TELLING_CHARS]
            at = text.find(begin)
            while at >= 0:
                end = at + len(begin)
                while text[end : end + 1] == form[end - at : end - at + 1] != "":
                    end += 1
                found.append((at, end))
                at = text.find(begin, end)
        until = -1
        for start, end in _merged(found):
            assert start > until
            until = end
            yield start, end


def request_value(value: Any) -> Any:
    """A request's JSON, with a digest for each long text in base64."""
    match value:
        case str() if len(value) >= 256:
            match = _LONG_BASE64.fullmatch(value)
            if match is None:
                return value
            digest = hashlib.sha256(match[2].encode()).hexdigest()[:32]
            return f"{match[1] or ''}sha256:{digest}:{len(match[2])}"
        case dict():
            return {name: request_value(below) for name, below in value.items()}
        case list() | tuple():
            return [request_value(each) for each in value]
        case _:
            return value


def digest_of(body: bytes, content_type: str) -> dict[str, Any]:
    """What is kept of a request's body that is no JSON: a form with files, say."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is not None:
        # A new one for each request.
        body = body.replace(boundary[1].strip().encode("latin-1", "replace"), b"boundary")
    return {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}


def _as_latin_1(text: str) -> str:
    """How a text's UTF-8 reads where each byte is taken for a character."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans in order, those that touch as one."""
    begin, end = -1, -1
    for start, stop in sorted(spans):
        if begin >= 0 and start <= end:
            end = max(end, stop)
            continue
        if begin >= 0:
            yield begin, end
        begin, end = start, stop
    if begin >= 0:
        yield begin, end


def _masked(text: str, spans: Iterator[tuple[int, int]]) -> str:
    return _masked_part(text, list(spans), 0, len(text))


def _masked_part(text: str, spans: list[tuple[int, int]], start: int, end: int) -> str:
    """A part of a text, with a mask for each secret that begins in it, and without what is in none."""
    kept, at = [], start
    for begin, until in spans:
        if until <= start or begin >= end:
            continue
        kept.append(text[at : max(begin, at)])
        if begin >= start:
            kept.append(MARK)
        at = min(until, end)
    return "".join([*kept, text[at:end]])
