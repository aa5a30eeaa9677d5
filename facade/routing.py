"""The fallback policy: which address is tried when, and for how long. Pure: no sockets, no clock of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FIRST_PAUSE_S = 0.05  # after a round in which every address failed: the dead fail at once, so wait for news ...
LONGEST_PAUSE_S = 0.4  # ... each time twice as long, up to this


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one request may take.

    Attributes:
        attempt_timeout_s: for one attempt at one address, in seconds.
        deadline_s: for all attempts together, in seconds.
    """

    attempt_timeout_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """Wait `pause_s`, then try `address` for at most `timeout_s` seconds."""

    address: str
    timeout_s: float
    pause_s: float


def attempts(
    lookup: Callable[[], Sequence[str]],
    limits: Limits,
    *,
    clock: Callable[[], float],
    shuffled: Callable[[Sequence[str]], Sequence[str]],
) -> Iterator[Attempt]:
    """Every address once in random order, then all again, until the deadline.

    Args:
        lookup: who is to be tried, asked before each round.
        limits: the time there is.
        clock: the time now, in seconds from any start.
        shuffled: the same addresses in random order.
    """
    ends = clock() + limits.deadline_s
    pause_s, next_pause_s = 0.0, FIRST_PAUSE_S
    while True:
        for address in shuffled(lookup()):
            left_s = ends - clock() - pause_s
            if left_s <= 0:
                return
            yield Attempt(address, min(limits.attempt_timeout_s, left_s), pause_s)
            pause_s = 0.0
        pause_s, next_pause_s = next_pause_s, min(2 * next_pause_s, LONGEST_PAUSE_S)
