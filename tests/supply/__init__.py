"""The supply chain: versions of dependencies, known faults in them, a list of them, and what is built."""
