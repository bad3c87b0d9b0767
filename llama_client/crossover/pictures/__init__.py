"""A crossover as pictures and as a page."""
