"""`python -m llama_client.testing.faults`."""

from llama_client.testing.faults.command import main

raise SystemExit(main())
