"""Tests of keys on a real cluster."""

from pathlib import Path

import pytest

from common import process
from common.errors import RefusedError, UnreachableError
from common.protocol.messages import Lookup, LookupResult, Ping
from common.rpc.transport import ask
from common.security import keyring
from scripts.client.connection import client
from scripts.launcher.cluster import Cluster
from tests.support.clusters import running_cluster
from tests.support.servers import pooled
from tests.support.waiting import eventually


def test_a_cluster_with_keys_answers_only_its_own_processes(runtime: object, tmp_path: Path) -> None:
    """Registry, nodes, Hazelcast members and facade work together; a client without keys gets no answer."""
    del runtime
    with (
        running_cluster(tmp_path, engine="hazelcast", keyed=True) as cluster,
        client(cluster.settings.facade.address) as http_client,
    ):
        assert 200 == http_client.post("with keys").status
        nodes = cluster.settings.service_ips.logging_service
        with pooled(None) as transport:
            for address in (*cluster.settings.registry.addresses, *nodes):
                with pytest.raises(UnreachableError):
                    transport.call(address, Ping(), timeout_s=1.0)
        cluster.kill([1])
        assert 200 == http_client.post("with one node less").status
        assert eventually(lambda: listed_nodes(cluster) == set(nodes[1:]))
        (tmp_path / "keys" / f"{nodes[1]}.pub").unlink()
        assert eventually(lambda: listed_nodes(cluster) == {nodes[2]})
        assert 200 == http_client.post("by the last node").status


def listed_nodes(cluster: Cluster) -> set[str]:
    """The logging nodes that the registry lists; none while it waits for the first renewals."""
    ring = process.keyring_of(cluster.settings, cluster.path.parent, keyring.OPERATOR)
    with pooled(ring) as transport:
        registry = cluster.settings.registry.addresses[0]
        try:
            return set(ask(transport, registry, Lookup(name="logging-service"), LookupResult, timeout_s=2.0).values)
        except RefusedError:
            return set()
