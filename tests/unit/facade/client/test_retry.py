"""Tests of facade.client.retry: the policy with a list for a clock."""

from collections.abc import Iterator, Sequence

import pytest

from facade.client.failure_detector import FailureDetector
from facade.client.retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, Attempt, Pause, RetryPolicy, attempts

LIMITS = RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0)


def follow(steps: Iterator[Attempt | Pause], clock: list[float], *, attempt_s: float) -> list[Attempt | Pause]:
    """All steps, when every attempt fails after `attempt_s` (at most its timeout); moves the clock."""
    taken = []
    for step in steps:
        taken.append(step)
        clock[0] += step.seconds if isinstance(step, Pause) else min(attempt_s, step.timeout_s)
    return taken


def test_one_round_tries_every_address_once_in_the_shuffled_order() -> None:
    """The order is that of the shuffle, without waiting within the round."""
    steps = attempts(lambda: ("a", "b", "c"), LIMITS, clock=lambda: 0.0, ordered=lambda found: list(reversed(found)))

    assert [Attempt("c", 1.0), Attempt("b", 1.0), Attempt("a", 1.0), Pause(FIRST_PAUSE_S)] == [
        next(steps) for _ in range(4)
    ]


def test_who_serves_is_asked_anew_for_each_round() -> None:
    """An address that joined or left meanwhile counts in the next round."""
    known: list[Sequence[str]] = [("a",), (), ("b", "c")]
    steps = attempts(lambda: known.pop(0), LIMITS, clock=lambda: 0.0, ordered=list)

    assert ["a", "b", "c"] == [step.address for _ in range(5) if isinstance(step := next(steps), Attempt)]


def test_waits_grow_to_a_limit() -> None:
    """The dead fail at once, so each round is followed by a wait, each twice as long up to the longest."""
    clock = [100.0]
    steps = follow(attempts(lambda: ("a",), LIMITS, clock=lambda: clock[0], ordered=list), clock, attempt_s=0.0)
    waits = [step.seconds for step in steps if isinstance(step, Pause)]

    assert [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S] == waits[:3]
    assert LONGEST_PAUSE_S == max(waits)
    assert len(steps) < 100


def test_what_is_tried_once_is_tried_once() -> None:
    """A plan of one round ends after it."""
    limits = RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0, rounds=1)
    steps = list(attempts(lambda: ("a", "b"), limits, clock=lambda: 0.0, ordered=list))

    assert [Attempt("a", 1.0), Attempt("b", 1.0), Pause(FIRST_PAUSE_S)] == steps


def test_suspects_are_tried_last_until_they_answer() -> None:
    """Suspects keep their order behind the others; news is told once."""
    suspects = FailureDetector()

    assert [True, False] == [suspects.suspect("a"), suspects.suspect("a")]
    assert ["b", "c", "a"] == suspects.suspects_last(["a", "b", "c"])
    assert [True, False] == [suspects.clear("a"), suspects.clear("a")]
    assert ["a", "b", "c"] == suspects.suspects_last(["a", "b", "c"])


@pytest.mark.parametrize("addresses", [(), ("a",), ("a", "b"), tuple("abcdefghijklm")])
@pytest.mark.parametrize("attempt_s", [0.0, 0.3, 1.0])
def test_no_step_ends_after_the_deadline(addresses: Sequence[str], attempt_s: float) -> None:
    """Dead or hung, many addresses or none: the plan ends within its deadline, and not much before."""
    clock = [100.0]
    follow(attempts(lambda: addresses, LIMITS, clock=lambda: clock[0], ordered=list), clock, attempt_s=attempt_s)

    assert LIMITS.deadline_s - LONGEST_PAUSE_S <= clock[0] - 100.0 <= LIMITS.deadline_s + 1e-9
