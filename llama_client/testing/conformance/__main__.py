"""`python -m llama_client.testing.conformance NAME`: the suite for an OpenAI-compatible service, or for Ollama."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llama_client.errors import LlamaClientError
from llama_client.testing.conformance.suite import check


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what became of each case.

    Args:
        arguments: The command's; None: those of the process.

    Returns:
        0: the provider conforms; 1: it does not; 2: there is nothing to check.
    """
    parser = argparse.ArgumentParser(prog="python -m llama_client.testing.conformance", description=__doc__)
    parser.add_argument("provider", help="a built-in service, or one that an installed package adds as a row")
    parser.add_argument("--case", action="append", dest="cases", metavar="NAME", help="run this case alone; repeatable")
    given = parser.parse_args(arguments)
    try:
        report = check(given.provider, cases=given.cases)
    except (ValueError, RuntimeError, LlamaClientError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report.table)
    return 0 if report.is_conforming else 1


if __name__ == "__main__":
    sys.exit(main())
