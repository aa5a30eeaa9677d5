"""What a facade saw of each node: how many requests it answered, and how fast."""

import enum
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from common.sequences import quantile

RECENT = 1_000  # answers of each node whose times are kept
NODES = 200  # at most; what else there is is not counted


class LookedUp(enum.StrEnum):
    """What came of asking the registries."""

    ANSWERED = "answered"
    STALE = "stale"  # none of them answered, the last good answer had to do
    FAILED = "failed"  # and there was none


@dataclass(slots=True)
class Seen:
    """Of one node: answers, attempts without one by reason, and the last RECENT times in seconds."""

    served: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def errors(self) -> int:
        """All attempts without an answer."""
        return self.failures.total()

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that this share of the recent answers took at most; 0.0 when there is none."""
        return 1_000 * quantile(sorted(self.recent_s), share)


class Meter:
    """Counts by address; shared by the requests of a facade."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, Seen] = defaultdict(Seen)
        self._lookups = Counter(dict.fromkeys(LookedUp, 0))

    def note(self, address: str, seconds: float, failure: str = "") -> None:
        """An attempt at an address is over; `failure` is the reason why it was not answered."""
        if len(self._seen) < NODES or address in self._seen:
            seen = self._seen[address]
            if failure:
                seen.failures[failure] += 1
            else:
                seen.served += 1
                seen.recent_s.append(seconds)

    def note_lookup(self, outcome: LookedUp) -> None:
        """A service was looked up."""
        self._lookups[outcome] += 1

    def lookups(self) -> dict[str, int]:
        """How many there were, by outcome."""
        return {str(outcome): count for outcome, count in self._lookups.items()}

    def all(self) -> dict[str, Seen]:
        """What is known of each address now."""
        return {address: self.seen(address) for address in list(self._seen)}

    def seen(self, address: str) -> Seen:
        """What is known of an address now."""
        found = self._seen.get(address, Seen())
        return Seen(found.served, found.failures.copy(), found.recent_s.copy())
