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


class Asked:
    """A registry that takes a while to answer, and what it was asked."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.scheduler = Scheduler()
        self.requests: list[Request] = []
        self._breaks = breaks
        self.discovery = Discovery(self.scheduler, ["r:1"], self._attempt, FailureDetector(), NodeStatistics())

    def _attempt(self, _address: str, request: Request, _expect: type[LookupResult], _timeout_s: float) -> LookupResult:
        self.requests.append(request)
        self.scheduler.sleep(0.01)
        if self._breaks:
            raise OSError("too many open files")
        return LookupResult(name=SERVICE, values=NODES)

    def look_up(self) -> tuple[str, ...]:
        """The addresses."""
        return self.discovery.addresses(SERVICE, Timing())


def test_one_question_serves_all_that_ask_in_one_turn() -> None:
    """Who asks later has a question of its own, also while the first one is on its way."""
    asked = Asked()

    def later() -> tuple[str, ...]:
        asked.scheduler.sleep(0.0)
        return asked.look_up()

    assert [NODES] * 3 == asked.scheduler.all([asked.look_up, asked.look_up, later])
    assert [Lookup(name=SERVICE)] * 2 == asked.requests


def test_outside_of_the_loop_each_access_asks() -> None:
    """There are no turns there."""
    asked = Asked()

    assert [NODES] * 2 == [asked.look_up() for _ in range(2)]
    assert 2 == len(asked.requests)


def test_a_defect_is_raised_to_all_that_share_a_question() -> None:
    """Nobody waits for ever for who has it."""
    asked = Asked(breaks=True)
    ended = [asked.scheduler.started(asked.look_up) for _ in range(2)]
    for one in ended:
        with pytest.raises(OSError, match="too many"):
            asked.scheduler.wait(one, 1.0)
