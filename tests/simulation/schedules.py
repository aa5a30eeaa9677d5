"""Scripted schedules in the simulator: each one breaks a weaker protocol. See nodes/replication/DESIGN.md."""

from common.discovery.leases import LEASE_S
from nodes.replication.core.state import Phase
from nodes.storage.memory import MemoryTables
from tests.chaos.checker import WriteOutcome
from tests.simulation.scenario import NODES, Simulation

A, B, C = NODES


def started(seed: int = 1, *, registries: int = 1) -> Simulation:
    """Three replicas in sync."""
    simulation = Simulation(seed, registries=registries)
    simulation.start()
    assert [] == simulation.result.problems
    return simulation


def written(simulation: Simulation, text: str, *, within_s: float) -> bool:
    """True if a write is acknowledged within `within_s` virtual seconds."""
    done: list[bool] = []
    simulation.facades[0].write(text, lambda: done.append(True))
    simulation.world.run(simulation.world.now_s + within_s)
    return bool(done) and simulation.history.writes[-1].outcome is WriteOutcome.OK


def read(simulation: Simulation, *, facade: int = 0, within_s: float = 1.0) -> set[str] | None:
    """The texts that a read shows; None if there is no answer within `within_s` virtual seconds."""
    before = len(simulation.history.reads)
    simulation.facades[facade].read(lambda: None)
    simulation.world.run(simulation.world.now_s + within_s)
    found = simulation.history.reads[before:]
    return set(found[0].texts) if found else None


def pass_time(simulation: Simulation, seconds: float) -> None:
    """Let virtual seconds pass."""
    simulation.world.run(simulation.world.now_s + seconds)


def listed(simulation: Simulation) -> set[str]:
    """The addresses that the first registry lists."""
    directory = simulation.registries[0].directory
    return set(directory.listed() or ()) if directory else set()


def healed(simulation: Simulation) -> bool:
    """True if all replicas are in sync again."""
    simulation.settle(30.0, "not in sync again")
    return [] == simulation.result.problems


def an_acknowledged_record_is_on_every_in_sync_disk() -> None:
    """All three disks have it when the client receives the acknowledgement, not a moment later."""
    simulation = started()
    counts: list[int] = []
    simulation.facades[0].write(
        "m", lambda: counts.append(sum("m" in node.disk.tables.texts for node in simulation.nodes.values()))
    )
    pass_time(simulation, 1.0)

    assert [3] == counts


def two_of_three_die_at_once_and_reads_go_on() -> None:
    """The survivor fences both, and then serves writes and reads alone; nothing waits for a lease to lapse."""
    simulation = started()
    assert written(simulation, "before", within_s=0.5)
    simulation.nodes[A].kill()
    simulation.nodes[B].kill()

    assert written(simulation, "after", within_s=0.5)
    assert {"before", "after"} == read(simulation, within_s=0.5)
    assert {C} == listed(simulation)


def a_hung_replica_is_fenced_and_cannot_answer_with_less() -> None:
    """It resumes after others have acknowledged without it: whenever it is listed again, it has that record."""
    simulation = started()
    simulation.nodes[A].hang()
    assert written(simulation, "without A", within_s=2.5)
    simulation.nodes[A].resume()
    core = simulation.nodes[A].core
    for _ in range(200):
        pass_time(simulation, 0.01)
        if A in listed(simulation):
            assert "without A" in simulation.nodes[A].disk.tables.texts
    assert core
    assert core.phase is Phase.READY


def a_replica_that_acknowledged_alone_is_not_outnumbered_after_a_registry_restart() -> None:
    """A fences the hung B and C and acknowledges; the registry restarts and forgets that; B and C resume."""
    simulation = started()
    simulation.nodes[B].hang()
    simulation.nodes[C].hang()
    assert written(simulation, "A alone", within_s=1.5)
    simulation.registries[0].kill()
    simulation.registries[0].start()
    simulation.nodes[B].resume()
    simulation.nodes[C].resume()

    assert {"A alone"} == read(simulation, facade=1, within_s=5.0)
    assert healed(simulation)


