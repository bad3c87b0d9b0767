"""What every provider must do, checked in four modes: call and stream, sync and async."""

from llama_client.testing.conformance.bench import MODES, Mode
from llama_client.testing.conformance.for_pytest import conformance_tests
from llama_client.testing.conformance.known_wires import OllamaWire, OpenAIWire
from llama_client.testing.conformance.report import ConformanceError, ConformanceReport, Result
from llama_client.testing.conformance.said import Counts, Feature, Refusal, Said, SaidCall
from llama_client.testing.conformance.suite import check
from llama_client.testing.conformance.wires import ALL_FEATURES, Engine, Wire

__all__ = [
    "ALL_FEATURES",
    "MODES",
    "ConformanceError",
    "ConformanceReport",
    "Counts",
    "Engine",
    "Feature",
    "Mode",
    "OllamaWire",
    "OpenAIWire",
    "Refusal",
    "Result",
    "Said",
    "SaidCall",
    "Wire",
    "check",
    "conformance_tests",
]
