"""Addresses of listeners as text: host:port, with brackets around an IPv6 address."""

import ipaddress
import re
import socket
from typing import Annotated

from msgspec import Meta

HIGHEST_PORT = 65_535
EVERYWHERE = ("0.0.0.0", "*", "::")  # hosts to listen on, to which nobody can connect
ADDRESS = re.compile(r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{0,4})$")
Address = Annotated[str, Meta(pattern=ADDRESS.pattern, max_length=64)]  # host:port
Addresses = Annotated[tuple[Address, ...], Meta(min_length=1, max_length=100)]
HostName = Annotated[  # as in a Host header, without port
    str, Meta(pattern=r"^(\*|[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])$")
]
HostNames = Annotated[tuple[HostName, ...], Meta(max_length=100)]
Origin = Annotated[  # of a web page
    str, Meta(pattern=r"^https?://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?$")
]
Origins = Annotated[tuple[Origin, ...], Meta(max_length=100)]


def split(address: str) -> tuple[str, int]:
    """The host and the port of a `host:port`; the brackets of an IPv6 address are removed."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join(host: str, port: int) -> str:
    """The `host:port` of a host and a port."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def family(host: str) -> socket.AddressFamily:
    """The address family of a host; that of IPv4 for names."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def is_name(host: str) -> bool:
    """True unless a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
