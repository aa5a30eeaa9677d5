"""The outcome of a fuzzing phase: counts, and inputs that were answered wrongly."""

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

FINDINGS = 20  # after which a phase ends, because more would repeat the same problem
SHOWN_BYTES = 2_000  # of one input in the report


@dataclass(frozen=True, slots=True)
class Finding:
    """An input (`sent`), what was wrong with its answer (`problem`), and `where` it was sent."""

    where: str
    problem: str
    sent: bytes

    def __str__(self) -> str:
        more = f" … {len(self.sent)} bytes" if len(self.sent) > SHOWN_BYTES else ""
        return f"{self.where}: {self.problem}\n    {self.sent[:SHOWN_BYTES]!r}{more}"


class Outcome:
    """The outcome of one phase, shared by its threads.

    At most `budget` inputs are sent, fewer if FINDINGS is reached.
    """

    def __init__(self, where: str, budget: int) -> None:
        self.where = where
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._left = budget
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._taken_s = 0.0

    def take(self) -> bool:
        """Take one input from the budget; False if the phase is over."""
        with self._lock:
            more = self._left > 0 and len(self.findings) < FINDINGS
            self._left -= more
            self.counts["sent"] += more
            return more

    def count(self, name: str) -> None:
        """Add one to the count of that name."""
        with self._lock:
            self.counts[name] += 1

    def found(self, problem: str, sent: bytes, where: str = "") -> None:
        """Record a problem with an input."""
        with self._lock:
            self.findings.append(Finding(where or self.where, problem, sent))

    def done(self) -> "Outcome":
        """Record that the phase has ended; returns itself."""
        self._taken_s = time.monotonic() - self._began_s
        return self

    def figures(self) -> dict[str, Any]:
        """The counts, duration, rate and findings, for the report."""
        taken_s = self._taken_s or time.monotonic() - self._began_s
        rate = round(self.counts["sent"] / max(taken_s, 0.001))
        findings = [asdict(finding) | {"sent": repr(finding.sent[:SHOWN_BYTES])} for finding in self.findings]
        return {**sorted_counts(self.counts), "seconds": round(taken_s, 1), "per_second": rate, "findings": findings}


def sorted_counts(counts: Counter[str]) -> dict[str, int]:
    """The counts, sorted by name."""
    return dict(sorted(counts.items()))
