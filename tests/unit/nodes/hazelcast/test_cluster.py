"""Tests of nodes.hazelcast.cluster."""

import asyncio

import pytest

from common.errors import FatalError
from common.rpc.pipelined import PipelinedTransport
from nodes.hazelcast import cluster
from nodes.hazelcast.cluster import HazelcastCluster
from registry.directory import Directory
from scripts.launcher.ports import free_addresses
from tests.support.servers import serving


def test_a_node_learns_its_member_from_the_registry() -> None:
    """The first registry that answers names the cluster, its members and the member of the node."""
    directory = Directory(
        {"logging-service": ("h:2",)},  # the other two are not listed
        {
            "configured-logging-service": ("h:1", "h:2", "h:3"),
            "hazelcast-cluster-name": ("name",),
            "hazelcast-clients": ("h:11", "h:12"),
        },
    )
    (nobody,) = free_addresses(1)

    def ask(node: str, *, launch: bool = True, own: str | None = None) -> HazelcastCluster:
        async def run() -> HazelcastCluster:
            transport = PipelinedTransport()
            try:
                return await cluster.find_cluster(transport, [nobody, registry], node, launch=launch, member=own)
            finally:
                transport.close()

        return asyncio.run(run())

    members = ("h:11", "h:12")
    with serving(directory.handle) as registry:
        assert HazelcastCluster(cluster_name="name", members=members, own="h:12") == ask("h:2")
        assert HazelcastCluster(cluster_name="name", members=members, own=None) == ask("h:3", launch=False)
        assert HazelcastCluster(cluster_name="name", members=(*members, "h:19"), own="h:19") == ask("h:9", own="h:19")
        for unknown in ("h:3", "h:4"):  # one has no member, and the other is not configured
            with pytest.raises(FatalError, match=f"the registry knows no logging node {unknown} with a member"):
                ask(unknown)
