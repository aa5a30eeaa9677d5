"""What is looked at after a fault: whether the nodes are together again, and have the same messages."""

import http.client
import subprocess
import time
from collections.abc import Iterator

import psutil

from common import rpc, wire
from common.errors import FatalError, PeerError
from scripts.launcher import Cluster

STEADY_S, HEAL_S = 5.0, 60.0  # every node sees every member for as long: Hazelcast looks each 2 s for a side to merge
PAGE_S = 5.0  # for one page of one node
LOOK_S = 0.3  # between two looks at the cluster
FAILURES = (  # of a fault, or of what follows it
    *(FatalError, PeerError, OSError, http.client.HTTPException, ValueError),
    *(psutil.Error, subprocess.SubprocessError),
)


def converge(cluster: Cluster) -> float:
    """Seconds until every node sees every member, and goes on to for STEADY_S: a merge may come after the heal.

    Raises:
        FatalError: not so within HEAL_S.
    """
    began = since = time.monotonic()
    while time.monotonic() - since < STEADY_S:
        if time.monotonic() - began > HEAL_S:
            raise FatalError(f"the members did not find each other again within {HEAL_S} s")
        time.sleep(LOOK_S)
        nodes = [status for status in cluster.status() if status.part.member]
        if any(status.members != len(nodes) for status in nodes):
            since = time.monotonic()
    return since - began


def differing(cluster: Cluster, texts: set[str]) -> int:
    """How many nodes have not exactly these messages, when each is asked alone."""
    nodes = cluster.settings.service_ips.logging_service
    return sum(set(_texts_of(cluster.transport, node)) != texts for node in nodes)


def _texts_of(transport: rpc.Transport, node: str) -> Iterator[str]:
    after: str | None = ""
    while after is not None:
        page = rpc.ask(transport, node, wire.Read(after=after, limit=wire.PAGE_MESSAGES), wire.Page, timeout_s=PAGE_S)
        yield from (entry.msg for entry in page.entries)
        after = page.next
