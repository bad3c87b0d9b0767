"""A job on Ray whose node is lost midway: `python -m tests.bulk.lost_node`. In a process of its own, as Ray is one."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from llama_client import LlamaClient
from tests.bulk.served import handed_out, serving

_ROWS, _LOST_AT, _IN_FLIGHT = 1_500, 300, 8


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, serving(delay_s=0.05) as url:
            _run(url, Path(folder), cluster, node)
    finally:
        ray.shutdown()
        cluster.shutdown()


def _run(url: str, folder: Path, cluster: Any, node: Any) -> None:
    config = {"default_model": "a/m", "providers": {"a": {"kind": "openai", "base_url": f"{url}/v1"}}}
    rows = [f"row {number}" for number in range(_ROWS)]
    with LlamaClient(config) as client:
        job = client.bulk(rows, engine="ray", ray_workers=2, max_concurrency=_IN_FLIGHT, job=folder / "job")
        for done, _ in enumerate(job, 1):
            if done == _LOST_AT:
                cluster.remove_node(node, allow_graceful=False)
    twice, told = handed_out(url)["asked"] - _ROWS, job.receipt.maybe_paid_twice
    assert job.receipt.answered == _ROWS
    assert 0 <= twice <= told <= _IN_FLIGHT
    assert not [each for each in threading.enumerate() if each.name.startswith("llama-client-bulk")]
    print(f"{_ROWS} rows, a node lost: {twice} paid twice, {told} told")


if __name__ == "__main__":
    main()
