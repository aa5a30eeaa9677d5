"""What a facade saw of each node: how many requests it answered, and how fast."""

import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field

from common.sequences import quantile

RECENT = 1_000  # answers of each node whose times are kept
NODES = 200  # at most; what else there is is not counted


@dataclass(slots=True)
class Seen:
    """Of one node: answers, attempts without one, and the last RECENT times in seconds."""

    served: int = 0
    errors: int = 0
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that this share of the recent answers took at most; 0.0 when there is none."""
        return 1_000 * quantile(sorted(self.recent_s), share)


class Meter:
    """Counts by address; shared by the threads of a facade."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: defaultdict[str, Seen] = defaultdict(Seen)

    def note(self, address: str, seconds: float, *, answered: bool) -> None:
        """An attempt at an address is over."""
        with self._lock:
            if len(self._seen) < NODES or address in self._seen:
                seen = self._seen[address]
                seen.served += answered
                seen.errors += not answered
                if answered:
                    seen.recent_s.append(seconds)

    def seen(self, address: str) -> Seen:
        """What is known of an address now."""
        with self._lock:
            found = self._seen.get(address, Seen())
            return Seen(found.served, found.errors, found.recent_s.copy())
