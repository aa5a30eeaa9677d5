"""Fixtures of the tests of streams."""

import pytest

from facade.streams.subscriptions import Subscriptions
from tests.support.facade import MemorySystem


@pytest.fixture
def subscriptions(system: MemorySystem) -> Subscriptions:
    """The subscriptions of a facade."""
    return Subscriptions(system.scheduler, system.client, retry_s=0.005)
