"""How fast a model is served on a machine: measured, published or estimated."""
