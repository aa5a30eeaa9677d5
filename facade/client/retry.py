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
        rounds: most times that each address is tried.
    """

    attempt_timeout_s: float
    deadline_s: float
    rounds: int = 1_000  # the waits between them make it about 30 in 10 s


@dataclass(frozen=True, slots=True)
class Try:
    """Try `address` for at most `timeout_s` seconds; a success ends the plan."""

    address: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait `seconds`: everything failed, so give it time to change."""

    seconds: float


def plan(
    lookup: Callable[[], Sequence[str]],
    limits: Limits,
    *,
    clock: Callable[[], float],
    ordered: Callable[[Sequence[str]], Sequence[str]],
) -> Iterator[Try | Wait]:
    """Every address once, a wait, then all again, until the deadline or the last round.

    Args:
        lookup: who is to be tried, asked before each round.
        limits: the time there is.
        clock: the time now, in seconds from any start.
        ordered: the same addresses in the order in which to try them.
    """
    ends = clock() + limits.deadline_s
    pause_s = FIRST_PAUSE_S
    for _ in range(limits.rounds):
        for address in ordered(lookup()):
            if (left_s := ends - clock()) <= 0:
                return
            yield Try(address, min(limits.attempt_timeout_s, left_s))
        if ends - clock() <= pause_s:
            return
        yield Wait(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
