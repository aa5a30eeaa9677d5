"""The side that asks."""

import contextlib
import threading
import time
from collections import defaultdict

import zmq
from zmq.utils.monitor import recv_monitor_message

from common import codec, wire
from common.codec import Reply, Request
from common.errors import DisconnectedError, FailedError, InvalidMessageError, TimedOutError, UnreachableError
from common.rpc.sockets import limited, readable

CONNECT_WAIT_S = 0.25  # for a first connection; on a LAN it takes below 5 ms
RECONNECT_MS, RECONNECT_MAX_MS = 50, 400  # soon at first, then gently: who is back is noticed within a heartbeat
CONNECT_MS = 500  # for one try; the system would wait for seconds after a packet was lost, and notice a heal as late
SWEEP_S = 5.0  # between two looks at connections that nobody uses
IDLE_S = 60.0  # then one is closed
SOCKETS = 16_384  # of one process: 3 for each connection, one and its monitor's two ends


class ZmqTransport:
    """REQ sockets, each lent to one call at a time, so there are as many per address as there were calls at once.

    Args:
        reconnect_ms: between two tries to connect, at first and at most.
        sweep_s: between two looks at the connections that nobody uses.
        idle_s: without a call, after which a connection is closed.
    """

    def __init__(
        self,
        *,
        reconnect_ms: tuple[int, int] = (RECONNECT_MS, RECONNECT_MAX_MS),
        sweep_s: float = SWEEP_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._reconnect_ms = reconnect_ms
        self._sweep_s = sweep_s
        self._idle_s = idle_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS)
        self._idle: dict[str, list[_Connection]] = defaultdict(list)
        self._made: set[_Connection] = set()
        self._sweeping = threading.Lock()
        self._swept_s = time.monotonic()

    def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """See Transport."""
        self._sweep()
        frame, connection = codec.encode(request), self._borrow(address)
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
        if now_s - self._swept_s < self._sweep_s or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._swept_s = now_s
            for connections in list(self._idle.values()):
                for _ in range(len(connections)):
                    with contextlib.suppress(IndexError):  # another thread has borrowed it
                        connection = connections.pop(0)
                        if connection.rest(now_s - self._idle_s):
                            connections.append(connection)
                        else:
                            self._made.discard(connection)
        finally:
            self._sweeping.release()


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
        self._socket = limited(context.socket(zmq.REQ), wire.REPLY_BYTES)
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
        while readable(self._monitor):
            self._up = recv_monitor_message(self._monitor)["event"] == self._UP
            broke = broke or not self._up
        return broke


def _left_ms(ends: float) -> int:
    """Milliseconds until `ends` on the monotonic clock, rounded up, so that a wait is never a busy loop."""
    return max(0, int((ends - time.monotonic()) * 1_000) + 1)
