"""What fits: what a model needs, and what a machine has."""
