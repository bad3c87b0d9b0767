"""What goes wrong at a provider, by name, and a server that plays it for any client.

`python -m llama_client.testing.faults` is that server for a shell and for programs in other languages.
"""

from __future__ import annotations

from llama_client.testing.faults.row import Fault
from llama_client.testing.faults.server import FaultReport, FaultRequest, FaultServer, Kind
from llama_client.testing.faults.table import FAULTS, GOOD, fault

__all__ = ["FAULTS", "GOOD", "Fault", "FaultReport", "FaultRequest", "FaultServer", "Kind", "fault"]