def without_a_registry_a_hung_peer_is_waited_for_as_long_as_it_may_be_listed() -> None:
    """The registry hangs, too: a write waits until every lease has lapsed, and no longer."""
    simulation = started()
    assert written(simulation, "first", within_s=0.5)
    simulation.registries[0].hang()
    simulation.nodes[B].hang()

    assert not written(simulation, "second", within_s=LEASE_S - 1.0)
    pass_time(simulation, 7.0)
    assert [WriteOutcome.OK, WriteOutcome.OK] == [write.outcome for write in simulation.history.writes]


def without_a_registry_a_dead_peer_is_not_waited_for() -> None:
    """Its host refuses connections, so its process has ended and serves nobody."""
    simulation = started()
    assert written(simulation, "first", within_s=0.5)
    simulation.registries[0].kill()
    simulation.nodes[B].kill()

    assert written(simulation, "second", within_s=1.0)


def a_starting_registry_lists_nobody_before_all_replicas_have_renewed() -> None:
    """One replica renews at once, the others hang and may have fenced it: it is listed only after their leases."""
    simulation = started()
    simulation.nodes[B].hang()
    simulation.nodes[C].hang()
    simulation.registries[0].kill()
    simulation.registries[0].start()
    pass_time(simulation, 1.5)
    directory = simulation.registries[0].directory

    assert directory
    assert directory.listed() is None
    pass_time(simulation, LEASE_S)
    assert {A} == listed(simulation)


def a_replica_that_reaches_no_peer_is_not_listed_and_serves_no_reads() -> None:
    """It still reaches the registry and facades. The side that fences first continues; the other one joins later."""
    simulation = started()
    simulation.network.cut([way for other in (B, C) for way in ((A, other), (other, A))])
    assert written(simulation, "apart", within_s=2.0)
    sides = listed(simulation)

    assert sides in ({A}, {B, C}, {B}, {C})
    assert {"apart"} == read(simulation, facade=1)
    simulation.network.heal()
    assert healed(simulation)


def both_sides_of_a_split_are_united() -> None:
    """Two nodes with the registry continue at once, one without it after a lease; no record of either side is lost."""
    simulation = started()
    side = {A, simulation.facades[1].name}
    hosts = [*NODES, simulation.registries[0].address, *(one.name for one in simulation.facades)]
    simulation.network.cut([(one, other) for one in hosts for other in hosts if (one in side) != (other in side)])
    assert written(simulation, "larger side", within_s=2.0)
    done: list[bool] = []
    simulation.facades[1].write("smaller side", lambda: done.append(True))
    pass_time(simulation, 6.0)
    simulation.network.heal()
    pass_time(simulation, 10.0)

    assert healed(simulation)
    texts = read(simulation)
    assert texts
    assert "larger side" in texts
    assert {write.text for write in simulation.history.writes if write.outcome is WriteOutcome.OK} <= texts


def one_of_three_with_an_empty_disk_waits_for_the_others() -> None:
    """Its disk may be the only one that was lost: the node serves alone only after `assemble_s`."""
    simulation = Simulation(1)
    simulation.registries[0].start()
    simulation.nodes[A].start()
    pass_time(simulation, 9.0)
    assert set() == listed(simulation)
    pass_time(simulation, 6.0)

    assert {A} == listed(simulation)


def the_last_survivor_serves_at_once() -> None:
    """All die and the last survivor starts first: it waits for nobody, because nobody has acknowledged without it."""
    simulation = started()
    simulation.nodes[A].kill()
    simulation.nodes[B].kill()
    assert written(simulation, "C alone", within_s=1.0)
    simulation.nodes[C].kill()
    simulation.nodes[C].start()
    pass_time(simulation, 4.0)

    assert {C} == listed(simulation)
    assert {"C alone"} == read(simulation)


def the_first_to_die_does_not_serve_without_later_acknowledged_records() -> None:
    """All die; the first to die starts first, and waits for the replicas that were in sync after it."""
    simulation = started()
    simulation.nodes[A].kill()
    assert written(simulation, "B and C", within_s=1.0)
    simulation.nodes[B].kill()
    simulation.nodes[C].kill()
    simulation.nodes[A].start()
    pass_time(simulation, 6.0)
    assert set() == listed(simulation)
    simulation.nodes[B].start()
    pass_time(simulation, 6.0)

    assert {"B and C"} == read(simulation, within_s=6.0)


