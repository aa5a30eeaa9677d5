"""Where the time of a request went, for the header `Server-Timing`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("queue", "registry", "node", "store")


@dataclass(slots=True)
class Timing:
    """Seconds that one request has spent.

    Attributes:
        spent_s: `queue`: before anyone was asked; `registry`: asking it; `node`: asking nodes, all attempts;
            `store`: in the node that answered.
        clock: seconds from any start.
    """

    clock: Callable[[], float] = time.perf_counter
    spent_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def add(self, part: str, seconds: float) -> None:
        """More of a part."""
        self.spent_s[part] += seconds

    def take(self, other: "Timing") -> None:
        """Also what another one, with which this one travelled, has spent."""
        for part, seconds in other.spent_s.items():
            self.add(part, seconds)

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """The block belongs to a part, also when it fails."""
        began = self.clock()
        try:
            yield
        finally:
            self.add(part, self.clock() - began)

    def header(self) -> str:
        """`registry;dur=0.1, node;dur=0.9, store;dur=0.6`, in milliseconds."""
        return ", ".join(f"{part};dur={1_000 * seconds:.3f}" for part, seconds in self.spent_s.items())
