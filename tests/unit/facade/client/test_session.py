"""Tests of facade.client.session."""

import pytest
from structlog.typing import EventDict

from common.protocol.vectors import VectorEntry
from facade.client.session import ORIGINS, PAUSE_S, RESET_AFTER_S, Session

NODE = "127.0.0.1:5002"


class Clock:
    """A time that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A time that stands still."""
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Session:
    """One that has seen nothing."""
    return Session(clock=clock)


def test_the_highest_number_of_each_origin_is_kept(session: Session) -> None:
    """Replies come in any order: one with less takes nothing back."""
    assert () == session.vector()
    session.observe([(1, 5), (2, 7)])
    session.observe([(1, 4), (2, 8)])

    assert {VectorEntry(1, 5), VectorEntry(2, 8)} == set(session.vector())


def test_a_reply_that_names_no_origin_says_nothing(session: Session) -> None:
    """Origin 0 is that of a reply without a record."""
    session.observe([(0, 5)])

    assert () == session.vector()


def test_a_session_has_a_limit_and_keeps_what_was_seen_last(session: Session) -> None:
    """Each start of a node adds an origin: the ones that were not seen for longest are forgotten."""
    for origin in range(1, ORIGINS + 1):
        session.observe([(origin, 1)])
    session.observe([(1, 2)])
    session.observe([(ORIGINS + 1, 1)])

    seen = dict(session.vector())
    assert ORIGINS == len(seen)
    assert (2, None, 1) == (seen.get(1), seen.get(2), seen.get(ORIGINS + 1))


def asked(session: Session, clock: Clock, seconds: float) -> None:
    """A replica that has less is asked again and again for so long."""
    for _ in range(round(seconds / PAUSE_S) + 1):
        session.behind(NODE)
        clock.now_s += PAUSE_S


def test_a_pause_ends_the_wait(session: Session, clock: Clock) -> None:
    """One replica that lagged twice, with nobody asking in between, says nothing of the others."""
    session.observe([(1, 5)])
    session.behind(NODE)
    clock.now_s += RESET_AFTER_S + PAUSE_S
    session.behind(NODE)

    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)


def test_what_no_replica_has_is_given_up_after_a_time(session: Session, clock: Clock, logged: list[EventDict]) -> None:
    """Not earlier; then the session begins anew, which is counted and logged with the node that lacked it last."""
    session.observe([(1, 5)])
    asked(session, clock, RESET_AFTER_S - PAUSE_S)
    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)
    asked(session, clock, 2 * PAUSE_S)

    assert ((), 1) == (session.vector(), session.resets)
    assert [("warning", NODE)] == [(line["log_level"], line["node"]) for line in logged]


def test_a_replica_that_has_everything_ends_the_wait(session: Session, clock: Clock) -> None:
    """One that lags now and then, while others answer, takes nothing from a session."""
    session.observe([(1, 5)])
    for _ in range(5):
        session.behind(NODE)
        clock.now_s += RESET_AFTER_S / 2
        session.caught_up()

    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)


def test_a_session_that_began_anew_goes_on(session: Session, clock: Clock) -> None:
    """What is seen after that is asked for again, and waited for as long."""
    session.observe([(1, 5)])
    asked(session, clock, RESET_AFTER_S + PAUSE_S)
    session.observe([(2, 1)])
    session.behind(NODE)

    assert ((VectorEntry(2, 1),), 1) == (session.vector(), session.resets)
