"""`python -m llama_client`: the command, where its script is not on the path."""

import sys

from llama_client.cli import main

sys.exit(main())
