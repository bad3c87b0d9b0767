#!/usr/bin/env bash
# Ray 2.60.0: after `ray.init()`, and still after `ray.shutdown()`, `breakpoint()` no longer stops the program or any Python that it starts.
#
# `ray.init` puts PYTHONBREAKPOINT into the environment of the driver, and nothing takes it back. `breakpoint()` then calls Ray's own
# hook: without the package `debugpy`, which Ray does not require, it logs an error and goes on. Children inherit the variable,
# also those that know nothing of Ray: where Ray is not installed, Python warns that the hook cannot be imported, and goes on too.
#
# Seen: PYTHONBREAKPOINT is unset before, ray.util.rpdb._driver_set_trace after `ray.shutdown()`; a child's `breakpoint()` went on, as did
# one of a Python without Ray ("Ignoring unimportable $PYTHONBREAKPOINT").
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'ray==2.60.0'
RAY_USAGE_STATS_ENABLED=0 "$folder/venv/bin/python" - <<'PY'
import os
import subprocess
import sys

import ray

before = os.environ.get("PYTHONBREAKPOINT")
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
ray.shutdown()
after = os.environ.get("PYTHONBREAKPOINT")
print(before, "->", after)
assert (before, after) == (None, "ray.util.rpdb._driver_set_trace")
without_ray = os.path.join(sys.base_prefix, "bin", "python3")
for python in (sys.executable, without_ray):
    # A debugger would read from its input, find the end of it, and stop the program.
    child = subprocess.run([python, "-c", "breakpoint(); print('went on')"], input="", capture_output=True, text=True)
    print(child.returncode, child.stdout.strip(), "|", child.stderr.strip()[-160:])
    assert (child.returncode, child.stdout.strip()) == (0, "went on")
PY
