"""Requests and replies over ZeroMQ: the only module that opens sockets between our processes.

`ZmqTransport` is what a client calls with; `Server` is what a process answers with. Both carry the messages of
`common.wire`, one frame each way. What to do after a failed attempt is not decided here but in `facade.routing`.
"""

import asyncio
import contextlib
import time
from collections import defaultdict

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

from common import codec, origin, wire
from common.codec import Reply, Request
from common.errors import (
    DisconnectedError,
    FailedError,
    FatalError,
    InvalidMessageError,
    TimedOutError,
    UnreachableError,
)
from common.handling import Handler, answer
from common.transport import Transport, ask
from common.wire import Code, Failure

log = structlog.get_logger()

__all__ = ["IN_FLIGHT", "Handler", "Server", "Transport", "ZmqTransport", "answer", "ask"]

HANDSHAKE_MS = 2_000  # a peer that connects and then says nothing is cut
HEARTBEAT_MS = 1_000  # so that a host that vanished is noticed without traffic ...
HEARTBEAT_TIMEOUT_MS = 3_000  # ... after three missed beats
QUEUE_FRAMES = 1_000  # per peer and direction; over it ZeroMQ stops reading, and TCP slows the peer down
CONNECT_WAIT_S = 0.25  # for a first connection; on a LAN it takes below 5 ms
RECONNECT_MS, RECONNECT_MAX_MS = 50, 400  # soon at first, then gently: who is back is noticed within a heartbeat
CONNECT_MS = 500  # for one try; the system would wait for seconds after a packet was lost, and notice a heal as late
IDLE_S = 60.0  # after which a connection that nobody uses is closed
SOCKETS = 16_384  # of one process: 3 for each connection, one and its monitor's two ends
IN_FLIGHT = 1_024  # requests that a server works on at once: 64 threads of 16 facades
DRAIN_S = 5.0  # for what is in flight when a server is told to stop
DRAIN_FRAMES = 64  # read at one go, before other tasks of the event loop get their turn
LAST_REPLIES_S = 0.1  # before a server closes: libzmq drops a reply that arrives together with the end of a connection
LINGER_MS = 500  # for replies that are still in the socket of a server when it closes


class ZmqTransport:
    """REQ sockets, each lent to one call at a time, so there are as many per address as there were calls at once.

    Args:
        reconnect_ms: between two tries to connect, at first and at most.
        idle_s: without a call, after which a connection is closed; ten times in it somebody looks.
    """

    def __init__(
        self,
        *,
        reconnect_ms: tuple[int, int] = (RECONNECT_MS, RECONNECT_MAX_MS),
        idle_s: float = IDLE_S,
    ) -> None:
        self._reconnect_ms = reconnect_ms
        self._idle_s = idle_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS)
        self._idle: dict[str, list[_Connection]] = defaultdict(list)
        self._made: set[_Connection] = set()
        self._swept_s = time.monotonic()

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        self._sweep()
        frame, connection = codec.encode(request, origin.current()), self._borrow(address)
        try:
            return codec.decode_reply(connection.call(frame, timeout_s))
        except InvalidMessageError as error:
            raise FailedError(address, f"answered with an invalid frame: {error}") from error
        finally:
            self._idle[address].append(connection)

    def close(self) -> None:
        """Close all sockets; only after the threads that called have ended."""
        for connection in self._made:
            connection.close()
        self._context.term()

    def _borrow(self, address: str) -> "_Connection":
        """The one that was used last, or a new one; a list's pop and append are atomic, so no thread gets it twice."""
        with contextlib.suppress(IndexError):
            return self._idle[address].pop()
        try:
            connection = _Connection(self._context, address, self._reconnect_ms)
        except zmq.ZMQError as error:
            raise UnreachableError(address, f"no socket for it: {error.strerror}") from error
        self._made.add(connection)
        return connection

    def _sweep(self) -> None:
        """Take the news of the connections that nobody uses, and close those that nobody needs.

        News that nobody takes fills a queue, and then libzmq's one thread waits for room in it, for all sockets.
        """
        now_s = time.monotonic()
        if now_s - self._swept_s < self._idle_s / 10:
            return
        self._swept_s = now_s
        for connections in list(self._idle.values()):
            for _ in range(len(connections)):
                with contextlib.suppress(IndexError):  # another thread has borrowed it
                    connection = connections.pop(0)
                    if connection.rest(now_s - self._idle_s):
                        connections.append(connection)
                    else:
                        self._made.discard(connection)


