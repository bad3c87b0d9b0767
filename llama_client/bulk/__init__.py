"""Many requests at once: from a file, a table or any iterable, at the lowest price that meets a deadline.

It knows clients only by what it is given of them: `llama_client.client` stands above it.
"""
