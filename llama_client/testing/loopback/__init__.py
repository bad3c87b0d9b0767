"""Answers in raw bytes, and a server on loopback that sends them: the ground that every part of the kit stands on."""

from llama_client.testing.loopback.answers import (
    Answer,
    End,
    Then,
    as_json,
    byte_by_byte,
    cut,
    endless,
    endless_head,
    garbage,
    gzipped,
    hangup,
    head,
    paced,
    redirect,
    silence,
    streamed,
    whole,
)
from llama_client.testing.loopback.ports import closed_port
from llama_client.testing.loopback.requests import Received, read_head
from llama_client.testing.loopback.server import WireServer

__all__ = [
    "Answer",
    "End",
    "Received",
    "Then",
    "WireServer",
    "as_json",
    "byte_by_byte",
    "closed_port",
    "cut",
    "endless",
    "endless_head",
    "garbage",
    "gzipped",
    "hangup",
    "head",
    "paced",
    "read_head",
    "redirect",
    "silence",
    "streamed",
    "whole",
]
