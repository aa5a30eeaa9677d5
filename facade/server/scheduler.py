"""The event loop of a facade: requests run as greenlets in one thread, and wait for replies, timers and clients.

It has the part of asyncio's loop interface that `common.rpc` and `asyncio.Future` need. facade/DESIGN.md gives the
reasons not to use asyncio itself.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

import structlog
from greenlet import error as GreenletError  # noqa: N812 (it is a class)
from greenlet import getcurrent, greenlet

from facade.server.polling import Callback, Polled

log = structlog.get_logger()

CONNECTION_CLOSED = "threefold.connection_closed"  # WSGI key of an Event that is set when the connection closes
TIMERS = 1_000  # size of the heap above which cancelled timers are removed
IDLE_GREENLETS = 64  # most idle greenlets that are kept for reuse
CALLBACKS = 32  # limit per turn, so that new requests are read, or refused, while a large batch is answered
TURN_S = 0.1  # longest poll of one turn, so that a stop is noticed within it

T = TypeVar("T")


class Timer:
    """A scheduled callback; see Scheduler.call_later."""

    __slots__ = ("callback", "when_s")

    def __init__(self, when_s: float, callback: Callable[[], object] | None) -> None:
        self.when_s = when_s
        self.callback = callback

    def cancel(self) -> None:
        """Drop the callback."""
        self.callback = None


class Event:
    """Like threading.Event, for the greenlets of one thread. A signal handler may call `set`."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self._set: asyncio.Future[None] = scheduler.create_future()

    def is_set(self) -> bool:
        """True after `set`."""
        return self._set.done()

    def set(self) -> None:
        """Set the event, and wake all waiters."""
        with suppress(asyncio.InvalidStateError):  # a signal handler may have set it meanwhile
            self._set.set_result(None)

    def then(self, callback: Callable[[], object]) -> None:
        """Call back when the event is set, or soon if it is set already."""
        self._set.add_done_callback(lambda _: callback())

    def clear(self) -> None:
        """Reset the event; later waits end at the next `set`."""
        if self._set.done():
            self._set = self._scheduler.create_future()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return True as soon as the event is set, and False after `timeout_s`."""
        try:
            self._scheduler.wait(self._set, timeout_s)
        except TimeoutError:
            return False
        return True


class Scheduler:
    """An event loop over descriptors, timers and callbacks, for one thread.

    Attributes:
        polled: the polled objects, by descriptor.
        turns: the number of turns so far. A turn is counted after its poll, so the callbacks that the poll causes
            belong to the same turn.
    """

    def __init__(self) -> None:
        self.polled = Polled()
        self.turns = 0
        self._unfinished: set[greenlet] = set()
        self._idle_greenlets: list[greenlet] = []
        self._hub: greenlet | None = None  # the greenlet that runs the loop; None between turns
        self._ready: deque[tuple[Any, ...]] = deque()  # callbacks, each with its arguments
        self._when_idle: list[Callable[[], object]] = []
        self._idle_due_s = 0.0  # when these callbacks are called even if the loop is busy
        self._timers: list[tuple[float, int, Timer]] = []
        self._most_timers = TIMERS  # above this size, cancelled timers are removed
        self._number = itertools.count().__next__

    # Greenlets

    @property
    def turning(self) -> bool:
        """True if the caller is a greenlet or a callback of this loop."""
        return self._hub is not None

    def spawn(self, work: Callable[..., object], *arguments: Any) -> None:
        """Run `work` in a greenlet of its own, which starts in this turn or the next one."""
        self.call_soon(self.begin, work, *arguments)

    def begin(self, work: Callable[..., object], *arguments: Any) -> None:
        """Run `work` in a greenlet of its own, which starts at once. Only for callbacks of the loop."""
        if self._idle_greenlets:
            own = self._idle_greenlets.pop()
            own.gr_context = Context()
        else:
            own = greenlet(self._run)
            self._unfinished.add(own)
            own.switch()
        own.switch(work, arguments)

    def _run(self) -> None:
        """The main function of a greenlet: runs one call after another, because a new greenlet costs 8 us."""
        own = getcurrent()
        try:
            while hub := self._hub:
                work, arguments = hub.switch()
                self._guarded(work, *arguments)
                del work, arguments  # else an idle greenlet would keep a connection or a page alive
                if len(self._idle_greenlets) == IDLE_GREENLETS:
                    break
                self._idle_greenlets.append(own)
        finally:
            self._unfinished.discard(own)

    def wait(self, future: "asyncio.Future[T]", timeout_s: float | None = None) -> T:
        """Wait for a future while other greenlets run, and return its result.

        Raises: the error of the future, or TimeoutError after `timeout_s`.
        """
        if not future.done():
            self._wait(future, timeout_s)
            if not future.done():
                raise TimeoutError
        return future.result()

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds while other greenlets run."""
        self._wait(self.create_future(), seconds)

    def all(self, calls: "Iterable[Callable[[], T]]") -> list[T]:
        """Run calls concurrently, and return their results in order; raises the first error in this order."""
        return [self.wait(ended) for ended in [self.started(call) for call in calls]]

    def event(self) -> Event:
        """A new event, which is not set."""
        return Event(self)

    def _wait(self, future: "asyncio.Future[Any]", timeout_s: float | None) -> None:
        """Wait until the future is done, or until `timeout_s` have passed."""
        if (hub := self._hub) is None:
            self._turn_until(future, timeout_s)
            return
        own, waits = getcurrent(), True
        if own is hub:
            raise RuntimeError("a callback of the loop may not wait")

        def resume(*_: object) -> None:
            nonlocal waits
            if waits:  # only once: future and timer may both be due in one turn
                waits = False
                own.switch()

        future.add_done_callback(resume)
        timer = None if timeout_s is None else self.call_later(timeout_s, resume)
        try:
            hub.switch()
        finally:
            waits = False
            future.remove_done_callback(resume)
            if timer:
                timer.cancel()

    def _turn_until(self, future: "asyncio.Future[Any]", timeout_s: float | None) -> None:
        """Run the loop for a caller that is not one of its greenlets."""
        ends_s = float("inf") if timeout_s is None else self.time() + timeout_s
        while not future.done() and self.time() < ends_s:
            self.turn(max(0.0, min(TURN_S, ends_s - self.time())))

    def started(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Run a call in a greenlet of its own; the future gets its result or its error."""
        ended: asyncio.Future[T] = self.create_future()
        self.spawn(set_from_call, ended, call)
        return ended

    @staticmethod
    def _guarded(work: Callable[..., object], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception:
            log.exception("unexpected exception in the loop")  # a defect of ours; other greenlets continue

    # The loop

    def turn(self, timeout_s: float = TURN_S) -> None:
        """Run one turn: poll for at most `timeout_s`, then call timers and callbacks that are due."""
        self._hub = getcurrent()
        try:
            busy = self.polled.poll(self._timeout_s(timeout_s))
            self.turns += 1
            busy |= self._call_timers() | bool(self._ready)
            for _ in range(min(len(self._ready), CALLBACKS)):
                self._guarded(*self._ready.popleft())
            if self._when_idle and (not busy or self.time() >= self._idle_due_s):
                callbacks, self._when_idle = self._when_idle, []
                for callback in callbacks:
                    self._guarded(callback)
        finally:
            self._hub = None

    def _call_timers(self) -> bool:
        """Call the timers that are due; True if there were any."""
        called, now_s = False, self.time()
        while self._timers and (self._timers[0][0] <= now_s or self._timers[0][2].callback is None):
            if callback := heapq.heappop(self._timers)[2].callback:
                called = True
                self._guarded(callback)
        return called

    def _timeout_s(self, timeout_s: float) -> float:
        if self._ready or self._when_idle:
            return 0.0
        if self._timers:
            return min(timeout_s, max(0.0, self._timers[0][0] - self.time()))
        return timeout_s

    def close(self) -> None:
        """End all unfinished greenlets now; else the garbage collector ends them in the middle of unrelated code."""
        for unfinished in tuple(self._unfinished):
            with suppress(GreenletError):  # the greenlet belongs to a thread that has ended
                unfinished.throw()
        self._idle_greenlets.clear()

    def when_idle(self, callback: Callable[[], object], at_most_s: float) -> None:
        """Call back once: after a turn that had nothing else to do, but at the latest after about `at_most_s`."""
        due_s = self.time() + at_most_s
        self._idle_due_s = min(due_s, self._idle_due_s) if self._when_idle else due_s
        self._when_idle.append(callback)

    # Interface of an asyncio loop

    time = staticmethod(time.monotonic)

    def call_soon(self, callback: Callable[..., object], *arguments: Any, **_context: object) -> None:
        """Call back in this turn or the next one."""
        self._ready.append((callback, *arguments))

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        """Call back after `delay_s`."""
        timer = Timer(self.time() + delay_s, (lambda: callback(*arguments)) if arguments else callback)
        heapq.heappush(self._timers, (timer.when_s, self._number(), timer))
        if len(self._timers) > self._most_timers:
            self._timers = [one for one in self._timers if one[2].callback]
            heapq.heapify(self._timers)
            self._most_timers = max(TIMERS, 2 * len(self._timers))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def add_reader(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable."""
        self.polled[descriptor] = Callback(callback)

    def remove_reader(self, descriptor: int) -> None:
        """Stop polling the descriptor."""
        if descriptor in self.polled:
            del self.polled[descriptor]

    def get_debug(self) -> bool:
        """Return False; asyncio.Future asks for it."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error that nobody retrieved from an asyncio.Future."""
        log.debug("error of a call that nobody waited for", error=repr(context.get("exception")))


def set_from_call(future: "asyncio.Future[T]", call: Callable[[], T]) -> None:
    """Set the result of a future to what a call returns, or to the error that it raises."""
    try:
        future.set_result(call())
    except Exception as error:
        future.set_exception(error)
