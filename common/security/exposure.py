"""Who reaches an address. Pure."""

import ipaddress

from common.config import EVERYWHERE, split


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a host:port."""
    host = split(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def is_public(address: str) -> bool:
    """Whether the whole internet may reach a host:port; of a name it is not known, so it is told as if."""
    host = split(address)[0]
    if host in EVERYWHERE:
        return True
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return host != "localhost"


def of_server(address: str, *, keys: bool) -> tuple[str, ...]:
    """What an operator should know of a registry or a node that listens at host:port."""
    if keys or is_loopback(address):
        return ()
    return (f"whoever reaches {address} is answered: [security] keys is not set",)


def of_member(address: str) -> tuple[str, ...]:
    """What an operator should know of a Hazelcast member that listens at host:port."""
    if not is_public(address):
        return ()
    return (f"the Hazelcast member at {address} has neither TLS nor authentication: see docs/security.md",)


def of_facade(address: str, *, tokens: bool) -> tuple[str, ...]:
    """What an operator should know of a facade that listens at host:port."""
    if tokens or is_loopback(address):
        return ()
    return (f"everybody who reaches {address} may read and write: [security] tokens is not set",)
