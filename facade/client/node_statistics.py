"""Statistics of the requests to nodes and registries: attempts, failures by reason, and latency."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from common.discovery.lookup import LookupOutcome
from common.telemetry.quantiles import quantile

RECENT_ANSWERS = 1_000  # of each node whose durations are kept
NODES = 200  # most addresses that are counted; further addresses are ignored


@dataclass(slots=True)
class NodeCounts:
    """The counts of one node.

    Attributes:
        answers: number of answered requests.
        failures: number of failed attempts by reason.
        recent_s: durations of the last RECENT_ANSWERS answered requests, in seconds.
    """

    answers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_ANSWERS))

    @property
    def errors(self) -> int:
        """The number of all failed attempts."""
        return self.failures.total()

    def quantile_ms(self, share: float) -> float:
        """The quantile `share` of the recent durations in milliseconds; 0.0 if there are none."""
        return 1_000 * quantile(sorted(self.recent_s), share)


class NodeStatistics:
    """The counts of all nodes by address, and of lookups; shared by the requests of a facade."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, NodeCounts] = defaultdict(NodeCounts)
        self._lookups = Counter(dict.fromkeys(LookupOutcome, 0))

    def record(self, address: str, seconds: float, failure: str = "") -> None:
        """Count an attempt that took `seconds`; `failure` is the reason if it failed."""
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
        """A copy of the counts of all addresses."""
        return {address: self.of(address) for address in list(self._counts)}

    def of(self, address: str) -> NodeCounts:
        """A copy of the counts of one address."""
        found = self._counts.get(address, NodeCounts())
        return NodeCounts(found.answers, found.failures.copy(), found.recent_s.copy())
