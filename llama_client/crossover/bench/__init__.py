"""Measures a live target."""
