"""The files and sockets that this process may have open, and those of a library that are ended by their number."""

import contextlib
import resource
import socket

import structlog

log = structlog.get_logger()

WANTED = 16_384  # 4,096 connections of a server, three for each that it asks through, 2,048 of clients, files
KEPT = 1_024  # of these, for files and for connections to other processes, three for each


def allow() -> None:
    """Let this process open as many as the system allows it to: shells begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < WANTED:
        log.warning("few descriptors are allowed: connections may be refused", allowed=wanted, wanted=WANTED)


def for_clients(wanted: int) -> int:
    """As many of the connections that are wanted as there is room for, told when that is less.

    One more could not be taken, and who waits for it would keep the loop that takes them busy.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = allowed - min(KEPT, allowed // 2)
    if allowed == resource.RLIM_INFINITY or wanted <= room:
        return wanted
    log.warning("fewer connections are taken: the system allows few descriptors", taken=room, limit=wanted)
    return room


def shut_down(descriptor: int, port: int) -> None:
    """End a connection to a port of ours that a library has; it notices.

    If it is gone already and its number is that of something else, this ends another connection to that port, or none.
    """
    with contextlib.suppress(OSError):
        borrowed = socket.socket(fileno=descriptor)
        try:
            if borrowed.getsockname()[1:2] == (port,):  # that of a Unix socket is a text
                borrowed.shutdown(socket.SHUT_RDWR)
        finally:
            borrowed.detach()
