"""Real servers on loopback, started by their own command: `python -m tests.real_servers`. Not part of the gate."""