def a_full_disk_leaves_the_in_sync_set_and_comes_back() -> None:
    """The node is not listed while it cannot write, the others continue, and afterwards it has every record."""
    simulation = started()
    simulation.nodes[B].disk.fails = True
    assert written(simulation, "B is full", within_s=2.0)
    pass_time(simulation, 1.0)
    assert {A, C} == listed(simulation)
    simulation.nodes[B].disk.fails = False

    assert healed(simulation)
    assert "B is full" in simulation.nodes[B].disk.tables.texts


def all_disks_full_leaves_one_replica_that_reads() -> None:
    """No write is acknowledged, and stored records can still be read."""
    simulation = started()
    assert written(simulation, "stored", within_s=0.5)
    for node in simulation.nodes.values():
        node.disk.fails = True
    assert not written(simulation, "not stored", within_s=3.0)

    texts = read(simulation, within_s=8.0)
    assert texts is not None
    assert "stored" in texts
    for node in simulation.nodes.values():
        node.disk.fails = False
    assert healed(simulation)


def a_slow_disk_is_fenced_and_does_not_slow_the_others() -> None:
    """Each flush of one node takes 0.3 s: writes wait for it once, and rarely again while it tries to rejoin."""
    simulation = started()
    simulation.nodes[B].disk.slow_s = 0.3
    assert written(simulation, "m0", within_s=2.0)
    slow = []
    for number in range(1, 60):
        began_s = simulation.world.now_s
        done: list[float] = []
        simulation.facades[0].write(f"m{number}", lambda done=done: done.append(simulation.world.now_s))  # type: ignore[misc]
        pass_time(simulation, 0.6)
        slow += [taken_s for at_s in done if (taken_s := at_s - began_s) > 0.2]

    assert len(slow) <= 6  # the hold-down doubles each time that it is fenced again


def a_wiped_node_is_listed_with_everything() -> None:
    """It gets all records from the others before it is listed."""
    simulation = started()
    for number in range(20):
        assert written(simulation, f"m{number}", within_s=0.1)
    simulation.down_for(C, 0.5, tables=MemoryTables())
    for _ in range(300):
        pass_time(simulation, 0.01)
        if C in listed(simulation) and simulation.nodes[C].is_ready():
            assert 20 <= len(simulation.nodes[C].disk.tables.texts)

    assert healed(simulation)


def two_registries_where_the_first_one_dies() -> None:
    """The second one decides from then on, and knows which replica was fenced before."""
    simulation = started(registries=2)
    simulation.nodes[A].hang()
    assert written(simulation, "without A", within_s=1.5)
    simulation.registries[0].kill()
    simulation.nodes[A].resume()

    assert {"without A"} == read(simulation, facade=1, within_s=5.0)


SCHEDULES = (
    an_acknowledged_record_is_on_every_in_sync_disk,
    two_of_three_die_at_once_and_reads_go_on,
    a_hung_replica_is_fenced_and_cannot_answer_with_less,
    a_replica_that_acknowledged_alone_is_not_outnumbered_after_a_registry_restart,
    without_a_registry_a_hung_peer_is_waited_for_as_long_as_it_may_be_listed,
    without_a_registry_a_dead_peer_is_not_waited_for,
    a_starting_registry_lists_nobody_before_all_replicas_have_renewed,
    a_replica_that_reaches_no_peer_is_not_listed_and_serves_no_reads,
    both_sides_of_a_split_are_united,
    one_of_three_with_an_empty_disk_waits_for_the_others,
    the_last_survivor_serves_at_once,
    the_first_to_die_does_not_serve_without_later_acknowledged_records,
    a_full_disk_leaves_the_in_sync_set_and_comes_back,
    all_disks_full_leaves_one_replica_that_reads,
    a_slow_disk_is_fenced_and_does_not_slow_the_others,
    a_wiped_node_is_listed_with_everything,
    two_registries_where_the_first_one_dies,
)
