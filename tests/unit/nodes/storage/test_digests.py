"""Tests of nodes.storage.digests."""

import pytest

from common import ids
from nodes.storage.digests import HOUR_MS, checksum, hour_of


@pytest.mark.parametrize(("after_ms", "hour"), [(0, 7), (HOUR_MS - 1, 7), (HOUR_MS, 8)])
def test_an_id_belongs_to_the_hour_in_which_it_was_made(after_ms: int, hour: int) -> None:
    """Counted from 1970."""
    assert hour == hour_of(ids.last_id(7 * HOUR_MS + after_ms))


def test_a_checksum_depends_on_id_and_text() -> None:
    """It is the same in every process: nodes compare it."""
    assert 0xCB29CCDB == checksum("id", "text")
    assert 3 == len({checksum("id", "text"), checksum("id", "texts"), checksum("it", "text")})
