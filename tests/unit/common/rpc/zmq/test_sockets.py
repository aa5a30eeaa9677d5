"""Tests of common.rpc.zmq.sockets: what the shared options do on real sockets."""

from collections.abc import Iterator

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from common.rpc.zmq.sockets import DOWN, UP, limited, new_context, prepare_client, readable
from scripts.launcher.ports import free_addresses

FRAME_BYTES = 100  # limit of the server
RECONNECT_MS = (20, 200)
WAIT_MS = 5_000


class SocketPair:
    """A server and a client of it, both with the options of our processes.

    Args:
        context: of both sockets.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.server = limited(context.socket(zmq.ROUTER), FRAME_BYTES)
        self.server.linger = 0
        self.server.bind("tcp://127.0.0.1:*")
        self.client = limited(context.socket(zmq.DEALER), FRAME_BYTES)
        prepare_client(self.client, RECONNECT_MS)
        self.monitor = self.client.get_monitor_socket(UP | DOWN)

    def connect(self) -> None:
        """Connect the client, and return when the handshake has succeeded."""
        self.client.connect(self.server.getsockopt_string(zmq.LAST_ENDPOINT))
        assert UP == self.next_event()

    def next_event(self) -> int:
        """The next event of the client's connection."""
        assert self.monitor.poll(WAIT_MS)
        return int(recv_monitor_message(self.monitor)["event"])

    def close(self) -> None:
        """Close all sockets."""
        self.client.disable_monitor()
        for socket in (self.monitor, self.client, self.server):
            socket.close(linger=0)


@pytest.fixture
def pair() -> Iterator[SocketPair]:
    """A server and a client that has not connected yet."""
    with new_context() as context:
        made = SocketPair(context)
        yield made
        made.close()


def test_a_client_without_a_connection_queues_nothing(pair: SocketPair) -> None:
    """While no server accepts, the caller learns at once that nothing was sent, and may ask another server."""
    (nowhere,) = free_addresses(1)
    pair.client.connect(f"tcp://{nowhere}")
    with pytest.raises(zmq.Again):
        pair.client.send(b"request", zmq.NOBLOCK)


def test_a_socket_is_readable_while_it_has_a_message(pair: SocketPair) -> None:
    """Before a message arrives and after the last one was received, there is nothing to receive."""
    pair.connect()
    assert not readable(pair.server)
    pair.client.send(b"request")
    assert pair.server.poll(WAIT_MS)
    assert readable(pair.server)
    pair.server.recv_multipart()
    assert not readable(pair.server)


def test_a_peer_that_sends_a_frame_over_the_limit_is_disconnected(pair: SocketPair) -> None:
    """A frame at the limit is received, and a larger one ends the connection, before memory is allocated for it."""
    pair.connect()
    pair.client.send(bytes(FRAME_BYTES))
    assert bytes(FRAME_BYTES) == pair.server.recv_multipart()[-1]
    pair.client.send(bytes(FRAME_BYTES + 1))

    assert zmq.EVENT_DISCONNECTED == pair.next_event()
    assert not readable(pair.server)
