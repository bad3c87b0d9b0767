"""When is a machine of one's own cheaper than an API."""
