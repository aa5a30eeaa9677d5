"""One run of the simulator: a cluster under load in virtual time, and the verdict on what its clients saw."""

import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field

from nodes.replication.core.effects import Settings
from nodes.replication.core.machine import DEFAULT
from nodes.storage.memory import MemoryTables
from tests.chaos.checker import FullRead, WriteOutcome, check
from tests.simulation.system.facade import History, SimulatedFacade
from tests.simulation.system.node import Disk, SimulatedNode
from tests.simulation.system.registry import SimulatedRegistry
from tests.simulation.system.world import Network, World

NODES = ("10.0.0.1:5002", "10.0.0.2:5003", "10.0.0.3:5004")
EPOCH_MS = 1_800_000_000_000  # milliseconds since 1970 at virtual time 0
LOAD_S = 7.0  # of virtual time with load and faults
HEAL_S = 45.0  # after the faults, within which all replicas must be in sync again
FORMED_S = 25.0  # after the start, within which the first in-sync set must have all replicas


@dataclass
class SimulationResult:
    """The result of one run; a good run has no problems.

    Attributes:
        seed: of the run.
        divided: the network was split so that not all facades and registries were with the majority of the nodes. Then
            both sides may serve, and until the heal a read on one side may lack records of the other side.
        keys_divided: no registry was available for a while, so that two replicas may have decided about one key.
        faults: "time fault" of each injected fault.
        problems: broken promises, as text.
        acknowledged: number of acknowledged writes.
        reads: number of reads of the whole log.
    """

    seed: int
    divided: bool = False
    keys_divided: bool = False
    faults: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    acknowledged: int = 0
    reads: int = 0


