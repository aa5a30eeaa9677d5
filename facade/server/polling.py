"""A socket map for waitress on epoll: the cost of a turn depends on its events, not on the open connections."""

import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from waitress.wasyncore import readwrite

log = structlog.get_logger()

EVENTS = 64  # handled in one turn; under a flood, accepted requests go on between two turns

_READ, _WRITE = select.EPOLLIN, select.EPOLLOUT  # EPOLLPRI would report urgent data, which nobody reads, in each turn


class Polled(dict[int, Any]):
    """The polled objects by descriptor, with the interface of waitress' socket map.

    waitress asks each object in each turn whether it is `readable` and `writable`. Here an object whose `notifies` is
    true is asked only after it was added, after an event, and after `changed`. Whoever changes the state behind those
    answers must call `changed`: a connection does after each request and after each attempt to send. Any other object
    is asked in each turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll()
        self._wanted: dict[int, int] = {}
        self._changed: set[int] = set()
        self._each_turn: set[int] = set()

    def __setitem__(self, descriptor: int, polled: Any) -> None:
        """Poll one more."""
        self._want(descriptor, 0)  # in case the former owner of the descriptor was closed without being removed
        super().__setitem__(descriptor, polled)
        (self._changed if getattr(polled, "notifies", False) else self._each_turn).add(descriptor)

    def __delitem__(self, descriptor: int) -> None:
        """Do not poll it any more; call it before the descriptor is closed."""
        super().__delitem__(descriptor)
        self._each_turn.discard(descriptor)
        self._changed.discard(descriptor)
        self._want(descriptor, 0)

    def changed(self, descriptor: int) -> None:
        """The interest of an object may have changed."""
        self._changed.add(descriptor)

    def poll(self, timeout_s: float) -> bool:
        """Wait for events, and let the objects handle them; True if there were any."""
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
        before = self._wanted.get(descriptor, 0)
        if events == before:
            return
        with suppress(OSError):  # epoll has removed a closed descriptor by itself
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
    """A foreign descriptor with the interface of waitress' polled objects: calls back when it is readable."""

    accepting = False
    notifies = True  # its interest never changes

    def __init__(self, callback: Callable[[], object]) -> None:
        self.handle_read_event = callback

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Never."""
        return False

    def handle_error(self) -> None:
        """Log the exception of the callback."""
        log.exception("unexpected exception in the loop")  # noqa: LOG004 (the loop calls it for what was raised)

    def handle_close(self) -> None:
        """Its descriptor is closed by libzmq."""
