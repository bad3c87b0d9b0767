"""`python -m llama_client.testing.faults`."""

from llama_client.testing.faults.command import main

if __name__ == "__main__":
    raise SystemExit(main())
