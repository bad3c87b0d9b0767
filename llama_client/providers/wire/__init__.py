"""Wire formats without I/O: bodies in, types or errors out."""
