"""What a torture run does to the network between hosts."""

import time
from typing import Any

from common import config
from common.errors import FatalError
from scripts.hosts import Hosts
from scripts.processes import POLL_S
from scripts.stage import FIRST_PORT, NODES, REGISTRY_HOST, Stage, quiet
from scripts.traffic import client

SLOW_KBIT_PER_S = 64  # less than the load of one node takes
TOLD_S = 6.0  # for the cluster to say that a node is not in sync: a lease, and twice as long to be sure
SPLIT_S = 8.0  # that the network stays split: longer than all time-outs together
MERGING_S = 30.0  # for Hazelcast to begin to merge after the heal
MERGE_S = 3.0  # in which a merge is over


def split(stage: Stage) -> None:
    """The network is split at random: 2:1 with the registry on either side, 1:1:1, or in one direction only."""
    hosts = _hosts(stage)
    alone, *others = stage.chance.sample(NODES, 3)
    kind = stage.chance.choice(["2:1", "1:2", "1:1:1", "one-way"])
    stage.recorder.mark(f"split {kind}")
    match kind:
        case "2:1":
            stage.cut_off.append(stage.beside[alone - 1])
            hosts.split([{alone}, {*others, REGISTRY_HOST}])
        case "1:2":
            stage.cut_off.extend([stage.beside[alone - 1], stage.recorder])
            hosts.split([{alone, REGISTRY_HOST}, {*others}])
        case "1:1:1":
            stage.cut_off.extend([stage.beside[alone - 1], stage.beside[others[0] - 1]])
            hosts.split([{alone}, {others[0]}, {others[1], REGISTRY_HOST}])
        case _:
            hosts.drop(alone, others[0])
    time.sleep(SPLIT_S)
    stage.recorder.mark("heal")
    hosts.heal()


def merge_kill(stage: Stage) -> None:
    """A node is cut off, accepts messages, and whoever merges after the heal is killed within 3 s; started again.

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
    """A node reaches the registry and the facade, and no other node reaches it, nor it them.

    Raises:
        FatalError: as `_require_told`.
    """
    hosts = _hosts(stage)
    alone, *others = stage.chance.sample(NODES, 3)
    stage.recorder.mark("apart")
    hosts.close(alone, _port(alone), sources=others)
    for other in others:
        hosts.close(other, _port(other), sources=[alone])
    _require_told(stage)
    stage.recorder.mark("heal")
    hosts.heal()


def closed(stage: Stage) -> None:
    """A node reaches everybody, and nobody reaches its port.

    Raises:
        FatalError: as `_require_told`.
    """
    hosts, number = _hosts(stage), stage.chance.choice(NODES)
    stage.recorder.mark("close")
    hosts.close(number, _port(number))
    _require_told(stage)
    stage.recorder.mark("heal")
    hosts.heal()


def slow_link(stage: Stage) -> None:
    """What a host sends goes out too slowly for the load.

    Raises:
        FatalError: as `_require_told`.
    """
    hosts, number = _hosts(stage), stage.chance.choice(NODES)
    stage.recorder.mark("slow")
    hosts.slow(number, SLOW_KBIT_PER_S)
    _require_told(stage)
    stage.recorder.mark("heal")
    hosts.heal()


def _require_told(stage: Stage) -> None:
    """Let the fault last for SPLIT_S.

    Raises:
        FatalError: a node that cannot replicate stayed listed, or said no reason, or the cluster was green, for TOLD_S.
    """
    ends_s = time.monotonic() + SPLIT_S
    stage.cut_off.extend(stage.beside)
    with client(stage.cluster.settings.facade.address) as http_client:
        while not _is_told(http_client.call("GET", "/v1/cluster").document):
            if time.monotonic() > ends_s - SPLIT_S + TOLD_S:
                raise FatalError(f"for {TOLD_S} s nothing said that a node is not in sync")
            time.sleep(POLL_S)
    time.sleep(max(ends_s - time.monotonic(), 0.0))


def _is_told(document: dict[str, Any]) -> bool:
    """True if the cluster is not safe, and each node that is not listed says why, or says nothing at all."""
    unlisted = [node for node in document["logging_nodes"] if not node["listed"]]
    reasons = all(node["state"] == "down" or (node["state"] != "ready" and node["reason"]) for node in unlisted)
    return bool(unlisted) and reasons and not document["safe"]


def _port(number: int) -> int:
    """Of the logging node of that number; see `stage.on_hosts`."""
    return FIRST_PORT + number


def _hosts(stage: Stage) -> Hosts:
    if stage.hosts is None:
        raise FatalError("the network of one machine cannot be split")
    return stage.hosts


def _merges(stage: Stage, number: int) -> int:
    """How often the member of a node has begun to merge."""
    address = stage.cluster.settings.service_ips.logging_service[number - 1]
    log = stage.cluster.folder / "logs" / f"hazelcast-{config.split(address)[1]}.log"
    return log.read_bytes().count(b"is MERGING")
