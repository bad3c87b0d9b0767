"""A crossover as plots and as an HTML page."""
