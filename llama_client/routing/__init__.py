"""From `model` to an answer: who may answer, in which order, what is tried, and what came of it."""
