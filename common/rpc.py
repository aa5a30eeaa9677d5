"""Requests and replies over ZeroMQ: the only module that opens sockets between our processes.

A `Connection` is what `common.pool` calls through; a `Listener` is what `common.serving` hears with. Both carry frames,
one each way; what is in them is made and read by `common.codec`.
"""

import contextlib
import time

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

from common import curve, descriptors, wire
from common.errors import DisconnectedError, FailedError, FatalError, TimedOutError, UnreachableError
from common.handling import Heard
from common.keyring import Keyring
from common.transport import Transport, ask, left_ms

log = structlog.get_logger()

__all__ = ["Connection", "Listener", "Transport", "ask", "new_context"]

LIBZMQ = zmq.zmq_version()
_POLLIN = int(zmq.POLLIN)  # a plain number: `&` with the enumeration takes longer than getsockopt
HANDSHAKE_MS = 2_000  # a peer that connects and then says nothing is cut
HEARTBEAT_MS = 1_000  # so that a host that vanished is noticed without traffic ...
HEARTBEAT_TIMEOUT_MS = 3_000  # ... after three missed beats
PEER_IN_FLIGHT = 64  # requests of one connection: a facade asks once in each turn of its loop
CONNECT_WAIT_S = 0.25  # for a first connection; on a LAN it takes below 5 ms
CONNECT_MS = 500  # for one try; the system would wait for seconds after a packet was lost, and notice a heal as late
SOCKETS = 16_384  # of one process: 3 for each connection, one and its monitor's two ends
CONNECTIONS = 4_096  # of a server; each facade and node has one, a script has one for each thread
LINGER_MS = 500  # for replies that are still in the socket of a server when it closes

REFUSALS: dict[int, str] = {  # of a connection, by the event or the error of the protocol; any other error is garbage
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "unknown key",
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "no key",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "another key of this server",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "no handshake",
}
GARBAGE, SURPLUS = "not ZeroMQ", "too many connections"
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
GIVEN_UP = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_AUTH)  # libzmq does not try again
UP = zmq.EVENT_HANDSHAKE_SUCCEEDED  # what the monitor of a client says
DOWN = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | _HANDSHAKE_FAILED


class Connection:
    """One REQ socket and its monitor, which tells at once when the peer goes away.

    It is made for a server at host:port, whose public key is given if there is a keyring; `reconnect_ms` are between
    two tries to connect, at first and at most. Raises UnreachableError when that is no address, or there are too many
    sockets. When its peer is none, or did not let it in, it is `given_up`: libzmq does not try again, a new one must.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        reconnect_ms: tuple[int, int],
        keyring: Keyring | None,
        server_key: str | None,
    ) -> None:
        self._address = address
        self.server_key = server_key
        self.used_s = time.monotonic()
        self.given_up = False
        self._up: bool | None = None  # None: the first connection is still being made
        try:
            with contextlib.ExitStack() as undo:
                self._socket = limited(context.socket(zmq.REQ), wire.REPLY_BYTES)
                undo.callback(self._socket.close, linger=0)
                prepare_client(self._socket, reconnect_ms)
                self._socket.setsockopt(zmq.REQ_RELAXED, 1)  # a request may follow one that was given up ...
                self._socket.setsockopt(zmq.REQ_CORRELATE, 1)  # ... and its late reply is dropped, not taken for ours
                if keyring and server_key:
                    curve.encrypt_client(self._socket, keyring, server_key)
                self._monitor = self._socket.get_monitor_socket(UP | DOWN)
                undo.callback(self._monitor.close, linger=0)
                self._socket.connect(f"tcp://{address}")
                undo.pop_all()
        except zmq.ZMQError as error:
            raise UnreachableError(address, f"no connection can be made: {error.strerror}") from error
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        """One round trip. Raises UnreachableError, DisconnectedError, TimedOutError or FailedError."""
        self.used_s = time.monotonic()
        ends = self.used_s + timeout_s
        self.take_events()
        connected_ends = min(ends, time.monotonic() + CONNECT_WAIT_S)
        while self._up is None and self._monitor.poll(left_ms(connected_ends)):
            self.take_events()
        if not self._up:
            raise UnreachableError(self._address, "no connection")
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again as error:
            raise UnreachableError(self._address, "no connection takes a request") from error
        return self._await_reply(ends, timeout_s)

    def close(self) -> None:
        """Drop what is under way."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def _await_reply(self, ends: float, timeout_s: float) -> bytes:
        while ready := dict(self._poller.poll(left_ms(ends))):
            broke = self._monitor in ready and self.take_events()
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

    def take_events(self) -> bool:
        """Take the news of the connection; whether it broke meanwhile, even if there is a new one already."""
        broke = False
        while readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            self._up = event == UP
            broke = broke or not self._up
            self.given_up = self.given_up or event in GIVEN_UP
        return broke


