"""Options and monitor events that all ZeroMQ sockets of our processes share."""

import zmq

LIBZMQ = zmq.zmq_version()
_POLLIN = int(zmq.POLLIN)  # a plain int, because `&` with the enum is slower than getsockopt
HANDSHAKE_MS = 1_000  # a peer that does not finish the handshake is disconnected after once or twice this time
HEARTBEAT_MS = 1_000  # detects a lost host on an idle connection ...
HEARTBEAT_TIMEOUT_MS = 3_000  # ... after three missed heartbeats
PEER_IN_FLIGHT = 64  # unanswered requests of one connection; a facade sends one in each iteration of its loop
# Timeout of one attempt to connect. The system's own timeout after a lost packet is seconds long, which would delay the
# recovery from a network split.
CONNECT_MS = 500
SOCKETS = 16_384  # in one process; a connection takes 3: the socket and both ends of its monitor

HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
# libzmq does not reconnect after these events.
HANDSHAKE_REFUSED = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH)
UP = zmq.EVENT_HANDSHAKE_SUCCEEDED  # events that a client monitors
DOWN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | HANDSHAKE_FAILED


def new_context() -> "zmq.Context[zmq.Socket[bytes]]":
    """A context for the connections of one process; threads may share it, but not its sockets."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS)
    return context


def prepare_client(socket: "zmq.Socket[bytes]", reconnect_ms: tuple[int, int]) -> None:
    """Set the options of a client socket; `reconnect_ms` as in Connection."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IMMEDIATE, 1)  # never queue requests while there is no connection
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, reconnect_ms[0])
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, reconnect_ms[1])


def limited(socket: "zmq.Socket[bytes]", frame_bytes: int, *, queued: int = PEER_IN_FLIGHT) -> "zmq.Socket[bytes]":
    """Set the limits of any socket, and return it: bytes of a received frame, and `queued` messages for one peer."""
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes)  # libzmq disconnects a peer that announces a larger frame
    # Replies beyond SNDHWM are dropped. It is twice the limit, because libzmq's count lags by up to half of it.
    socket.setsockopt(zmq.SNDHWM, 2 * queued + 1)
    socket.setsockopt(zmq.RCVHWM, queued)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    return socket


def endpoint(socket: "zmq.Socket[bytes]", address: str) -> str:
    """The endpoint of a host:port, for `bind` and `connect`; allows the socket IPv6 if the host is such an address."""
    if address.startswith("["):
        socket.setsockopt(zmq.IPV6, 1)  # not for names: they would be resolved to IPv6 first
    return f"tcp://{address}"


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """True if a message can be received now."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & _POLLIN)
