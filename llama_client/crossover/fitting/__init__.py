"""Whether a model fits a machine, and what it needs."""
