"""Tests of facade.client.retry: the policy as a pure generator, with a list as the clock."""

from collections.abc import Iterator, Sequence

import pytest

from facade.client.retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, Attempt, Pause, RetryPolicy, attempts

POLICY = RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0)


def follow(steps: Iterator[Attempt | Pause], clock: list[float], *, attempt_s: float) -> list[Attempt | Pause]:
    """All steps, if every attempt fails after `attempt_s` or its timeout; moves the clock."""
    taken = []
    for step in steps:
        taken.append(step)
        clock[0] += step.seconds if isinstance(step, Pause) else min(attempt_s, step.timeout_s)
    return taken


def test_one_round_tries_every_address_once_in_the_shuffled_order() -> None:
    """There is no pause within a round."""
    steps = attempts(lambda: ("a", "b", "c"), POLICY, clock=lambda: 0.0, ordered=lambda found: list(reversed(found)))

    assert [Attempt("c", 1.0), Attempt("b", 1.0), Attempt("a", 1.0), Pause(FIRST_PAUSE_S)] == [
        next(steps) for _ in range(4)
    ]


def test_each_round_has_the_current_addresses() -> None:
    """An address that joined or left meanwhile counts from the next round on."""
    listed: list[Sequence[str]] = [("a",), (), ("b", "c")]
    steps = attempts(lambda: listed.pop(0), POLICY, clock=lambda: 0.0, ordered=list)

    assert ["a", "b", "c"] == [step.address for _ in range(5) if isinstance(step := next(steps), Attempt)]


def test_pauses_grow_up_to_a_limit() -> None:
    """Each round is followed by a pause, twice as long as the one before, up to the longest."""
    clock = [100.0]
    steps = follow(attempts(lambda: ("a",), POLICY, clock=lambda: clock[0], ordered=list), clock, attempt_s=0.0)
    pauses = [step.seconds for step in steps if isinstance(step, Pause)]

    assert [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S] == pauses[:3]
    assert LONGEST_PAUSE_S == max(pauses)
    assert len(steps) < 100


def test_a_policy_of_one_round_ends_after_it() -> None:
    """Each address is tried once."""
    policy = RetryPolicy(attempt_timeout_s=1.0, deadline_s=10.0, rounds=1)
    steps = list(attempts(lambda: ("a", "b"), policy, clock=lambda: 0.0, ordered=list))

    assert [Attempt("a", 1.0), Attempt("b", 1.0), Pause(FIRST_PAUSE_S)] == steps


@pytest.mark.parametrize("addresses", [(), ("a",), ("a", "b"), tuple("abcdefghijklm")])
@pytest.mark.parametrize("attempt_s", [0.0, 0.3, 1.0])
def test_no_step_ends_after_the_deadline(addresses: Sequence[str], attempt_s: float) -> None:
    """With dead or hung nodes, many or none, the steps end within the deadline, and not much before."""
    clock = [100.0]
    follow(attempts(lambda: addresses, POLICY, clock=lambda: clock[0], ordered=list), clock, attempt_s=attempt_s)

    assert POLICY.deadline_s - LONGEST_PAUSE_S <= clock[0] - 100.0 <= POLICY.deadline_s + 1e-9
