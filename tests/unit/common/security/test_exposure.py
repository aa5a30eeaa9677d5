"""Tests of common.security.exposure: warnings about servers that others can reach."""

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
def test_a_reachable_server_without_authentication_is_warned_about(address: str, warned: bool) -> None:
    """The warning names the address and the missing setting: tokens of a facade, keys of a server."""
    facade, server = exposure.of_facade(address, tokens=False), exposure.of_server(address, keys=False)

    assert (int(warned), int(warned)) == (len(facade), len(server))
    assert all(address in one and "[security] tokens" in one for one in facade)
    assert all(address in one and "[security] keys" in one for one in server)


def test_a_server_with_authentication_is_not_warned_about() -> None:
    """With tokens or keys it may listen at any address."""
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
def test_a_hazelcast_member_at_a_public_address_is_warned_about(address: str, warned: bool) -> None:
    """Keys do not protect it: the community edition of Hazelcast has no encryption."""
    assert int(warned) == len(exposure.of_member(address))
