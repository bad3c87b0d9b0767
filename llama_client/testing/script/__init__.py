"""Answers that a test writes: scripts of replies, and the provider that plays them."""
