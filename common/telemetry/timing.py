"""Where the time of a client request went, for the header `Server-Timing`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("queue", "registry", "node", "store")


@dataclass(slots=True)
class Timing:
    """The seconds that one request has spent in each part of its way.

    Attributes:
        spent_s: `queue`: waiting for a batch; `registry`: looking the service up; `node`: all attempts at nodes;
            `store`: inside of the node that answered.
        clock: seconds from any start.
    """

    clock: Callable[[], float] = time.perf_counter
    spent_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def add(self, part: str, seconds: float) -> None:
        """Add seconds to a part."""
        self.spent_s[part] += seconds

    def include(self, other: "Timing") -> None:
        """Add the times of the batch that this request was sent with."""
        for part, seconds in other.spent_s.items():
            self.add(part, seconds)

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part, also if the block raises."""
        began = self.clock()
        try:
            yield
        finally:
            self.add(part, self.clock() - began)

    def header(self) -> str:
        """The value of the header, in milliseconds: `registry;dur=0.1, node;dur=0.9, store;dur=0.6`."""
        return ", ".join(f"{part};dur={1_000 * seconds:.3f}" for part, seconds in self.spent_s.items())
