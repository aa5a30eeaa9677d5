"""Retry policy: which address is tried when, and for how long. A pure generator: no sockets, no clock of its own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FIRST_PAUSE_S = 0.05  # after a round in which every address failed ...
LONGEST_PAUSE_S = 0.4  # ... twice as long after each further round, up to this


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The time limits of one request.

    Attributes:
        attempt_timeout_s: for one attempt at one address, in seconds.
        deadline_s: for all attempts together, in seconds.
        rounds: most times that each address is tried.
    """

    attempt_timeout_s: float
    deadline_s: float
    rounds: int = 1_000  # the pauses between them make it about 30 in 10 s


@dataclass(frozen=True, slots=True)
class Attempt:
    """Try `address` for at most `timeout_s` seconds; a success ends the request."""

    address: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds, because every address has failed."""

    seconds: float


def attempts(
    lookup: Callable[[], Sequence[str]],
    policy: RetryPolicy,
    *,
    clock: Callable[[], float],
    ordered: Callable[[Sequence[str]], Sequence[str]],
) -> Iterator[Attempt | Pause]:
    """Try every address once, pause, and begin again, until the deadline or the last round.

    Args:
        lookup: the addresses, asked for before each round.
        policy: the time limits.
        clock: the time now, in seconds from any start.
        ordered: puts the addresses into the order in which they are tried.
    """
    deadline = clock() + policy.deadline_s
    pause_s = FIRST_PAUSE_S
    for _ in range(policy.rounds):
        for address in ordered(lookup()):
            if (left_s := deadline - clock()) <= 0:
                return
            yield Attempt(address, min(policy.attempt_timeout_s, left_s))
        if deadline - clock() <= pause_s:
            return
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
