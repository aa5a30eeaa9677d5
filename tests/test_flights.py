"""Tests of facade.flights."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from facade.flights import Flights
from tests.support import eventually


class Airline:
    """Doubles numbers; holds every flight at the ground until it is let go."""

    def __init__(self, *, flights: int = 1, seats: int = 100, lift: int = 1_000_000) -> None:
        self.sent: list[list[int]] = []
        self.held = threading.Event()
        self.flights = Flights(self._send, weight=abs, lift=lift, flights=flights, seats=seats)

    def ask(self, item: int) -> int:
        """The answer, within 10 s."""
        return self.flights.ask(item, timeout_s=10.0)

    def _send(self, items: Sequence[int]) -> Callable[[int], int]:
        self.sent.append(list(items))
        assert self.held.wait(10.0)
        if 13 in items:
            raise ZeroDivisionError
        return self._answer

    def _answer(self, item: int) -> int:
        if item < 0:
            raise ValueError(item)
        return 2 * item


def _waiting(airline: Airline, count: int) -> bool:
    return len(airline.flights._waiting) == count


def test_those_who_come_meanwhile_travel_together() -> None:
    """The first one goes at once and alone; each gets its own answer, or its own error."""
    airline = Airline()
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(airline.ask, 1)
        eventually(lambda: airline.sent)
        others = {item: threads.submit(airline.ask, item) for item in (2, 3, -4, 5)}
        eventually(lambda: len(airline.flights._waiting) == 4)
        airline.held.set()

        assert 2 == first.result(10.0)
        assert [4, 6, 10] == [others[item].result(10.0) for item in (2, 3, 5)]
        with pytest.raises(ValueError, match="-4"):
            others[-4].result(10.0)
    assert [[1], [2, 3, -4, 5]] == [airline.sent[0], sorted(airline.sent[1], key=abs)]


def test_a_flight_has_so_many_seats_and_no_more() -> None:
    """The rest goes with the next ones; nobody is forgotten, and the flight is free at the end."""
    airline = Airline(flights=2, seats=3)
    with ThreadPoolExecutor(40) as threads:
        asked = [threads.submit(airline.ask, item) for item in range(40, 80)]
        eventually(lambda: len(airline.flights._waiting) == 38)
        airline.held.set()
        assert [2 * item for item in range(40, 80)] == [one.result(10.0) for one in asked]
    assert all(len(items) <= 3 for items in airline.sent)
    assert sorted(range(40, 80)) == sorted(item for items in airline.sent for item in items)
    assert 2 == airline.flights._free


def test_a_defect_is_raised_to_all_and_ends_nothing() -> None:
    """Who flew raises what it is, the others that it was; the next one flies."""
    airline = Airline()
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(airline.ask, 1)
        eventually(lambda: airline.sent)
        broken = [threads.submit(airline.ask, item) for item in (13, 14)]
        eventually(lambda: len(airline.flights._waiting) == 2)
        airline.held.set()
        assert 2 == first.result(10.0)
        assert {ZeroDivisionError, RuntimeError} == {type(one.exception(10.0)) for one in broken}
    assert 6 == airline.ask(3)


def test_a_flight_lifts_so_much_and_no_more() -> None:
    """What is too heavy together goes one after the other; what is too heavy alone goes alone."""
    airline = Airline(lift=100)
    with ThreadPoolExecutor(10) as threads:
        asked = [threads.submit(airline.ask, 1)]
        eventually(lambda: airline.sent)
        for waiting, item in enumerate((60, 30, 20, 500, 90), 1):
            asked.append(threads.submit(airline.ask, item))
            eventually(partial(_waiting, airline, waiting))
        airline.held.set()
        assert [2, 120, 60, 40, 1_000, 180] == [one.result(10.0) for one in asked]
    assert [[1], [60, 30], [20], [500], [90]] == airline.sent


def test_who_has_no_turn_in_time_is_not_sent() -> None:
    """Nobody waits for ever; the others go on without it."""
    airline = Airline()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(airline.ask, 1)
        eventually(lambda: airline.sent)
        with pytest.raises(TimeoutError):
            airline.flights.ask(2, timeout_s=0.01)
        airline.held.set()
        assert 2 == first.result(10.0)
        assert 6 == airline.ask(3)
    assert [[1], [3]] == airline.sent
