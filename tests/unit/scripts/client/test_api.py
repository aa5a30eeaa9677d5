"""Tests of scripts.client.api."""

import pytest

from common.errors import FatalError
from scripts.client.api import Api, ApiError

NOWHERE = "00000000-0000-0000-0000-000000000000"


def test_following_ends_with_an_error_when_the_facade_stays_away() -> None:
    """After several attempts the reason of the last one is raised."""
    with pytest.raises(ApiError, match=r"127\.0\.0\.1:9: .*refused"):
        next(Api("127.0.0.1:9", pause_s=0.0).follow(NOWHERE))
    assert issubclass(ApiError, FatalError)
