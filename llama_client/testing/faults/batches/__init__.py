"""A server that plays the batch APIs of OpenAI, Groq and Together: `server` is the door."""

from llama_client.testing.faults.batches.plays import BatchPlay, Mishap, Step
from llama_client.testing.faults.batches.server import BatchReport, BatchServer

__all__ = ["BatchPlay", "BatchReport", "BatchServer", "Mishap", "Step"]
