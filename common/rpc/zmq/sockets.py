"""Options and events that all ZeroMQ sockets between our processes share."""

import zmq

LIBZMQ = zmq.zmq_version()
_POLLIN = int(zmq.POLLIN)  # a plain number: `&` with the enumeration takes longer than getsockopt
HANDSHAKE_MS = 2_000  # a peer that connects and then says nothing is disconnected
HEARTBEAT_MS = 1_000  # so that a host that vanished is noticed without traffic ...
HEARTBEAT_TIMEOUT_MS = 3_000  # ... after three missed heartbeats
PEER_IN_FLIGHT = 64  # requests of one connection: a facade asks once in each turn of its loop
CONNECT_MS = 500  # for one try; the system would wait for seconds after a packet was lost, and notice a heal as late
SOCKETS = 16_384  # of one process: 3 for each connection, one and its monitor's two ends

HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
GIVEN_UP = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH)  # libzmq does not try again
UP = zmq.EVENT_HANDSHAKE_SUCCEEDED  # what the monitor of a client reports
DOWN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | HANDSHAKE_FAILED


def new_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """For the connections of one process; threads may share it, and a connection may not be shared."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS)
    return context


def prepare_client(socket: "zmq.Socket[bytes]", reconnect_ms: tuple[int, int]) -> None:
    """The options that every socket of a client has; `reconnect_ms` as in Connection."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # never queue for a peer that is not there
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, reconnect_ms[0])
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, reconnect_ms[1])


def limited(socket: "zmq.Socket[bytes]", frame_bytes: int, *, queued: int = PEER_IN_FLIGHT) -> "zmq.Socket[bytes]":
    """The options that every socket has, on either side; `queued` messages wait for a peer."""
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes)  # libzmq closes the connection of who announces more
    socket.setsockopt(zmq.SNDHWM, 2 * queued + 1)  # over it a reply is dropped; libzmq counts up to half of it too late
    socket.setsockopt(zmq.RCVHWM, queued)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    return socket


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message can be received now."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & _POLLIN)
