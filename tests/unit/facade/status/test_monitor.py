"""Tests of facade.status.monitor."""

from facade.status.monitor import EVENTS, StatusMonitor
from tests.support.facade import NODES, MemorySystem


def test_a_status_is_kept_for_a_while(system: MemorySystem) -> None:
    """Requests that come soon after each other share one status; later ones get a new one."""
    now_s = [0.0]
    monitor = StatusMonitor(system.collector, clock=lambda: now_s[0])
    first = monitor.status()

    assert first is monitor.status()
    now_s[0] = 1.0
    assert first is not monitor.status()


def test_the_monitor_remembers_what_changed(system: MemorySystem) -> None:
    """The newest event is the first, and the number of events is limited."""
    now_s = [0.0]
    monitor = StatusMonitor(system.collector, clock=lambda: now_s[0])
    monitor.status()
    system.transport.kill(NODES[1])
    now_s[0] = 1.0

    assert ["not-safe", "node-down"] == [event.kind for event in monitor.status().events]
    for number in range(EVENTS):
        (system.transport.revive if number % 2 == 0 else system.transport.kill)(NODES[1])
        monitor.status(max_age_s=-1)
    assert EVENTS == len(monitor.status(max_age_s=-1).events)
