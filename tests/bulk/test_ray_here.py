"""With `local_only` a job on Ray stays on this machine, by the cluster's address and by where it says that it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_client import LlamaClient, LocalOnlyError
from llama_client.config.load import load_config
from llama_client.ray.this_machine import require_address_here, require_cluster_here

ELSEWHERE = [
    "localhost.example:6379",
    "example.localhost.example:6379",
    "127.0.0.1.example:6379",
    "ray://127.0.0.1.example:10001",
    "ray://127.0.0.1@192.0.2.7:10001",
    "ray://192.0.2.7:10001/localhost",
    "ray://192.0.2.7:10001?127.0.0.1",
    "ray://localhost:10001/elsewhere",
    "auto.example:6379",
    "automatic.example",
    "local.example:6379",
    "192.0.2.7:6379",
    "[2001:db8::7]:6379",
    "module://127.0.0.1:10001",
    "RAY://127.0.0.1:10001",
    "127.0.0.1:no-port",
    "AUTO",
    "0.0.0.0:6379",
    "ray://0.0.0.0:10001",
    "[::]:6379",
    "255.255.255.255:6379",
    "224.0.0.1:6379",
    "[ff02::1]:6379",
    "[::ffff:192.0.2.7]:6379",
    "127.1:6379",
    "localhost@192.0.2.7:6379",
    "ray://localhost#.example:10001",
    "ray://",
]
HERE = [
    "auto",
    "local",
    "127.0.0.1:6379",
    "127.3.2.1:6379",
    "localhost:6379",
    "LOCALHOST:6379",
    "ray://localhost:10001",
    "ray://127.0.0.1:10001",
    "[::1]:6379",
    "ray://[::1]:10001",
    "[::ffff:127.0.0.1]:6379",
    "ray://LOCALHOST:10001",
    "localhost.:6379",
    "gpu.localhost:6379",
]


def config(**more: Any) -> Any:
    return load_config({"local_only": True, **more}, environ={})


@pytest.mark.parametrize("address", ELSEWHERE)
def test_an_address_of_another_machine_is_refused_before_anything_is_sent(address: str) -> None:
    pytest.importorskip("ray")
    with LlamaClient({"local_only": True, "ledger": {"enabled": False}}) as client:
        job = client.bulk(["a row"], model="gguf/smollm2-135m", engine="ray", ray_address=address)
        with pytest.raises(LocalOnlyError, match=r"ray_address: .* is not this machine"):
            list(job)


@pytest.mark.parametrize("address", HERE)
def test_an_address_of_this_machine_is_not(address: str) -> None:
    require_address_here(address, config())


def test_hosts_that_are_permitted_are() -> None:
    allowed = config(privacy={"allow_hosts": ["192.0.2.7"]})
    require_address_here("192.0.2.7:6379", allowed)
    require_cluster_here(cluster("192.0.2.7"), allowed)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_without_local_only_any_address_is_taken(address: str) -> None:
    require_address_here(address, load_config({}, environ={}))


def cluster(gcs: str, node: str = "127.0.0.1") -> Any:
    """What Ray tells of a cluster that it is connected to."""
    context = SimpleNamespace(get_node_id=lambda: "mine", gcs_address=f"{gcs}:6379")
    nodes = [{"NodeID": "mine", "NodeManagerAddress": node}, {"NodeID": "other", "NodeManagerAddress": "192.0.2.9"}]
    return SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: nodes)


@pytest.mark.parametrize(
    ("gcs", "node"), [("192.0.2.7", "127.0.0.1"), ("127.0.0.1", "192.0.2.7")], ids=["head", "node"]
)
def test_a_cluster_behind_a_forwarded_port_is_refused(gcs: str, node: str) -> None:
    with pytest.raises(LocalOnlyError, match=r"192\.0\.2\.7.* is not this machine"):
        require_cluster_here(cluster(gcs, node), config())
    require_cluster_here(cluster(gcs, node), load_config({}, environ={}))


def test_a_cluster_of_this_machine_is_not() -> None:
    require_cluster_here(cluster("127.0.0.1"), config())


@pytest.mark.parametrize("host", ["0.0.0.0", "255.255.255.255", "224.0.0.1"])
def test_an_address_of_no_one_machine_is_not_this_one(host: str) -> None:
    with pytest.raises(LocalOnlyError, match="is not this machine"):
        require_cluster_here(cluster(host), config())


def test_an_address_is_told_without_its_password() -> None:
    with pytest.raises(LocalOnlyError) as told:
        require_address_here("ray://me:hunter22@192.0.2.7:10001", config())
    assert "192.0.2.7" in str(told.value)
    assert "hunter22" not in str(told.value)
