"""From `model` to an answer: the targets, their order, the attempts, and their outcome."""
