"""Session vector: the records that clients of this facade have seen; no later read may show less."""

import time
from collections.abc import Callable, Iterable

import structlog

from common.protocol.vectors import Vector, VectorEntry

log = structlog.get_logger()

ORIGINS = 256  # most incarnations that are remembered; each start of a node makes one
PAUSE_S = 1.0  # without a refusal; after it, the time for which replicas have been behind is counted from 0
RESET_AFTER_S = 10.0  # the default of `[storage] assemble_s`


class Session:
    """A version vector that is shared by the requests of a facade: what its clients saw acknowledged or read.

    If for `reset_after_s` every replica has been behind the vector, an origin has died with records that only it had.
    Then the vector is reset, which is counted and logged.

    Args:
        reset_after_s: seconds for which every replica must have been behind. Use `[storage] assemble_s`, the time for
            which a starting replica waits for replicas that may have more.
        clock: seconds from any start.

    Attributes:
        resets: how often the vector was reset.
    """

    def __init__(self, *, reset_after_s: float = RESET_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.resets = 0
        self._reset_after_s = reset_after_s
        self._clock = clock
        self._seen: dict[int, int] = {}
        self._vector: Vector = ()
        self._behind_since_s: float | None = None
        self._last_behind_s = 0.0

    def vector(self) -> Vector:
        """The version vector that a replica must cover before it answers a read."""
        return self._vector

    def observe(self, entries: Iterable[tuple[int, int]]) -> None:
        """Raise the vector to the (origin, sequence) pairs of a reply."""
        newer = [(origin, upto) for origin, upto in entries if origin and upto > self._seen.get(origin, 0)]
        if not newer:
            return
        for origin, upto in newer:
            self._seen[origin] = max(upto, self._seen.pop(origin, 0))
        while len(self._seen) > ORIGINS:
            del self._seen[next(iter(self._seen))]
        self._vector = tuple(VectorEntry(*entry) for entry in self._seen.items())

    def caught_up(self) -> None:
        """Note that a replica covered the vector."""
        self._behind_since_s = None

    def behind(self, node: str) -> None:
        """Note that a replica is behind the vector; reset the vector if all have been for `reset_after_s`."""
        now_s = self._clock()
        if self._behind_since_s is None or now_s - self._last_behind_s > PAUSE_S:
            self._behind_since_s = now_s
        self._last_behind_s = now_s
        if now_s - self._behind_since_s < self._reset_after_s:
            return
        self.resets += 1
        self._behind_since_s = None
        self._seen, self._vector = {}, ()
        log.warning("session reset: no replica has what it has seen", node=node, seconds=self._reset_after_s)
