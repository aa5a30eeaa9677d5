"""What waitress polls, by epoll: a turn costs as much as happens in it, not as many connections as there are."""

import select
from contextlib import suppress
from typing import Any

from waitress.wasyncore import readwrite

EVENTS = 64  # taken in one turn: under a flood, what was begun goes on between two of them

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT  # not EPOLLPRI: nobody takes urgent data, and it would be told for ever


class Polled(dict[int, Any]):
    """Objects by descriptor, as waitress' loop has them.

    waitress asks each object in each turn whether it wants to read and to write. Here an object with a true `tells` is
    asked when it was added, after something has happened to it, and after `changed`, which must be called by whoever
    changes what its answers depend on: the connection itself, after a request and after each attempt to send. Any other
    object is asked in each turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._wanted: dict[int, int] = {}
        self._changed: set[int] = set()
        self._each_turn: set[int] = set()

    def __setitem__(self, descriptor: int, polled: Any) -> None:
        """Poll one more."""
        self._want(descriptor, 0)  # an earlier one that was closed without being removed
        super().__setitem__(descriptor, polled)
        (self._changed if getattr(polled, "tells", False) else self._each_turn).add(descriptor)

    def __delitem__(self, descriptor: int) -> None:
        """Do not poll it any more; call it before the descriptor is closed."""
        super().__delitem__(descriptor)
        self._each_turn.discard(descriptor)
        self._changed.discard(descriptor)
        self._want(descriptor, 0)

    def changed(self, descriptor: int) -> None:
        """An object may want something else now."""
        self._changed.add(descriptor)

    def poll(self, timeout_s: float) -> None:
        """Wait for something to happen, and let the objects do what they do then."""
        changed, self._changed = self._changed, set()
        for descriptor in (*changed, *self._each_turn):
            if polled := self.get(descriptor):
                reads, writes = polled.readable(), polled.writable() and not polled.accepting
                self._want(descriptor, (_READ if reads else 0) | (_WRITE if writes else 0))
        for descriptor, events in self._epoll.poll(timeout_s, EVENTS):
            if polled := self.get(descriptor):
                readwrite(polled, events)
                self._changed.add(descriptor)

    def _want(self, descriptor: int, events: int) -> None:
        before = self._wanted.get(descriptor, 0)
        if events == before:
            return
        with suppress(OSError):  # who is closed already is not polled any more
            if not events:
                self._epoll.unregister(descriptor)
            elif before:
                self._epoll.modify(descriptor, events)
            else:
                self._epoll.register(descriptor, events)
        if events:
            self._wanted[descriptor] = events
        else:
            self._wanted.pop(descriptor, None)
