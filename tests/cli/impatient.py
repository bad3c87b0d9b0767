"""The command, where nobody is to wait as long for standard input as a user would: the waits come first."""

from __future__ import annotations

import sys

from llama_client.cli import chat, main

if __name__ == "__main__":
    chat._STDIN_WAITS_S = tuple(map(float, sys.argv.pop(1).split()))  # type: ignore[assignment]
    sys.exit(main())
