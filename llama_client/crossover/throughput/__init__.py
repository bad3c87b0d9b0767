"""How fast a model is on a machine: measured, published or estimated."""
