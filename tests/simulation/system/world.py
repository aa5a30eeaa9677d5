"""Virtual time, chance with a seed, and a network that can be cut."""

import heapq
import random
from collections.abc import Callable, Iterable
from itertools import count

USUAL_S = (0.0001, 0.002)  # of a message on its way
SLOW_S = (0.01, 0.06)  # of one in SLOW_ONE_IN
SLOW_ONE_IN = 60
NOTICED_S = (0.5, 3.0)  # until a connection over a cut network is given up


class World:
    """The time, and what is to happen. Everything that runs in one world happens in one order for one seed.

    Args:
        seed: of all chance.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something after a time."""
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), action))

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, action = heapq.heappop(self._events)
            action()
        self.now_s = until_s


class Network:
    """Carries messages in the order of each connection; a cut loses them, and both ends notice later.

    Args:
        world: time and chance.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: set[tuple[str, str]] = set()
        self._arrives_s: dict[tuple[str, str], float] = {}
        self._resets: dict[tuple[str, str], int] = {}
        self.watchers: list[Callable[[str, str, bool], None]] = []  # told (one end, the other, whether it works)

    def works(self, source: str, target: str) -> bool:
        """True if messages pass from one to the other."""
        return (source, target) not in self._cut

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Deliver after a while, after everything that was sent before on the same connection, if it is not cut."""
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
        """Lose everything on these ways from now on."""
        for way in ways:
            self._cut.add(way)
            self._world.later(self._world.random.uniform(*NOTICED_S), lambda way=way: self._notice(way))  # type: ignore[misc]

    def heal(self) -> None:
        """Let everything pass again, over new connections."""
        cut, self._cut = sorted(self._cut), set()
        for source, target in cut:
            self.reconnect(source, target)

    def reconnect(self, source: str, target: str) -> None:
        """Lose what is under way between two hosts; both notice, and connect again at once."""
        for one, other in ((source, target), (target, source)):
            self.reset(one, other)
            self._tell(one, other, works=False)
            self._tell(one, other, works=True)

    def reset(self, source: str, target: str) -> None:
        """Lose what is on its way: the connection has broken."""
        self._resets[source, target] = self._resets.get((source, target), 0) + 1

    def _notice(self, way: tuple[str, str]) -> None:
        if way in self._cut:
            for one, other in (way, way[::-1]):
                self.reset(one, other)
                self._tell(one, other, works=False)

    def _tell(self, one: str, other: str, *, works: bool) -> None:
        for watcher in self.watchers:
            watcher(one, other, works)
