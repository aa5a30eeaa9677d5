"""How many requests for messages a facade answers, and how fast, second by second."""

import time
from collections import deque
from collections.abc import Callable

from common import ids
from common.sequences import quantile
from facade.status.view import TrafficView

KEPT = 300  # samples: five minutes
SAMPLE_S = 1.0
TIMES = 10_000  # of one second; of more requests only the count is kept


class Traffic:
    """Shared by the requests of a facade.

    Args:
        clock: seconds from any start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self._count = 0
        self._spent_s: list[float] = []
        self._samples: deque[TrafficView] = deque(maxlen=KEPT)

    def note(self, seconds: float) -> None:
        """A request is answered."""
        self._count += 1
        if len(self._spent_s) < TIMES:
            self._spent_s.append(seconds)

    def last(self) -> TrafficView:
        """The last sample; a new one when it is older than SAMPLE_S."""
        elapsed_s = self._clock() - self._began_s
        if not self._samples or elapsed_s >= SAMPLE_S:
            spent_s, rate = sorted(self._spent_s), self._count / max(elapsed_s, SAMPLE_S)
            self._count, self._spent_s, self._began_s = 0, [], self._clock()
            p50_ms, p99_ms = (round(1_000 * quantile(spent_s, share), 2) if spent_s else None for share in (0.5, 0.99))
            time_text = ids.text_of_ms(ids.now_ms())
            self._samples.append(
                TrafficView(time=time_text, requests_per_s=round(rate, 1), p50_ms=p50_ms, p99_ms=p99_ms)
            )
        return self._samples[-1]

    def samples(self) -> list[TrafficView]:
        """Those of the last five minutes."""
        return list(self._samples)
