"""Tests of common.exposure: who is warned of what."""

import pytest

from common.security import exposure


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("127.0.0.1:5000", False),
        ("localhost:5000", False),
        ("127.8.8.8:5000", False),
        ("0.0.0.0:5000", True),
        ("10.0.0.1:5000", True),
        ("facade.example:5000", True),
    ],
)
def test_what_others_reach_without_a_guard_is_told(address: str, warned: bool) -> None:
    """A facade without tokens, a server without keys: a sentence with the address and what is missing."""
    facade, server = exposure.of_facade(address, tokens=False), exposure.of_server(address, keys=False)

    assert (int(warned), int(warned)) == (len(facade), len(server))
    assert all(address in one and "[security] tokens" in one for one in facade)
    assert all(address in one and "[security] keys" in one for one in server)


def test_who_has_a_guard_is_not_warned() -> None:
    """With tokens, and with keys, it may listen anywhere."""
    assert () == exposure.of_facade("0.0.0.0:5000", tokens=True)
    assert () == exposure.of_server("0.0.0.0:5002", keys=True)


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("127.0.0.1:5701", False),
        ("10.0.0.1:5701", False),
        ("localhost:5701", False),
        ("8.8.8.8:5701", True),
        ("0.0.0.0:5701", True),
        ("db.example:5701", True),
    ],
)
def test_a_member_at_a_public_address_is_told(address: str, warned: bool) -> None:
    """Keys do not help it: Hazelcast's community edition has none."""
    assert int(warned) == len(exposure.of_member(address))
