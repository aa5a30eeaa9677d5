"""What several threads want at once travels as one request."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from common.sequences import chunks

FLIGHTS = 2  # at once: while one is under way the next one fills
SEATS = 200  # in one flight: some milliseconds for a node

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Flights(Generic[Item, Answer]):
    """Who comes while a flight is free takes it; the others wait, and the first of them takes all along on the next.

    Args:
        send: sends many items and returns how each is answered: a function of the item, which may raise.
        weight: of an item.
        lift: weight that one flight takes, or a single item that is heavier.
        flights: at once.
        seats: items in one.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Callable[[Item], Answer]],
        *,
        weight: Callable[[Item], int],
        lift: int,
        flights: int = FLIGHTS,
        seats: int = SEATS,
    ) -> None:
        self._send = send
        self._weight = weight
        self._lift = lift
        self._free = flights
        self._seats = seats
        self._lock = threading.Lock()
        self._waiting: list[_Passenger[Item, Answer]] = []

    def ask(self, item: Item, *, timeout_s: float) -> Answer:
        """The answer to one item.

        Raises:
            TimeoutError: no flight was free in time; it was not sent.
            BaseException: what `send` or its function raises.
        """
        own: _Passenger[Item, Answer] = _Passenger(item)
        with self._lock:
            if self._free:
                self._free -= 1
                own.crew = [own]
            else:
                self._waiting.append(own)
        if not own.crew:
            self._wait(own, timeout_s)
        if own.crew:
            self._fly(own.crew)
        return own.answer(item)

    def _wait(self, own: "_Passenger[Item, Answer]", timeout_s: float) -> None:
        """Until it is answered, or has a crew to fly with."""
        if own.gate.acquire(timeout=timeout_s):
            return
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)
                raise TimeoutError
        own.gate.acquire()  # it is aboard, or leads: that ends within the deadline of a flight

    def _fly(self, crew: "list[_Passenger[Item, Answer]]") -> None:
        """Send them, then give the flight to those that have come meanwhile."""
        try:
            answer = self._send([passenger.item for passenger in crew])
            for passenger in crew:
                passenger.answer = answer
        finally:
            with self._lock:
                following = self._board()
                self._free += not following
            if following:
                following[0].crew = following
                following[0].gate.release()
            for passenger in crew[1:]:
                passenger.gate.release()

    def _board(self) -> "list[_Passenger[Item, Answer]]":
        """Take from those that wait as many, in their order, as one flight takes."""
        boarding = chunks(self._waiting, lambda one: self._weight(one.item), lift=self._lift, seats=self._seats)
        aboard = next(boarding, [])
        self._waiting = self._waiting[len(aboard) :]
        return aboard


class _Passenger(Generic[Item, Answer]):
    """An item, and a thread that waits at a gate."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.crew: list[_Passenger[Item, Answer]] = []
        self.answer: Callable[[Item], Answer] = _broken
        self.gate = threading.Lock()
        self.gate.acquire()


def _broken(_item: object) -> Any:
    raise RuntimeError("the request that this one travelled with broke")
