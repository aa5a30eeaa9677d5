"""The limit on open file descriptors of this process, and shutting down a connection by its descriptor number."""

import contextlib
import resource
import socket

import structlog

log = structlog.get_logger()

# The requested limit: 4,096 connections of a server, three descriptors for each outgoing connection, 2,048 connections
# of clients, and files.
WANTED = 16_384
RESERVED = 1_024  # descriptors for files and for connections to other processes, which take three each


def allow() -> None:
    """Raise the limit on open descriptors to WANTED, or as far as the system allows; shells start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < WANTED:
        log.warning("few descriptors are allowed: connections may be refused", allowed=wanted, wanted=WANTED)


def for_clients(wanted: int) -> int:
    """The number of client connections that fit into the limit on descriptors, at most `wanted`; log when it is less.

    With more, accepting a connection would fail, and the pending connection would keep the accept loop busy.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = allowed - min(RESERVED, allowed // 2)
    if allowed == resource.RLIM_INFINITY or wanted <= room:
        return wanted
    log.warning("fewer connections are taken: the system allows few descriptors", taken=room, limit=wanted)
    return room


def shut_down(descriptor: int, port: int) -> None:
    """Shut down a connection to a local port by its descriptor, which a library owns; the library notices that.

    If the library has closed it already and the number was reused, this shuts down another connection to the same port,
    or nothing.
    """
    with contextlib.suppress(OSError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            if borrowed.getsockname()[1:2] == (port,):  # the address of a Unix socket is a text
                borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()
