"""Warnings about addresses that others can reach without authentication. Pure functions."""

import ipaddress

from common.hostport import EVERYWHERE, split


def is_loopback(address: str) -> bool:
    """True if only this machine can reach a host:port."""
    host = split(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name
        return host == "localhost"


def is_public(address: str) -> bool:
    """True if the internet may reach a host:port; also true for host names, because they are not resolved."""
    host = split(address)[0]
    if host in EVERYWHERE:
        return True
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host != "localhost"


def of_server(address: str, *, keys: bool) -> tuple[str, ...]:
    """Warnings about a registry or a node that listens at host:port; `keys`: whether it has CURVE keys."""
    if keys or is_loopback(address):
        return ()
    return (f"everybody who reaches {address} gets answers: [security] keys is not set",)


def of_member(address: str) -> tuple[str, ...]:
    """Warnings about a Hazelcast member that listens at host:port."""
    if not is_public(address):
        return ()
    return (f"the Hazelcast member at {address} has neither TLS nor authentication: see docs/hardening.md",)


def of_facade(address: str, *, tokens: bool) -> tuple[str, ...]:
    """Warnings about a facade that listens at host:port; `tokens`: whether it checks tokens."""
    if tokens or is_loopback(address):
        return ()
    return (f"everybody who reaches {address} may read and write: [security] tokens is not set",)
