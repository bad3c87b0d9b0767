"""Spans and metrics through what the program itself has set up for OpenTelemetry."""