class Simulation:
    """A simulated cluster with its clients, network and faults.

    Args:
        seed: of all random choices.
        nodes: number of logging nodes.
        registries: number of registries.
        settings: of the replication cores.
    """

    def __init__(self, seed: int, *, nodes: int = 3, registries: int = 1, settings: Settings = DEFAULT) -> None:
        self.result = SimulationResult(seed)
        self.world = World(seed)
        self.network = Network(self.world)
        self.history = History()
        self._ids = 0
        addresses = [*NODES, "10.0.0.4:5005", "10.0.0.5:5006"][:nodes]
        self.registries = [
            SimulatedRegistry(self.world, self.network, f"10.0.1.{number}:5005") for number in range(registries)
        ]
        self.nodes = {
            address: SimulatedNode(self.world, self.network, address, addresses, self.registries, settings)
            for address in addresses
        }
        for node in self.nodes.values():
            node.nodes = self.nodes
        self.facades = [
            SimulatedFacade(
                self.world, self.network, f"10.0.2.{number}", self.registries, self.nodes, self.history, self.new_id
            )
            for number in range(2)
        ]
        self.network.watchers.append(self._connection)

    def _connection(self, one: str, other: str, works: bool) -> None:
        """Inform the core of `one` that its connection to `other` was given up or works again."""
        if (node := self.nodes.get(one)) and other in self.nodes:
            if not works:
                node.deliver(lambda core: core.connection(other, self.world.now_s, up=False))
            elif self.nodes[other].core:
                node.deliver(lambda core: core.connection(other, self.world.now_s, up=True))

    def new_id(self) -> str:
        """A new UUIDv7 with the virtual time."""
        self._ids += 1
        ms = EPOCH_MS + int(self.world.now_s * 1_000)
        return str(uuid.UUID(int=ms << 80 | 0x7 << 76 | 0x8 << 60 | self._ids))

    def start(self) -> None:
        """Start all processes, and return when all nodes are in sync."""
        for registry in self.registries:
            registry.start()
        for node in self.nodes.values():
            node.start()
        self.settle(FORMED_S, "the first in-sync set did not form")

    def settle(self, most_s: float, problem: str) -> None:
        """Let time pass until `is_safe`; after `most_s` record the problem instead."""
        ends_s = self.world.now_s + most_s
        while self.world.now_s < ends_s:
            self.world.run(self.world.now_s + 0.1)
            if self.is_safe():
                return
        self.result.problems.append(f"{problem} in {most_s} s: {self.describe()}")

    def is_safe(self) -> bool:
        """True if all nodes are ready, in one in-sync set, and listed by all registries."""
        sets = {node.core.in_sync for node in self.nodes.values() if node.core}
        listed = [registry.directory.listed() for registry in self.registries if registry.directory]
        return (
            all(node.is_ready() and node.hung_s is None for node in self.nodes.values())
            and len(sets) == 1
            and len(next(iter(sets)).listed) == len(self.nodes)
            and all(found and len(found) == len(self.nodes) for found in listed)
        )

    def describe(self) -> str:
        """The state of each node, in one line."""
        return "; ".join(
            f"{address} {node.core.phase.value} {node.core.in_sync.term} "
            f"{[(one.address, one.listed) for one in node.core.in_sync.members]}"
            if node.core
            else f"{address} down"
            for address, node in self.nodes.items()
        )

    # Load

    def load(self, clients: int, until_s: float) -> None:
        """Start writers, one reader per facade, and bursts of writes that share a key; they stop at `until_s`."""
        for client in range(clients):
            self._client(f"c{client}", self.facades[client % len(self.facades)], until_s)
        for facade in self.facades:
            self._reader(facade, until_s)
        self._keyed(until_s)

    def _client(self, name: str, facade: SimulatedFacade, until_s: float) -> None:
        number = 0

        def following() -> None:
            nonlocal number
            if self.world.now_s < until_s:
                number += 1
                facade.write(f"{name}-{number}", pause)

        def pause() -> None:
            self.world.later(self.world.random.expovariate(1 / 0.05), following)

        pause()

    def _reader(self, facade: SimulatedFacade, until_s: float) -> None:
        def following() -> None:
            if self.world.now_s < until_s:
                facade.read(pause)

        def pause() -> None:
            self.world.later(self.world.random.expovariate(1 / 0.08), following)

        pause()

    def _keyed(self, until_s: float) -> None:
        """Send bursts of writes with one key, through all facades at once."""
        number = 0

        def burst() -> None:
            nonlocal number
            if self.world.now_s < until_s:
                number += 1
                for facade in (*self.facades, *self.facades):
                    facade.write(f"k{number}-0", lambda: None, key=f"key-{number}")
                self.world.later(self.world.random.expovariate(1 / 0.3), burst)

        self.world.later(0.2, burst)

    # Faults

    def fault(self, name: str) -> None:
        """Record a fault that is injected now."""
        self.result.faults.append(f"{self.world.now_s:.3f} {name}")

    def down_for(self, address: str, seconds: float, *, tables: MemoryTables | None = None) -> None:
        """Kill a node and restart it after some seconds, with another disk if `tables` are given."""
        self.fault(f"kill {address} for {seconds:.2f} s" + (", with another disk" if tables is not None else ""))
        node = self.nodes[address]
        node.kill()
        if tables is not None:
            node.disk = Disk(tables)
        self.world.later(seconds, lambda: None if node.core else node.start())

    def verdict(self) -> SimulationResult:
        """Read the whole log once more, check the history, and return the result."""
        result, done = self.result, []
        if not result.problems:
            self.facades[0].read(lambda: done.append(True))
            self.world.run(self.world.now_s + 12.0)
            self._judge()
        result.acknowledged = sum(write.outcome is WriteOutcome.OK for write in self.history.writes)
        result.reads = len(self.history.reads)
        return result

    def _judge(self) -> None:
        """Record every broken promise as a problem."""
        result, history = self.result, self.history
        stored_ids = [node.disk.tables.ids() for node in self.nodes.values()]
        if any(found != stored_ids[0] for found in stored_ids):
            result.problems.append(f"diverged: {[len(found) for found in stored_ids]}")
        keyed = list(history.keyed)
        reads = [
            FullRead([text for text in read.texts if text not in history.keyed], read.began_s, read.ended_s)
            for read in history.reads
        ]
        verdict = check(history.writes, reads)
        broken = {name: number for name, number in asdict(verdict.broken).items() if number}
        if result.divided:
            broken.pop("stale", None)
        if result.divided or result.keys_divided:
            keyed = []
        if broken:
            result.problems.append(f"broken: {broken}")
        if not result.divided and (hidden := _hidden_again(reads)):
            result.problems.append(f"records that one facade had shown were missing at another: {hidden} reads")
        if history.going_back:
            result.problems.append(f"a facade went back in time: {history.going_back} reads")
        final = Counter(history.reads[-1].texts)
        for text in keyed:
            stored = [found for found in history.keyed[text] if found[3] is WriteOutcome.OK]
            if final[text] > 1:
                result.problems.append(f"{text} is stored {final[text]} times")
            if stored and (final[text] != 1 or len({found[0] for found in stored}) > 1):
                result.problems.append(f"{text} was answered with {len({found[0] for found in stored})} ids")


def _hidden_again(reads: list[FullRead]) -> int:
    """The number of reads that lacked a record that another read had shown before they began."""
    by_end = sorted(reads, key=lambda read: read.ended_s)
    shown: set[str] = set()
    hidden = index = 0
    for read in sorted(reads, key=lambda read: read.began_s):
        while by_end[index].ended_s < read.began_s:
            shown.update(by_end[index].texts)
            index += 1
        hidden += not shown <= set(read.texts)
    return hidden
