"""Fixtures of the tests of the facade."""

import pytest
from falcon import testing

from tests.support.facade import MemorySystem


@pytest.fixture
def system() -> MemorySystem:
    """A whole system in memory."""
    return MemorySystem()


@pytest.fixture
def http(system: MemorySystem) -> testing.TestClient:
    """An HTTP client of a facade in front of it."""
    return system.http()
