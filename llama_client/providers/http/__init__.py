"""Providers behind HTTP: connections, the exchange of a request and its answer, and the official clients."""
