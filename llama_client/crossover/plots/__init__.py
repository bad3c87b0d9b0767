"""A crossover as pictures and as an HTML page."""
