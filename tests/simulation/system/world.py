"""Virtual time, seeded random choices, and a network that can be cut."""

import heapq
import random
from collections.abc import Callable, Iterable
from itertools import count

USUAL_S = (0.0001, 0.002)  # delay of a message
SLOW_S = (0.01, 0.06)  # delay of one message in SLOW_ONE_IN
SLOW_ONE_IN = 60
NOTICED_S = (0.5, 3.0)  # after a cut, until both ends give up the connection


class World:
    """The virtual clock with its scheduled actions; one seed always gives the same order of events.

    Args:
        seed: of all random choices.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Schedule an action after a delay."""
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), action))

    def run(self, until_s: float) -> None:
        """Let time pass until `until_s`, and run the actions that are due."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._events)
            action()
        self.now_s = until_s


class Network:
    """Carries messages, in order on each connection; a cut loses them, and both ends notice it later.

    Args:
        world: the clock and the random choices.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: set[tuple[str, str]] = set()
        self._arrives_s: dict[tuple[str, str], float] = {}
        self._resets: dict[tuple[str, str], int] = {}
        self.watchers: list[Callable[[str, str, bool], None]] = []  # get (one end, other end, works)

    def works(self, source: str, target: str) -> bool:
        """True if messages pass from `source` to `target`."""
        return (source, target) not in self._cut

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Deliver a message after a random delay, in order on its connection, unless that is cut meanwhile."""
        world, way = self._world, (source, target)
        if way in self._cut:
            return
        usual = world.random.randrange(SLOW_ONE_IN) > 0
        at_s = world.now_s + world.random.uniform(*(USUAL_S if usual else SLOW_S))
        self._arrives_s[way] = at_s = max(at_s, self._arrives_s.get(way, 0.0))
        reset = self._resets.get(way, 0)

        def arrive() -> None:
            if way not in self._cut and self._resets.get(way, 0) == reset:
                deliver()

        world.later(at_s - world.now_s, arrive)

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """From now on lose all messages on these (source, target) ways."""
        for way in ways:
            self._cut.add(way)
            self._world.later(self._world.random.uniform(*NOTICED_S), lambda way=way: self._notice(way))  # type: ignore[misc]

    def heal(self) -> None:
        """End all cuts; messages pass again, over new connections."""
        cut, self._cut = sorted(self._cut), set()
        for source, target in cut:
            self.reconnect(source, target)

    def reconnect(self, source: str, target: str) -> None:
        """Lose the messages in flight between two hosts; both notice, and reconnect at once."""
        for one, other in ((source, target), (target, source)):
            self.reset(one, other)
            self._inform_watchers(one, other, works=False)
            self._inform_watchers(one, other, works=True)

    def reset(self, source: str, target: str) -> None:
        """Lose the messages in flight from `source` to `target`, because the connection broke."""
        self._resets[source, target] = self._resets.get((source, target), 0) + 1

    def _notice(self, way: tuple[str, str]) -> None:
        """Let both ends give up a connection that is still cut."""
        if way in self._cut:
            for one, other in (way, way[::-1]):
                self.reset(one, other)
                self._inform_watchers(one, other, works=False)

    def _inform_watchers(self, one: str, other: str, *, works: bool) -> None:
        for watcher in self.watchers:
            watcher(one, other, works)
