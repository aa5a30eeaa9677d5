"""Tests of facade.client.discovery."""

import pytest

from common.protocol.codec import Request
from common.protocol.messages import Lookup, LookupResult
from common.telemetry.timing import Timing
from facade.client.discovery import Discovery
from facade.client.failure_detector import FailureDetector
from facade.client.node_statistics import NodeStatistics
from facade.server.scheduler import Scheduler

SERVICE, NODES = "logging-service", ("n:1", "n:2")


class SlowRegistry:
    """A registry that takes 10 ms to answer.

    Args:
        fails: each lookup fails with a defect.

    Attributes:
        requests: the lookups so far.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.scheduler = Scheduler()
        self.requests: list[Request] = []
        self._fails = fails
        self.discovery = Discovery(self.scheduler, ["r:1"], self._attempt, FailureDetector(), NodeStatistics())

    def _attempt(self, _address: str, request: Request, _expect: type[LookupResult], _timeout_s: float) -> LookupResult:
        self.requests.append(request)
        self.scheduler.sleep(0.01)
        if self._fails:
            raise OSError("too many open files")
        return LookupResult(name=SERVICE, values=NODES)

    def look_up(self) -> tuple[str, ...]:
        """The addresses of the service."""
        return self.discovery.addresses(SERVICE, Timing())


def test_callers_of_one_turn_share_one_lookup() -> None:
    """A later caller has a lookup of its own, even while the first one is in flight."""
    registry = SlowRegistry()

    def later() -> tuple[str, ...]:
        registry.scheduler.sleep(0.0)
        return registry.look_up()

    assert [NODES] * 3 == registry.scheduler.all([registry.look_up, registry.look_up, later])
    assert [Lookup(name=SERVICE)] * 2 == registry.requests


def test_outside_of_the_loop_each_call_is_a_lookup() -> None:
    """Only callers in the loop can share a turn."""
    registry = SlowRegistry()

    assert [NODES] * 2 == [registry.look_up() for _ in range(2)]
    assert 2 == len(registry.requests)


def test_a_defect_is_raised_to_all_callers_of_a_lookup() -> None:
    """No caller waits for ever."""
    registry = SlowRegistry(fails=True)
    ended = [registry.scheduler.started(registry.look_up) for _ in range(2)]
    for one in ended:
        with pytest.raises(OSError, match="too many"):
            registry.scheduler.wait(one, 1.0)
