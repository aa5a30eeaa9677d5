"""What a torture run does to the network between hosts."""

import time

from common import config
from common.errors import FatalError
from scripts.hosts import Hosts
from scripts.processes import POLL_S
from scripts.stage import NODES, REGISTRY_HOST, Stage, quiet

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


def _hosts(stage: Stage) -> Hosts:
    if stage.hosts is None:
        raise FatalError("the network of one machine cannot be split")
    return stage.hosts


def _merges(stage: Stage, number: int) -> int:
    """How often the member of a node has begun to merge."""
    address = stage.cluster.settings.service_ips.logging_service[number - 1]
    log = stage.cluster.folder / "logs" / f"hazelcast-{config.split(address)[1]}.log"
    return log.read_bytes().count(b"is MERGING")
