"""Stand-ins for servers that need a key or a graphics card, so that the examples run anywhere."""