class _Connection:
    """One REQ socket and its monitor, which tells at once when the peer goes away."""

    _UP = zmq.EVENT_HANDSHAKE_SUCCEEDED
    _DOWN = (
        zmq.EVENT_DISCONNECTED
        | zmq.EVENT_CONNECT_RETRIED
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    )

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, reconnect_ms: tuple[int, int]) -> None:
        self._address = address
        self._socket = _limited(context.socket(zmq.REQ), wire.REPLY_BYTES)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # never queue for a peer that is not there
        self._socket.setsockopt(zmq.REQ_RELAXED, 1)  # a request may follow one that was given up ...
        self._socket.setsockopt(zmq.REQ_CORRELATE, 1)  # ... and its late reply is dropped, not taken for ours
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, reconnect_ms[0])
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, reconnect_ms[1])
        self._monitor = self._socket.get_monitor_socket(self._UP | self._DOWN)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._used_s = time.monotonic()
        self._up: bool | None = None  # None: the first connection is still being made
        self._socket.connect(f"tcp://{address}")

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        """One round trip. Raises UnreachableError, DisconnectedError, TimedOutError or FailedError."""
        self._used_s = time.monotonic()
        ends = self._used_s + timeout_s
        self._drain_monitor()
        connected_ends = min(ends, time.monotonic() + CONNECT_WAIT_S)
        while self._up is None and self._monitor.poll(_left_ms(connected_ends)):
            self._drain_monitor()
        if not self._up:
            raise UnreachableError(self._address, "no connection")
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again as error:
            raise UnreachableError(self._address, "no connection takes a request") from error
        return self._await_reply(ends, timeout_s)

    def rest(self, since_s: float) -> bool:
        """Take the news; whether the connection was used since then, else it is closed."""
        self._drain_monitor()
        if self._used_s < since_s:
            self.close()
            return False
        return True

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def _await_reply(self, ends: float, timeout_s: float) -> bytes:
        while ready := dict(self._poller.poll(_left_ms(ends))):
            broke = self._monitor in ready and self._drain_monitor()
            if (frame := self._receive()) is not None:
                return frame
            if broke:
                raise DisconnectedError(self._address, "the connection broke before the reply")
        raise TimedOutError(self._address, f"no reply in {timeout_s:.3g} s")

    def _receive(self) -> bytes | None:
        """The reply, if it is there; libzmq drops one that belongs to an earlier request."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        if len(frames) != 1:
            raise FailedError(self._address, f"answered with {len(frames)} frames where one belongs")
        return frames[0]

    def _drain_monitor(self) -> bool:
        """Take the news of the connection; whether it broke meanwhile, even if there is a new one already."""
        broke = False
        while _readable(self._monitor):
            self._up = recv_monitor_message(self._monitor)["event"] == self._UP
            broke = broke or not self._up
        return broke


class Server:
    """A ROUTER socket in an asyncio loop: one task per request, exactly one reply to each.

    Args:
        address: host:port to bind.
        handler: answers one valid request; what it raises becomes a Failure.
        in_flight: most requests at once; one more is answered OVERLOADED at once.

    Raises:
        FatalError: the address cannot be bound.
    """

    def __init__(self, address: str, handler: Handler, *, in_flight: int = IN_FLIGHT) -> None:
        self._handler = handler
        self._stopping = False
        self._in_flight = in_flight
        self._tasks: set[asyncio.Task[None]] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = _limited(self._context.socket(zmq.ROUTER), wire.REQUEST_BYTES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        try:
            self._socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            taken = error.errno == zmq.EADDRINUSE
            raise FatalError(
                f"cannot listen at {address}: {'the port is taken' if taken else error.strerror}"
            ) from error

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set, then finish what is in flight, for at most DRAIN_S, and close."""
        loop = asyncio.get_running_loop()
        descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.add_reader(descriptor, self._drain)
        self._drain()
        try:
            await stop.wait()
        finally:
            loop.remove_reader(descriptor)
            self._stopping = True
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=DRAIN_S)
            await asyncio.sleep(LAST_REPLIES_S)
            self._socket.close()
            self._context.term()

    def _drain(self) -> None:
        """Take what has arrived. The descriptor is edge-triggered, so this also runs after each send."""
        for _ in range(DRAIN_FRAMES):
            if self._stopping or not _readable(self._socket):
                return
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            end = frames.index(b"") + 1 if b"" in frames else 1  # the envelope of a REQ ends with an empty frame
            self._accept(frames[:end], frames[end:])
        asyncio.get_running_loop().call_soon(self._drain)

    def _accept(self, envelope: list[bytes], body: list[bytes]) -> None:
        if len(self._tasks) >= self._in_flight:
            self._send(envelope, Failure(code=Code.OVERLOADED, reason=f"{self._in_flight} requests are in flight"))
            return
        task = asyncio.get_running_loop().create_task(self._answer(envelope, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, envelope: list[bytes], body: list[bytes]) -> None:
        self._send(envelope, await answer(self._handler, body[0] if len(body) == 1 else b""))
        self._drain()

    def _send(self, envelope: list[bytes], reply: Reply) -> None:
        try:
            self._socket.send_multipart([*envelope, codec.encode(reply)], zmq.NOBLOCK)
        except zmq.ZMQError as error:  # the peer left, or does not read: its request will be sent again elsewhere
            log.warning("reply dropped", reason=error.strerror)


def _limited(socket: "zmq.Socket[bytes]", frame_bytes: int) -> "zmq.Socket[bytes]":
    """The options that every socket has, on either side."""
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes)  # libzmq closes the connection of who announces more
    socket.setsockopt(zmq.SNDHWM, QUEUE_FRAMES)
    socket.setsockopt(zmq.RCVHWM, QUEUE_FRAMES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    return socket


def _readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message can be received now."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _left_ms(ends: float) -> int:
    """Milliseconds until `ends` on the monotonic clock, rounded up, so that a wait is never a busy loop."""
    return max(0, int((ends - time.monotonic()) * 1_000) + 1)
