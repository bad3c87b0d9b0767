"""A small Ray cluster on this machine, of several worker processes, which ends with its block."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

_ENDING_S = 10.0


@contextmanager
def small_cluster(num_cpus: int = 2) -> Iterator[None]:
    """Started, and connected to: jobs of this process use it. The environment, to which Ray adds, is restored."""
    with mock.patch.dict(os.environ):
        yield from _started(num_cpus)


def _started(num_cpus: int) -> Iterator[None]:
    with warnings.catch_warnings():
        # Ray's own.
        warnings.simplefilter("ignore")
        import ray
        import ray.data

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its sockets' paths must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
    try:
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
        )
        yield
    finally:
        node = getattr(ray._private.worker, "_global_node", None)
        started = [each.process for some in getattr(node, "all_processes", {}).values() for each in some]
        ray.shutdown()
        # Ray does not, and Python warns of each when its object goes, at any time.
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_S)
        shutil.rmtree(folder, ignore_errors=True)
