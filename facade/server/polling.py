"""A socket map for waitress on epoll: a turn costs time per event, not per open connection."""

import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from waitress.wasyncore import readwrite

log = structlog.get_logger()

EVENTS = 64  # handled in one turn, so that accepted requests make progress under a flood of new ones

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT  # not EPOLLPRI: unread urgent data would end every poll


class Polled(dict[int, Any]):
    """The polled objects by descriptor, with the interface of waitress' socket map.

    waitress asks every object in every turn whether it is `readable` and `writable`. This map asks an object whose
    attribute `notifies` is true only after it was added, after an event, and after a call of `changed`. Code that
    changes what such an object would answer must call `changed`; a connection does so after each request and after each
    attempt to send. All other objects are asked in every turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._wanted: dict[int, int] = {}
        self._changed: set[int] = set()
        self._each_turn: set[int] = set()

    def __setitem__(self, descriptor: int, polled: Any) -> None:
        """Start polling an object."""
        self._want(descriptor, 0)  # a former owner of the descriptor may not have been removed
        super().__setitem__(descriptor, polled)
        (self._changed if getattr(polled, "notifies", False) else self._each_turn).add(descriptor)

    def __delitem__(self, descriptor: int) -> None:
        """Stop polling an object; to be called before its descriptor is closed."""
        super().__delitem__(descriptor)
        self._each_turn.discard(descriptor)
        self._changed.discard(descriptor)
        self._want(descriptor, 0)

    def changed(self, descriptor: int) -> None:
        """Note that an object may have become readable or writable, or stopped to be so."""
        self._changed.add(descriptor)

    def poll(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` for events, and let the objects handle them. True if there were any."""
        changed, self._changed = self._changed, set()
        for descriptor in (*changed, *self._each_turn):
            if polled := self.get(descriptor):
                reads, writes = polled.readable(), polled.writable() and not polled.accepting
                self._want(descriptor, (_READ if reads else 0) | (_WRITE if writes else 0))
        found = self._epoll.poll(timeout_s, EVENTS)
        for descriptor, events in found:
            if polled := self.get(descriptor):
                readwrite(polled, events)
                self._changed.add(descriptor)
        return bool(found)

    def _want(self, descriptor: int, events: int) -> None:
        """Have epoll report these events of a descriptor, 0 for none."""
        before = self._wanted.get(descriptor, 0)
        if events == before:
            return
        with suppress(OSError):  # epoll removes a closed descriptor by itself
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


class Callback:
    """Calls back when a descriptor is readable; has the interface of waitress' polled objects."""

    accepting = False
    notifies = True  # its interest never changes

    def __init__(self, callback: Callable[[], object]) -> None:
        self.handle_read_event = callback

    def readable(self) -> bool:
        """Return True: reading is always of interest."""
        return True

    def writable(self) -> bool:
        """Return False: writing is never of interest."""
        return False

    def handle_error(self) -> None:
        """Log the exception of the callback."""
        log.exception("unexpected exception in the loop")  # noqa: LOG004 (called in an except block)

    def handle_close(self) -> None:
        """Do nothing, because libzmq closes the descriptor."""
