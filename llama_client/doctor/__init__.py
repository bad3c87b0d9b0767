"""Looks at everything that a call will need, and says what to do about each thing. Changes nothing."""
