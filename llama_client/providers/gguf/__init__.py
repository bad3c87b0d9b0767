"""GGUF files, run inside this process."""
