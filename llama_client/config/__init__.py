"""The configuration: its shape, and where it is found."""