class Listener:
    """A bound ROUTER socket, and what happens to its connections.

    Args:
        address: host:port to bind.
        keyring: whose keys are admitted; None: everybody is.
        connections: most at once; one more is closed as soon as it is there.
        queued: messages of one connection that wait in either direction.

    Attributes:
        refused: connections that did not become one, by the reason.

    Raises:
        FatalError: the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        keyring: Keyring | None = None,
        *,
        connections: int = CONNECTIONS,
        queued: int = PEER_IN_FLIGHT,
    ) -> None:
        self.refused = dict.fromkeys([*REFUSALS.values(), GARBAGE, SURPLUS], 0)
        self._keyring = keyring
        self._connections = connections
        self._open = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._admission = curve.admission(self._context, keyring) if keyring else None
        self._socket = limited(self._context.socket(zmq.ROUTER), wire.REQUEST_BYTES, queued=queued)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        if keyring:
            curve.encrypt_server(self._socket, keyring)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _HANDSHAKE_FAILED)
        try:
            self._socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            self.close()
            reason = "the port is taken" if error.errno == zmq.EADDRINUSE else error.strerror
            raise FatalError(f"cannot listen at {address}: {reason}") from error
        self._port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    @property
    def descriptors(self) -> tuple[int, int]:
        """Of what comes, and of the news; edge-triggered: all must be taken each time."""
        return int(self._socket.getsockopt(zmq.FD)), int(self._monitor.getsockopt(zmq.FD))

    def receive(self) -> Heard | None:
        """What has come, if anything has."""
        if not readable(self._socket):  # a third of the cost of an attempt that fails
            return None
        if self._keyring is None:
            frames, caller = self._socket.recv_multipart(zmq.NOBLOCK), None
        else:
            whole = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            frames = [frame.bytes for frame in whole]
            caller = self._keyring.name_of(str(whole[-1].get("User-Id"))) or ""
        end = frames.index(b"") + 1 if b"" in frames else 1  # the envelope of a REQ ends with an empty frame
        return Heard(frames[:end], frames[end:], caller)

    def send(self, envelope: list[bytes], frame: bytes) -> None:
        """Answer; what a peer does not take is dropped, for it will ask elsewhere."""
        try:
            self._socket.send_multipart([*envelope, frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.warning("reply dropped", reason=error.strerror)

    def take_events(self) -> None:
        """Count connections and what was refused, and close those that are too many."""
        while readable(self._monitor):
            news = recv_monitor_message(self._monitor)
            match news["event"]:
                case zmq.EVENT_ACCEPTED:
                    self._open += 1
                    if self._open > self._connections:
                        self.refused[SURPLUS] += 1
                        descriptors.shut_down(news["value"], self._port)
                case zmq.EVENT_DISCONNECTED:
                    self._open -= 1
                case event:
                    why = news["value"] if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL else event
                    self.refused[REFUSALS.get(why, GARBAGE)] += 1

    def close(self) -> None:
        """Send what is to be sent, and close."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        if self._admission:
            self._admission.stop()
        self._context.term()


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
