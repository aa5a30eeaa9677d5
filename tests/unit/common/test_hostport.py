"""Tests of common.hostport."""

import socket

import pytest

from common import hostport


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:5000", "127.0.0.1", 5_000), ("node-1.example:80", "node-1.example", 80), ("[::1]:5000", "::1", 5_000)],
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    """Splitting and joining are inverse; only an IPv6 address has brackets."""
    assert hostport.ADDRESS.fullmatch(address)
    assert (host, port) == hostport.split(address)
    assert address == hostport.join(host, port)
    assert (socket.AF_INET6 if ":" in host else socket.AF_INET) is hostport.family(host)


@pytest.mark.parametrize("wrong", ["::1:5000", "[::1]", "host", "host:0", "[host]:1", "a b:1", "host:123456"])
def test_other_texts_are_no_addresses(wrong: str) -> None:
    """An IPv6 address needs its brackets, and a port is a number from 1 on."""
    assert not hostport.ADDRESS.fullmatch(wrong)


@pytest.mark.parametrize(("host", "expected"), [("logs.example", True), ("192.0.2.7", False), ("::1", False)])
def test_a_host_is_a_name_or_an_ip_address(host: str, expected: bool) -> None:
    """Both may be listened at."""
    assert expected is hostport.is_name(host)
