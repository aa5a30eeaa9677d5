"""Checks after a fault: whether all nodes are in sync again, and whether they hold the same messages."""

import subprocess
import time
from collections.abc import Iterator

import psutil

from common.errors import FatalError, PeerError
from common.protocol import messages
from common.protocol.admin import Inspect, Report
from common.rpc.transport import Transport, ask
from scripts.client.connection import CLIENT_ERRORS
from scripts.launcher.cluster import Cluster

# The nodes must stay in sync for STEADY_S, one lease, because that is how long a hung registry may go unnoticed.
STEADY_S, HEAL_S = 3.0, 60.0
ANSWER_S = 0.5  # for one node to report its state
PAGE_S = 5.0  # for one node to return one page
LOOK_S = 0.3  # between two polls of the cluster
FAILURES = (  # errors that a fault, or a check after it, may raise
    *CLIENT_ERRORS,
    *(psutil.Error, subprocess.SubprocessError),
)


def converge(cluster: Cluster) -> float:
    """Seconds until all nodes are in one in-sync set; waits until they have stayed so for STEADY_S.

    Raises:
        FatalError: the nodes were not in sync within HEAL_S.
    """
    began = since = time.monotonic()
    while time.monotonic() - since < STEADY_S:
        if time.monotonic() - began > HEAL_S:
            raise FatalError(f"the nodes were not in sync again within {HEAL_S} s")
        time.sleep(LOOK_S)
        if not _in_sync(cluster):
            since = time.monotonic()
    return since - began


def _in_sync(cluster: Cluster) -> bool:
    """True if all logging nodes answer and report the same in-sync set, with all of them in it."""
    nodes = cluster.settings.service_ips.logging_service
    try:
        reports = [ask(cluster.transport, node, Inspect(), Report, timeout_s=ANSWER_S) for node in nodes]
    except PeerError:
        return False
    sets = {(report.term, report.in_sync) for report in reports}
    return len(sets) == 1 and len(reports[0].in_sync) == len(nodes)


def differing(cluster: Cluster, texts: set[str]) -> int:
    """How many nodes do not hold exactly these messages, when each node is asked directly."""
    nodes = cluster.settings.service_ips.logging_service
    return sum(set(_texts_of(cluster.transport, node)) != texts for node in nodes)


def _texts_of(transport: Transport, node: str) -> Iterator[str]:
    after: str | None = ""
    while after is not None:
        page = _page(transport, node, after)
        yield from (entry.msg for entry in page.entries)
        after = page.next


def _page(transport: Transport, node: str, after: str) -> messages.Page:
    """One page of one node; retries for HEAL_S, because on a busy machine the node may have to rejoin first."""
    ends = time.monotonic() + HEAL_S
    request = messages.Read(after=after, limit=messages.PAGE_MESSAGES)
    while True:
        try:
            return ask(transport, node, request, messages.Page, timeout_s=PAGE_S)
        except PeerError:
            if time.monotonic() > ends:
                raise
            time.sleep(LOOK_S)
