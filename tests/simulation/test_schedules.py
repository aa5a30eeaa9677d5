"""Runs each scripted schedule, of the simulator and of one core: orders of events that break a weaker protocol."""

from collections.abc import Callable

import pytest

from tests.simulation.schedules import SCHEDULES
from tests.support.nodes.core_schedules import CORE_SCHEDULES


@pytest.mark.parametrize("schedule", SCHEDULES + CORE_SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_a_schedule_breaks_no_promise(schedule: Callable[[], None]) -> None:
    """The schedule asserts what must hold after it; see its docstring."""
    schedule()
