"""What the sockets of both sides have in common."""

import zmq

HANDSHAKE_MS = 2_000  # a peer that connects and then says nothing is cut
HEARTBEAT_MS = 1_000  # so that a host that vanished is noticed without traffic ...
HEARTBEAT_TIMEOUT_MS = 3_000  # ... after three missed beats
QUEUE_FRAMES = 1_000  # per peer and direction; over it ZeroMQ stops reading, and TCP slows the peer down


def limited(socket: "zmq.Socket[bytes]", frame_bytes: int) -> "zmq.Socket[bytes]":
    """The options that every socket has, on either side."""
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes)  # libzmq closes the connection of who announces more
    socket.setsockopt(zmq.SNDHWM, QUEUE_FRAMES)
    socket.setsockopt(zmq.RCVHWM, QUEUE_FRAMES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    return socket


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message can be received now."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)
