"""Network faults between hosts; each heals the network before it returns."""

import time
from collections.abc import Callable
from typing import Any

from common import hostport
from common.discovery.leases import LEASE_S
from common.errors import FatalError
from scripts.client.connection import client
from scripts.launcher.processes import POLL_S
from tests.chaos.faults.hosts import Hosts
from tests.chaos.faults.stage import NODES, REGISTRY_HOST, Stage, node_port
from tests.support.clusters import quiet

SLOW_KBIT_PER_S = 64  # less than one node needs under load
REPORTED_S = 2 * LEASE_S  # within which /v1/cluster must show that a node is not in sync: one lease and a margin
SPLIT_S = 8.0  # how long the network stays split: longer than all time-outs together
MERGING_S = 30.0  # within which Hazelcast must begin to merge after the heal
MERGE_S = 3.0  # within which a merge ends; the kill happens at a random moment of it


def split(stage: Stage) -> None:
    """Split the network at random: 2:1 with the registry on either side, 1:1:1, or one direction between two nodes."""
    hosts = _hosts(stage)
    alone, *others = stage.chance.sample(NODES, 3)
    kind = stage.chance.choice(["2:1", "1:2", "1:1:1", "one-way"])
    stage.recorder.mark(f"split {kind}")
    match kind:
        case "2:1":
            stage.cut_off.append(stage.host_recorders[alone - 1])
            hosts.split([{alone}, {*others, REGISTRY_HOST}])
        case "1:2":
            stage.cut_off.extend([stage.host_recorders[alone - 1], stage.recorder])
            hosts.split([{alone, REGISTRY_HOST}, {*others}])
        case "1:1:1":
            stage.cut_off.extend([stage.host_recorders[alone - 1], stage.host_recorders[others[0] - 1]])
            hosts.split([{alone}, {others[0]}, {others[1], REGISTRY_HOST}])
        case _:
            hosts.drop(alone, others[0])
    time.sleep(SPLIT_S)
    stage.recorder.mark("heal")
    hosts.heal()


def merge_kill(stage: Stage) -> None:
    """Cut off a node and heal the network; kill the nodes whose members merge, within MERGE_S, and restart them.

    Raises:
        FatalError: Hazelcast did not merge.
    """
    hosts = _hosts(stage)
    alone = stage.chance.choice(NODES)
    stage.recorder.mark("split 2:1")
    hosts.split([{alone}, {number for number in hosts.numbers if number != alone}])
    time.sleep(SPLIT_S)
    before = {number: _merges(stage, number) for number in NODES}
    stage.recorder.mark("heal")
    hosts.heal()
    ends = time.monotonic() + MERGING_S
    while not (merging := [number for number in NODES if _merges(stage, number) > before[number]]):
        if time.monotonic() > ends:
            raise FatalError(f"no member merged within {MERGING_S} s")
        time.sleep(POLL_S)
    time.sleep(stage.chance.uniform(0, MERGE_S))
    stage.recorder.mark("kill")
    stage.cluster.kill(merging)
    stage.cluster.start(merging, quiet)


def apart(stage: Stage) -> None:
    """Cut a node off from the other nodes, but not from the registry and the facades; see `_break_one`."""
    hosts = _hosts(stage)
    alone, *others = stage.chance.sample(NODES, 3)

    def break_it() -> None:
        hosts.close(alone, node_port(alone), sources=others)
        for other in others:
            hosts.close(other, node_port(other), sources=[alone])

    _break_one(stage, "apart", alone, break_it)


def closed(stage: Stage) -> None:
    """Block the port of a node, which itself still reaches all others; see `_break_one`."""
    hosts, number = _hosts(stage), stage.chance.choice(NODES)
    _break_one(stage, "close", number, lambda: hosts.close(number, node_port(number)))


def slow_link(stage: Stage) -> None:
    """Limit the sending rate of a node's host to less than the load needs; see `_break_one`."""
    hosts, number = _hosts(stage), stage.chance.choice(NODES)
    _break_one(stage, "slow", number, lambda: hosts.slow(number, SLOW_KBIT_PER_S))


def _break_one(stage: Stage, what: str, number: int, break_it: Callable[[], None]) -> None:
    """Break the network of one node for SPLIT_S, then heal it; `what` names the mark.

    Raises:
        FatalError: see `_require_reported`.
    """
    stage.recorder.mark(what)
    break_it()
    _require_reported(stage, number)
    stage.recorder.mark("heal")
    _hosts(stage).heal()


def _require_reported(stage: Stage, number: int) -> None:
    """Wait for SPLIT_S; within REPORTED_S /v1/cluster must report the fault of a node.

    Raises:
        FatalError: all nodes stayed listed, an unlisted node gave no reason, or the cluster was still reported safe.
    """
    ends_s = time.monotonic() + SPLIT_S
    beside = stage.host_recorders[number - 1]
    stage.cut_off.append(beside)
    stage.excused.append(beside)
    with client(stage.cluster.settings.facade.address) as http_client:
        while not _reports_fault(document := http_client.call("GET", "/v1/cluster").document):
            if time.monotonic() > ends_s - SPLIT_S + REPORTED_S:
                raise FatalError(f"/v1/cluster did not report the fault within {REPORTED_S} s: {document}")
            time.sleep(POLL_S)
    time.sleep(max(ends_s - time.monotonic(), 0.0))


def _reports_fault(document: dict[str, Any]) -> bool:
    """True if the cluster is not safe, a node is unlisted, and each unlisted node is down or gives a reason."""
    unlisted = [node for node in document["logging_nodes"] if not node["listed"]]
    reasons = all(node["state"] == "down" or (node["state"] != "ready" and node["reason"]) for node in unlisted)
    return bool(unlisted) and reasons and not document["safe"]


def _hosts(stage: Stage) -> Hosts:
    if stage.hosts is None:
        raise FatalError("network faults need a cluster on hosts")
    return stage.hosts


def _merges(stage: Stage, number: int) -> int:
    """How often the Hazelcast member of a node has begun to merge, by its log."""
    address = stage.cluster.settings.service_ips.logging_service[number - 1]
    log = stage.cluster.folder / "logs" / f"hazelcast-{hostport.split(address)[1]}.log"
    return log.read_bytes().count(b"is MERGING")
