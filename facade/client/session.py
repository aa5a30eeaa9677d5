"""What this facade has seen acknowledged or read: no later read through it may have less."""

import time
from collections.abc import Callable, Iterable

import structlog

from common.vectors import Vector, VectorEntry

log = structlog.get_logger()

ORIGINS = 256  # incarnations that are remembered, those that were seen last; a start of a node makes one
PAUSE_S = 1.0  # without a question, after which nothing is known of the replicas; a request asks more often
LOWER_S = 10.0  # as long as a replica that starts waits for those that may have more (`[storage] assemble_s`)


class Session:
    """A session vector, shared by the requests of a facade.

    When no replica has had what the session has seen for `lower_s`, its origin has died with what it alone had. Then
    the session begins anew, which is counted and logged.

    Args:
        lower_s: seconds for which no replica must have had it: `[storage] assemble_s`, for which a replica that starts
            waits for those that may have it.
        clock: seconds from any start.

    Attributes:
        lowered: how often the session has begun anew.
    """

    def __init__(self, *, lower_s: float = LOWER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.lowered = 0
        self._lower_s = lower_s
        self._clock = clock
        self._seen: dict[int, int] = {}
        self._vector: Vector = ()
        self._behind_s: float | None = None  # since when replicas have had less, one after the other
        self._last_s = 0.0

    def vector(self) -> Vector:
        """What a reply must have."""
        return self._vector

    def saw(self, entries: Iterable[tuple[int, int]]) -> None:
        """A reply named these origins, each with the number of a record that it has."""
        newer = [(origin, upto) for origin, upto in entries if origin and upto > self._seen.get(origin, 0)]
        if not newer:
            return
        for origin, upto in newer:
            self._seen[origin] = max(upto, self._seen.pop(origin, 0))
        while len(self._seen) > ORIGINS:
            del self._seen[next(iter(self._seen))]
        self._vector = tuple(VectorEntry(*entry) for entry in self._seen.items())

    def covered(self) -> None:
        """A replica had everything that the session has seen."""
        self._behind_s = None

    def behind(self, node: str) -> None:
        """A replica had less than the session has seen."""
        now_s = self._clock()
        if self._behind_s is None or now_s - self._last_s > PAUSE_S:
            self._behind_s = now_s
        self._last_s = now_s
        if now_s - self._behind_s < self._lower_s:
            return
        self.lowered += 1
        self._behind_s = None
        self._seen, self._vector = {}, ()
        log.warning("no replica has what this facade has seen: it is taken for lost", node=node, seconds=self._lower_s)
