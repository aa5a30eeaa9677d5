"""Tests of facade.server.single_flight."""

import pytest

from facade.server.scheduler import Scheduler
from facade.server.single_flight import SingleFlight
from tests.support.waiting import ManualClock


class Counted:
    """A call that takes a turn of the loop, and returns how often it was made.

    Args:
        fails: it raises instead.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.scheduler, self.clock, self.calls = Scheduler(), ManualClock(), 0
        self.fails = fails
        self.flight = SingleFlight(self.scheduler, self._call, clock=self.clock)

    def _call(self) -> int:
        self.calls += 1
        made = self.calls
        self.scheduler.sleep(0.0)
        if self.fails:
            raise OSError("too many open files")
        return made

    def results(self, callers: int, *, max_age: float = 1.0) -> list[int | str]:
        """What so many callers of one moment get: a result, or the text of an error."""

        def caller() -> int | str:
            try:
                return self.flight.get(max_age=max_age)
            except OSError as error:
                return str(error)

        return self.scheduler.all([caller] * callers)


@pytest.mark.parametrize(("age_s", "calls"), [(0.9, 1), (1.1, 2)])
def test_a_result_is_shared_until_it_is_too_old(age_s: float, calls: int) -> None:
    """Concurrent callers share one call, and later ones its result for max_age."""
    counted = Counted()
    assert [1, 1, 1] == counted.results(3)
    counted.clock.now_s += age_s

    assert [calls] * 2 == counted.results(2)
    assert calls == counted.calls


def test_an_error_is_shared_only_by_those_that_wait() -> None:
    """The next caller makes a call of its own."""
    counted = Counted(fails=True)
    assert ["too many open files"] * 2 == counted.results(2)
    counted.fails = False

    assert [2] == counted.results(1)
