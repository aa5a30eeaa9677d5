"""Tests of common.rpc.zmq.listener: the limits of a server on connections and on the requests of one peer."""

import contextlib
import socket

import zmq

from common.hostport import split
from common.protocol import codec
from common.protocol.messages import Code, Failure, Lookup, Ping, Status
from common.rpc.pooled import PooledTransport
from tests.bench.hostile import GREETING, READY
from tests.support.servers import handle, reply_or_none, serving
from tests.support.waiting import eventually


def test_the_concurrent_requests_of_one_peer_are_limited(transport: PooledTransport) -> None:
    """A peer with too many requests is refused at once, and other peers are answered."""
    with serving(handle, peer_in_flight=4) as address, zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.linger = 0
        greedy.connect(f"tcp://{address}")
        hang = codec.encode(Lookup(name="hang"))
        for _ in range(6):
            greedy.send_multipart([b"", hang])
        refused = [codec.decode_reply(greedy.recv_multipart()[1]) for _ in range(2) if greedy.poll(5_000)]

        assert [Code.OVERLOADED] * 2 == [one.code for one in refused if isinstance(one, Failure)]
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)


def test_connections_over_the_limit_are_closed(transport: PooledTransport) -> None:
    """The existing connections stay open, and new ones are accepted once some of them are closed."""

    def closed(connection: socket.socket) -> bool:
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1_000):
                pass
        return True

    with serving(handle, connections=8) as address, contextlib.ExitStack() as held:
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)
        strangers = [held.enter_context(socket.create_connection(split(address), timeout=2.0)) for _ in range(7)]
        for stranger in strangers:
            stranger.sendall(GREETING + READY)
            stranger.recv(64)
        assert closed(held.enter_context(socket.create_connection(split(address), timeout=2.0)))
        assert isinstance(transport.call(address, Ping(), timeout_s=2.0), Status)
        for stranger in strangers:
            stranger.close()
        other = PooledTransport()
        held.callback(other.close)
        assert eventually(lambda: isinstance(reply_or_none(other, address), Status))
