"""The cache of answers: the same request to the same model is answered without asking again. Off by default."""
