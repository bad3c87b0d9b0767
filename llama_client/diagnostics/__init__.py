"""Checks of a configuration and of everything that a call needs. Changes nothing."""
