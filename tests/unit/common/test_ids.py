"""Tests of common.ids."""

import time
import uuid

from common import ids


def test_ids_are_version_7_and_their_order_is_the_order_of_making() -> None:
    """Ten thousand ids made one after the other are strictly increasing canonical UUIDs of version 7."""
    made = [ids.new_id() for _ in range(10_000)]

    assert sorted(set(made)) == made
    assert {7} == {uuid.UUID(one).version for one in made}
    assert made == [str(uuid.UUID(one)) for one in made]


def test_the_time_of_an_id_is_when_it_was_made() -> None:
    """It lies between the times before and after."""
    before = time.time_ns() // 1_000_000
    made = ids.new_id()

    assert before <= ids.time_ms(made) <= time.time_ns() // 1_000_000


def test_last_id_is_above_all_ids_of_its_millisecond_and_below_the_next() -> None:
    """The last id of a millisecond separates one window of time from the next one."""
    bound = ids.last_id(1_700_000_000_123)

    assert 1_700_000_000_123 == ids.time_ms(bound)
    assert "018bcfe5-687b-7fff-bfff-ffffffffffff" < bound < "018bcfe5-687c-7000-8000-000000000000"
