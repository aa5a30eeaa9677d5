"""Retry policy: when and for how long each address is tried. A pure generator with an injected clock."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FIRST_PAUSE_S = 0.05  # after the first round in which every address failed ...
LONGEST_PAUSE_S = 0.4  # ... doubled after each further round, up to this


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The time limits of one request.

    Attributes:
        attempt_timeout_s: seconds for one attempt at one address.
        deadline_s: seconds for all attempts together.
        rounds: how often each address is tried at most.
    """

    attempt_timeout_s: float
    deadline_s: float
    rounds: int = 1_000  # practically no limit: the pauses allow about 30 in 10 s


@dataclass(frozen=True, slots=True)
class Attempt:
    """Try `address` for at most `timeout_s` seconds; a success ends the request."""

    address: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds, because every address failed in this round."""

    seconds: float


def attempts(
    lookup: Callable[[], Sequence[str]],
    policy: RetryPolicy,
    *,
    clock: Callable[[], float],
    ordered: Callable[[Sequence[str]], Sequence[str]],
) -> Iterator[Attempt | Pause]:
    """Yield an attempt at each address, then a pause, and so on until the deadline or the last round.

    Args:
        lookup: returns the addresses; called before each round.
        policy: the time limits.
        clock: seconds from any start.
        ordered: sorts the addresses into the order in which they are tried.
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
