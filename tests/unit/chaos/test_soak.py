"""Tests of tests.chaos.soak."""

from tests.chaos.soak import SoakPlan


def test_the_load_of_a_soak_is_limited() -> None:
    """All writers together have one rate, and everything is read each minute, or ten times in a short soak."""
    hour, short = SoakPlan(60.0, 1, 30.0, 100.0).load, SoakPlan(0.5, 1, 30.0, 50.0).load

    assert (100.0, 60.0) == (hour.writers / hour.write_every_s, hour.read_pause_s)
    assert (50.0, 3.0) == (short.writers / short.write_every_s, short.read_pause_s)
    assert not hour.curl
