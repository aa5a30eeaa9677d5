"""The faults of a simulated run; its seed chooses them, their times and their victims."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from nodes.storage.memory import MemoryTables
from tests.simulation.scenario import HEAL_S, LOAD_S, Simulation, SimulationResult
from tests.simulation.system.world import World

CLIENTS = 3
QUIET_S = 11.0  # after the load, within which every request ends
DOWN_S = (0.2, 4.0)  # how long a process is down; less than `assemble_s`, for which others wait for its records
HUNG_S = (0.05, 4.0)  # how long a process hangs
HUNG_FOR_LONG_S = (4.0, 7.0)  # longer than a lease, so that without a registry the others continue meanwhile
SLOW_FLUSH_S = (0.03, 0.3)  # from a third of `join_confirm_s` to more than `confirm_s`, after which a member is fenced
BACKUP_AGE_S = (0.3, 2.0)  # age of a backup when it replaces the disk


def run(seed: int) -> SimulationResult:
    """Run the simulator once, with the faults that the seed chooses."""
    simulation = simulation_of(seed)
    simulation.start()
    if simulation.result.problems:
        return simulation.result
    ends_s = simulation.world.now_s + LOAD_S
    simulation.load(CLIENTS, ends_s)
    _plan(simulation, ends_s)
    simulation.world.run(ends_s)
    heal(simulation)
    simulation.world.run(ends_s + QUIET_S)
    simulation.settle(HEAL_S, "not all in sync again")
    return simulation.verdict()


def simulation_of(seed: int) -> Simulation:
    """A cluster whose size the seed chooses, mostly three nodes and one registry."""
    chance = World(seed).random
    return Simulation(seed, nodes=chance.choice((3, 3, 3, 3, 4, 5)), registries=chance.choice((1, 1, 1, 2)))


def heal(simulation: Simulation) -> None:
    """End all faults and restart all processes that are down."""
    simulation.network.heal()
    for registry in simulation.registries:
        if registry.directory is None:
            registry.start()
        if registry.hung:
            registry.resume()
    for node in simulation.nodes.values():
        node.disk.fails, node.disk.slow_s = False, 0.0
        node.resume()
        if node.core is None:
            node.start()


def _plan(simulation: Simulation, ends_s: float) -> None:
    """Schedule random faults of one kind until `ends_s`."""
    world = simulation.world
    kind = world.random.choice(("processes", "processes", "network", "disks"))
    choices: Sequence[Callable[[Simulation], None]] = {
        "processes": [
            kill_one,
            kill_two,
            kill_all,
            leave_one,
            hang_one,
            hang_two,
            registry_down,
            registry_hangs,
            hang_without_registry,
            connection_breaks,
        ],
        "network": [split, split, one_direction, apart_from_peers, connection_breaks, kill_one],
        "disks": [disk_full, all_disks_full, disk_slow, wipe_one, restore_one, kill_one, kill_two, hang_one],
    }[kind]

    def following() -> None:
        if world.now_s < ends_s:
            world.random.choice(choices)(simulation)
            world.later(world.random.expovariate(1 / 1.2), following)

    world.later(world.random.uniform(0.2, 1.5), following)


def _some(simulation: Simulation, count: int) -> list[str]:
    """The addresses of up to `count` random nodes that run."""
    running = [address for address, node in simulation.nodes.items() if node.core]
    return simulation.world.random.sample(running, min(count, len(running)))


def kill_one(simulation: Simulation) -> None:
    """Kill a node with SIGKILL, and restart it."""
    for address in _some(simulation, 1):
        simulation.down_for(address, simulation.world.random.uniform(*DOWN_S))


def kill_two(simulation: Simulation) -> None:
    """Kill all nodes but one at once, and restart them."""
    for address in _some(simulation, len(simulation.nodes) - 1):
        simulation.down_for(address, simulation.world.random.uniform(*DOWN_S))


def kill_all(simulation: Simulation) -> None:
    """Kill all nodes at once, and restart them."""
    for address in _some(simulation, len(simulation.nodes)):
        simulation.down_for(address, simulation.world.random.uniform(*DOWN_S))


def leave_one(simulation: Simulation) -> None:
    """Stop a node with SIGTERM, and restart it."""
    for address in _some(simulation, 1):
        simulation.fault(f"leave {address}")
        node = simulation.nodes[address]
        node.leave()
        simulation.world.later(3.0, lambda node=node: None if node.core else node.start())  # type: ignore[misc]


def hang_one(simulation: Simulation) -> None:
    """Pause a node with SIGSTOP, and resume it."""
    _hang(simulation, 1)


def hang_two(simulation: Simulation) -> None:
    """Pause all nodes but one, and resume them."""
    _hang(simulation, len(simulation.nodes) - 1)


def hang_without_registry(simulation: Simulation) -> None:
    """Pause a node for longer than its lease, while all registries hang."""
    for registry in simulation.registries:
        if registry.directory and not registry.hung:
            simulation.fault(f"registry {registry.address} hangs")
            registry.hang()
            simulation.world.later(simulation.world.random.uniform(*HUNG_FOR_LONG_S), registry.resume)
    _without_registry(simulation)
    _hang(simulation, 1, HUNG_FOR_LONG_S)


def _hang(simulation: Simulation, count: int, between_s: tuple[float, float] = HUNG_S) -> None:
    for address in _some(simulation, count):
        seconds = simulation.world.random.uniform(*between_s)
        simulation.fault(f"hang {address} for {seconds:.2f} s")
        simulation.nodes[address].hang()
        simulation.world.later(seconds, simulation.nodes[address].resume)


def registry_down(simulation: Simulation) -> None:
    """Kill a registry, and restart it."""
    registry = simulation.world.random.choice(simulation.registries)
    simulation.fault(f"registry {registry.address} down")
    registry.kill()
    _without_registry(simulation)
    seconds = simulation.world.random.uniform(0.1, 5.0)
    simulation.world.later(seconds, lambda: None if registry.directory else registry.start())


def registry_hangs(simulation: Simulation) -> None:
    """Pause a registry, and resume it."""
    registry = simulation.world.random.choice(simulation.registries)
    simulation.fault(f"registry {registry.address} hangs")
    registry.hang()
    _without_registry(simulation)
    simulation.world.later(simulation.world.random.uniform(0.1, 6.0), registry.resume)


def _without_registry(simulation: Simulation) -> None:
    """Note when no registry is left: then a replica that others regard as dead may decide about a key again."""
    if all(one.hung or one.directory is None for one in simulation.registries):
        simulation.result.keys_divided = True


def split(simulation: Simulation) -> None:
    """Split all hosts, with facades and registries, into two or three groups for a while."""
    groups = simulation.world.random.choice((2, 2, 3))
    hosts = [
        *simulation.nodes,
        *(one.address for one in simulation.registries),
        *(one.name for one in simulation.facades),
    ]
    side = {host: simulation.world.random.randrange(groups) for host in hosts}
    simulation.fault(f"split {side}")
    clients = {side[one.address] for one in simulation.registries} | {side[one.name] for one in simulation.facades}
    most = Counter(side[address] for address in simulation.nodes).most_common(1)[0]
    if clients != {most[0]} or 2 * most[1] <= len(simulation.nodes):
        simulation.result.divided = True
    _cut(simulation, [(one, other) for one in hosts for other in hosts if side[one] != side[other]])


def one_direction(simulation: Simulation) -> None:
    """What one node sends to another one is lost."""
    one, other = _some(simulation, 2) if len(_some(simulation, 2)) == 2 else (None, None)
    if one and other:
        simulation.fault(f"{one} does not reach {other}")
        _cut(simulation, [(one, other)])


def connection_breaks(simulation: Simulation) -> None:
    """Break the connection of two nodes: messages in flight are lost, both notice, and they reconnect at once."""
    if len(pair := _some(simulation, 2)) == 2:
        simulation.fault(f"the connection of {pair[0]} and {pair[1]} breaks")
        simulation.network.reconnect(*pair)


def apart_from_peers(simulation: Simulation) -> None:
    """Cut a node off from all other nodes, but not from registries and facades."""
    for one in _some(simulation, 1):
        simulation.fault(f"{one} reaches no peer")
        _cut(simulation, [way for other in simulation.nodes if other != one for way in ((one, other), (other, one))])


def _cut(simulation: Simulation, ways: list[tuple[str, str]]) -> None:
    simulation.network.cut(ways)
    simulation.world.later(simulation.world.random.uniform(0.1, 6.0), simulation.network.heal)


def disk_full(simulation: Simulation) -> None:
    """Let all commits of one disk fail for a while."""
    for address in _some(simulation, 1):
        _fail(simulation, address)


def all_disks_full(simulation: Simulation) -> None:
    """Let all commits of all disks fail for a while."""
    for address in _some(simulation, len(simulation.nodes)):
        _fail(simulation, address)


def _fail(simulation: Simulation, address: str) -> None:
    disk = simulation.nodes[address].disk
    simulation.fault(f"disk of {address} full")
    disk.fails = True

    def end() -> None:
        disk.fails = False

    simulation.world.later(simulation.world.random.uniform(0.1, 4.0), end)


def disk_slow(simulation: Simulation) -> None:
    """Slow down the commits of one disk for a while."""
    for address in _some(simulation, 1):
        disk = simulation.nodes[address].disk
        disk.slow_s = simulation.world.random.uniform(*SLOW_FLUSH_S)
        simulation.fault(f"each flush of {address} takes {disk.slow_s:.3f} s")

        def end(disk=disk) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
            disk.slow_s = 0.0

        simulation.world.later(simulation.world.random.uniform(0.5, 4.0), end)


def restore_one(simulation: Simulation) -> None:
    """Replace a disk by an earlier backup, only while all are in sync, so that the others have the lost records."""
    for address in _some(simulation, 1):
        backup = copy.deepcopy(simulation.nodes[address].disk.tables)
        simulation.world.later(
            simulation.world.random.uniform(*BACKUP_AGE_S), partial(_replace_disk, simulation, address, backup)
        )


def _replace_disk(simulation: Simulation, address: str, tables: MemoryTables) -> None:
    if simulation.is_safe():
        simulation.down_for(address, simulation.world.random.uniform(*DOWN_S), tables=tables)


def wipe_one(simulation: Simulation) -> None:
    """Replace a disk by an empty one, only while all are in sync, so that the others have its records."""
    for address in _some(simulation, 1):
        _replace_disk(simulation, address, MemoryTables())
