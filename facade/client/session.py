"""Session vector: what clients of this facade have seen acknowledged or read; no later read may show less."""

import time
from collections.abc import Callable, Iterable

import structlog

from common.protocol.vectors import Vector, VectorEntry

log = structlog.get_logger()

ORIGINS = 256  # incarnations that are remembered, the most recent ones; each start of a node makes one
PAUSE_S = 1.0  # without an answer from any replica, after which a period of replicas being behind begins anew
RESET_AFTER_S = 10.0  # as long as a replica that starts waits for those that may have more (`[storage] assemble_s`)


class Session:
    """A version vector that is shared by the requests of a facade.

    If no replica has had what the session has seen for `reset_after_s`, its origin has died with records that only it
    had. Then the session begins anew, which is counted and logged.

    Args:
        reset_after_s: seconds for which every replica must have been behind: `[storage] assemble_s`, for which a
            replica that starts waits for those that may have more.
        clock: seconds from any start.

    Attributes:
        resets: how often the session has begun anew.
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
        """Raise the vector to (origin, sequence) pairs that a reply named."""
        newer = [(origin, upto) for origin, upto in entries if origin and upto > self._seen.get(origin, 0)]
        if not newer:
            return
        for origin, upto in newer:
            self._seen[origin] = max(upto, self._seen.pop(origin, 0))
        while len(self._seen) > ORIGINS:
            del self._seen[next(iter(self._seen))]
        self._vector = tuple(VectorEntry(*entry) for entry in self._seen.items())

    def caught_up(self) -> None:
        """Note that a replica has everything that the session has seen."""
        self._behind_since_s = None

    def behind(self, node: str) -> None:
        """Note that a replica has less than the session has seen; begin anew if all have been so for long."""
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
