"""What a phase has found: counts, and inputs to which the answer was wrong."""

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

FINDINGS = 20  # then a phase ends: more of them would say the same
SHOWN_BYTES = 2_000  # of one input


@dataclass(frozen=True, slots=True)
class Finding:
    """An input, and what was wrong with the answer; `where` it was sent."""

    where: str
    problem: str
    sent: bytes

    def __str__(self) -> str:
        more = f" … {len(self.sent)} bytes" if len(self.sent) > SHOWN_BYTES else ""
        return f"{self.where}: {self.problem}\n    {self.sent[:SHOWN_BYTES]!r}{more}"


class Outcome:
    """Of one phase, shared by its threads; `budget` inputs are given out, fewer after FINDINGS."""

    def __init__(self, where: str, budget: int) -> None:
        self.where = where
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self._left = budget
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._taken_s = 0.0

    def take(self) -> bool:
        """Whether there is one more to send."""
        with self._lock:
            more = self._left > 0 and len(self.findings) < FINDINGS
            self._left -= more
            self.counts["sent"] += more
            return more

    def count(self, name: str) -> None:
        """One more of that name."""
        with self._lock:
            self.counts[name] += 1

    def found(self, problem: str, sent: bytes, where: str = "") -> None:
        """Something is wrong."""
        with self._lock:
            self.findings.append(Finding(where or self.where, problem, sent))

    def done(self) -> "Outcome":
        """The phase has ended."""
        self._taken_s = time.monotonic() - self._began_s
        return self

    def figures(self) -> dict[str, Any]:
        """For the report."""
        taken_s = self._taken_s or time.monotonic() - self._began_s
        rate = round(self.counts["sent"] / max(taken_s, 0.001))
        findings = [asdict(finding) | {"sent": repr(finding.sent[:SHOWN_BYTES])} for finding in self.findings]
        return {**sorted_counts(self.counts), "seconds": round(taken_s, 1), "per_second": rate, "findings": findings}


def sorted_counts(counts: Counter[str]) -> dict[str, int]:
    """By name."""
    return dict(sorted(counts.items()))
