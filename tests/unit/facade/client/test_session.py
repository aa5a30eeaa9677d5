"""Tests of facade.client.session."""

import pytest
from structlog.typing import EventDict

from common.protocol.vectors import VectorEntry
from facade.client.session import ORIGINS, PAUSE_S, RESET_AFTER_S, Session
from tests.support.waiting import ManualClock

NODE = "127.0.0.1:5002"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock(100.0)


@pytest.fixture
def session(clock: ManualClock) -> Session:
    """A session that has seen nothing."""
    return Session(clock=clock)


def test_the_highest_sequence_of_each_origin_is_kept(session: Session) -> None:
    """Replies may be observed in any order."""
    assert () == session.vector()
    session.observe([(1, 5), (2, 7)])
    session.observe([(1, 4), (2, 8)])

    assert {VectorEntry(1, 5), VectorEntry(2, 8)} == set(session.vector())


def test_a_reply_without_an_origin_is_ignored(session: Session) -> None:
    """Origin 0 means that the reply has no record."""
    session.observe([(0, 5)])

    assert () == session.vector()


def test_the_number_of_origins_is_limited(session: Session) -> None:
    """Each start of a node adds an origin: those that were not seen for longest are dropped."""
    for origin in range(1, ORIGINS + 1):
        session.observe([(origin, 1)])
    session.observe([(1, 2)])
    session.observe([(ORIGINS + 1, 1)])

    seen = dict(session.vector())
    assert ORIGINS == len(seen)
    assert (2, None, 1) == (seen.get(1), seen.get(2), seen.get(ORIGINS + 1))


def lag_for(session: Session, clock: ManualClock, seconds: float) -> None:
    """Let a replica that lacks records be asked again and again for some seconds."""
    for _ in range(round(seconds / PAUSE_S) + 1):
        session.behind(NODE)
        clock.now_s += PAUSE_S


def test_a_pause_restarts_the_wait(session: Session, clock: ManualClock) -> None:
    """If one replica lagged twice and no replica was asked in between, other replicas may have the records."""
    session.observe([(1, 5)])
    session.behind(NODE)
    clock.now_s += RESET_AFTER_S + PAUSE_S
    session.behind(NODE)

    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)


def test_records_that_no_replica_has_are_given_up_after_a_time(
    session: Session, clock: ManualClock, logged: list[EventDict]
) -> None:
    """Not earlier; then the session is reset, which is counted and logged with the replica that lacked them last."""
    session.observe([(1, 5)])
    lag_for(session, clock, RESET_AFTER_S - PAUSE_S)
    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)
    lag_for(session, clock, 2 * PAUSE_S)

    assert ((), 1) == (session.vector(), session.resets)
    assert [("warning", NODE)] == [(line["log_level"], line["node"]) for line in logged]


def test_a_replica_that_has_everything_ends_the_wait(session: Session, clock: ManualClock) -> None:
    """A replica that lags now and then, while others answer, does not reset the session."""
    session.observe([(1, 5)])
    for _ in range(5):
        session.behind(NODE)
        clock.now_s += RESET_AFTER_S / 2
        session.caught_up()

    assert ((VectorEntry(1, 5),), 0) == (session.vector(), session.resets)


def test_a_session_works_as_before_after_a_reset(session: Session, clock: ManualClock) -> None:
    """Later records are in the session vector again, and are waited for as long."""
    session.observe([(1, 5)])
    lag_for(session, clock, RESET_AFTER_S + PAUSE_S)
    session.observe([(2, 1)])
    session.behind(NODE)

    assert ((VectorEntry(2, 1),), 1) == (session.vector(), session.resets)
