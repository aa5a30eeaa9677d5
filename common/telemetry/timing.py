"""The time that a client request spends in each part of the system, for the header `Server-Timing`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("queue", "registry", "node", "store")


@dataclass(slots=True)
class Timing:
    """The seconds that one request has spent in each part of the system.

    Attributes:
        clock: the current time in seconds, from any start.
        spent_s: seconds by part. `queue`: waiting for a batch; `registry`: looking up the service; `node`: all attempts
            at nodes; `store`: within the node that answered.
    """

    clock: Callable[[], float] = time.perf_counter
    spent_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def add(self, part: str, seconds: float) -> None:
        """Add `seconds` to a part."""
        self.spent_s[part] += seconds

    def include(self, other: "Timing") -> None:
        """Add the times of the batch in which this request was sent."""
        for part, seconds in other.spent_s.items():
            self.add(part, seconds)

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Add the duration of the block to a part, also if the block raises."""
        began = self.clock()
        try:
            yield
        finally:
            self.add(part, self.clock() - began)

    def header(self) -> str:
        """The value of the header, in milliseconds, such as `registry;dur=0.1, node;dur=0.9, store;dur=0.6`."""
        return ", ".join(f"{part};dur={1_000 * seconds:.3f}" for part, seconds in self.spent_s.items())
