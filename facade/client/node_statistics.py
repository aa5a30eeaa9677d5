"""Statistics of what a facade asked each node and the registries: attempts, failures by reason, and latency."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from common.discovery.lookup import LookupOutcome
from common.telemetry.quantiles import quantile

RECENT_ANSWERS = 1_000  # of each node, of which the times are kept
NODES = 200  # most addresses that are counted; further ones are ignored


@dataclass(slots=True)
class NodeCounts:
    """Counts of one node.

    Attributes:
        answers: requests that it answered.
        failures: attempts that it did not answer, by reason.
        recent_s: the times of its last RECENT_ANSWERS answers, in seconds.
    """

    answers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ANSWERS))

    @property
    def errors(self) -> int:
        """All attempts that it did not answer."""
        return self.failures.total()

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that this share of the recent answers took at most; 0.0 without any."""
        return 1_000 * quantile(sorted(self.recent_s), share)


class NodeStatistics:
    """Counts by address, shared by the requests of a facade."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, NodeCounts] = defaultdict(NodeCounts)
        self._lookups = Counter(dict.fromkeys(LookupOutcome, 0))

    def record(self, address: str, seconds: float, failure: str = "") -> None:
        """Count an attempt at an address; `failure` is the reason if it was not answered."""
        if len(self._counts) < NODES or address in self._counts:
            counts = self._counts[address]
            if failure:
                counts.failures[failure] += 1
            else:
                counts.answers += 1
                counts.recent_s.append(seconds)

    def record_lookup(self, outcome: LookupOutcome) -> None:
        """Count a lookup at the registries."""
        self._lookups[outcome] += 1

    def lookups(self) -> dict[str, int]:
        """The number of lookups by outcome."""
        return {str(outcome): count for outcome, count in self._lookups.items()}

    def all(self) -> dict[str, NodeCounts]:
        """The counts of all addresses, as they are now."""
        return {address: self.of(address) for address in list(self._counts)}

    def of(self, address: str) -> NodeCounts:
        """The counts of one address, as they are now."""
        found = self._counts.get(address, NodeCounts())
        return NodeCounts(found.answers, found.failures.copy(), found.recent_s.copy())
