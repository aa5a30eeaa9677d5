"""The request rate of a facade: the number and latency of requests for messages in each second."""

import time
from collections import deque
from collections.abc import Callable

from common import ids
from common.telemetry.quantiles import quantile
from facade.status.schema import RequestRateSample

SAMPLES = 300  # most samples that are kept: five minutes
SAMPLE_S = 1.0  # the status page draws one point a second
LATENCIES = 10_000  # most durations that are kept in one second; further requests are only counted


class RequestRate:
    """Counts requests for messages, shared by the requests of a facade.

    Args:
        clock: seconds from any start.
        now_ms: milliseconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, now_ms: Callable[[], int] = ids.now_ms) -> None:
        self._clock = clock
        self._now_ms = now_ms
        self._began_s = clock()
        self._count = 0
        self._spent_s: list[float] = []
        self._samples: deque[RequestRateSample] = deque(maxlen=SAMPLES)

    def record(self, seconds: float) -> None:
        """Count a request that took `seconds`."""
        self._count += 1
        if len(self._spent_s) < LATENCIES:
            self._spent_s.append(seconds)

    def last(self) -> RequestRateSample:
        """The last sample; makes a new one if SAMPLE_S have passed since then."""
        elapsed_s = self._clock() - self._began_s
        if not self._samples or elapsed_s >= SAMPLE_S:
            spent_s, rate = sorted(self._spent_s), self._count / max(elapsed_s, SAMPLE_S)
            self._count, self._spent_s, self._began_s = 0, [], self._clock()
            p50_ms, p99_ms = (round(1_000 * quantile(spent_s, share), 2) if spent_s else None for share in (0.5, 0.99))
            self._samples.append(
                RequestRateSample(
                    time=ids.text_of_ms(self._now_ms()), requests_per_s=round(rate, 1), p50_ms=p50_ms, p99_ms=p99_ms
                )
            )
        return self._samples[-1]

    def samples(self) -> list[RequestRateSample]:
        """The samples of the last five minutes, the oldest first."""
        return list(self._samples)
