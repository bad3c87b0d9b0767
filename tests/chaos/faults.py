"""Three targets at one fault server, in a process of its own, that fail three times in ten.

The same seed gives the same faults, in whichever order requests arrive. The server's report holds each request with its
fault, so that each attempt of a client can be held against what was done to it.
"""

from __future__ import annotations

from llama_client.testing import faults
from llama_client.testing.dialects import GROQ, OLLAMA, OPENAI
from llama_client.testing.faults import FaultReport, FaultServer

DIALECTS = {dialect.kind: dialect for dialect in (GROQ, OPENAI, OLLAMA)}
# A call whose marker begins so fails at every target, always.
DOOMED = "doomed"
# What another attempt or another target may mend: a call ends well unless all of its attempts fail.
FAULTS = {
    name: faults.fault(name)
    for name in (
        "429", "429-now", "429-integer", "429-decimal", "429-date", "429-date-alone", "429-milliseconds", "429-reset",
        "429-text", "500", "502-html", "reset", "hangup", "stall", "garbage", "error-in-200", "short-body",
        "preamble-cut", "preamble-end", "preamble-reset", "preamble-stall", "preamble-error", "preamble-garbage",
    )
}  # fmt: skip
# Streams that break off after their content, which must not be retried.
LATER = {name: faults.fault(name) for name in ("text-reset", "text-cut", "text-end", "text-error", "text-stall")}
# What weighs less is so rare that a run of a thousand calls may be without it.
SURE_WEIGHT = min(fault.weight for name, fault in LATER.items() if name != "text-stall")
_FAULTY = 0.3


def fault_server(seed: int, *, slow: float = 0.0) -> FaultServer:
    """The server.

    Args:
        seed: Of its chance.
        slow: Which share of the good answers comes late.
    """
    server = FaultServer(process=True)
    server.at_rate(_FAULTY, seed=seed, faults=[*FAULTS, *LATER], slow=slow, failing_prompts=DOOMED)
    return server


def urls(server: FaultServer) -> dict[str, str]:
    """The addresses of the targets, by kind, without what their dialects have behind them."""
    return dict.fromkeys(DIALECTS, server.url)


def seen(server: FaultServer) -> FaultReport:
    """What it has seen since the last report. Waits a moment for every connection to be closed."""
    server.wait_until_idle()
    report = server.report()
    server.clear()
    return report
