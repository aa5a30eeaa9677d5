"""Tests of common.telemetry.timing."""

from contextlib import suppress

from common.telemetry.timing import Timing
from tests.support.waiting import ManualClock


def test_a_block_is_measured_even_if_it_raises() -> None:
    """Its duration is added to its part."""
    clock = ManualClock()
    timing = Timing(clock)
    for _ in range(2):
        with suppress(OSError), timing.measured("node"):
            clock.now_s += 0.25
            raise OSError

    assert {"queue": 0.0, "registry": 0.0, "node": 0.5, "store": 0.0} == timing.spent_s


def test_the_header_has_all_parts_in_milliseconds() -> None:
    """With what the batch spent in which the request was sent."""
    batch, timing = Timing(), Timing()
    batch.add("store", 0.0015)
    timing.add("queue", 0.001)
    timing.include(batch)

    assert "queue;dur=1.000, registry;dur=0.000, node;dur=0.000, store;dur=1.500" == timing.header()
