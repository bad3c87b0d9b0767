"""llama.cpp's own HTTP server over a model, as a program: prints its address, and ends with its standard input."""

from __future__ import annotations

import sys

import xllamacpp


def main() -> None:
    path, n_threads = sys.argv[1:3]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {"demo"}
    parameters.n_ctx = 4096
    parameters.n_parallel = 1
    parameters.n_batch = 64
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = int(n_threads)
    parameters.cache_ram_mib = 0
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
