"""The ROUTER socket of a server: it receives requests, sends replies, and counts refused connections."""

import structlog
import zmq
from zmq.utils.monitor import recv_monitor_message

from common import descriptors
from common.errors import FatalError
from common.protocol import messages
from common.rpc.handler import IncomingRequest
from common.rpc.zmq import curve
from common.rpc.zmq.sockets import HANDSHAKE_FAILED, PEER_IN_FLIGHT, endpoint, limited, readable
from common.security.keyring import Keyring

log = structlog.get_logger()

CONNECTIONS = 4_096  # open connections of a server; each facade and node has one, a script one for each thread
LINGER_MS = 500  # time to send the replies that are queued in the socket when a server closes

REFUSALS: dict[int, str] = {  # reasons, by the event or protocol error of libzmq; any other is GARBAGE
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "unknown key",
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "no key",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "another key of this server",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "no handshake",
}
GARBAGE, SURPLUS = "not ZeroMQ", "too many connections"


class Listener:
    """A bound ROUTER socket and the monitor of its connections.

    Args:
        address: host:port to bind.
        keyring: the keys that are admitted; None: no authentication.
        connections: limit on open connections; one more is closed as soon as it is accepted.
        queued: limit on the queued messages of one connection, in each direction.

    Attributes:
        refused: the number of refused connections by reason.

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
        self._socket = limited(self._context.socket(zmq.ROUTER), messages.REQUEST_BYTES, queued=queued)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        if keyring:
            curve.encrypt_server(self._socket, keyring)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED)
        try:
            self._socket.bind(endpoint(self._socket, address))
        except zmq.ZMQError as error:
            self.close()
            reason = "the port is taken" if error.errno == zmq.EADDRINUSE else error.strerror
            raise FatalError(f"cannot listen at {address}: {reason}") from error
        self._port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    @property
    def descriptors(self) -> tuple[int, int]:
        """The descriptors of requests and of monitor events; edge-triggered, so all must be read each time."""
        return int(self._socket.getsockopt(zmq.FD)), int(self._monitor.getsockopt(zmq.FD))

    def receive(self) -> IncomingRequest | None:
        """The next request that has arrived; None if there is none."""
        if not readable(self._socket):  # takes a third of the time of a failed receive
            return None
        if self._keyring is None:
            frames, caller = self._socket.recv_multipart(zmq.NOBLOCK), None
        else:
            parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            frames = [frame.bytes for frame in parts]
            caller = self._keyring.name_of(str(parts[-1].get("User-Id"))) or ""
        end = frames.index(b"") + 1 if b"" in frames else 1  # the envelope of a REQ ends with an empty frame
        return IncomingRequest(frames[:end], frames[end:], caller)

    def send(self, envelope: list[bytes], frame: bytes) -> None:
        """Send a reply, without waiting; drop it if the peer does not receive: its request times out then."""
        try:
            self._socket.send_multipart([*envelope, frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.warning("reply dropped", reason=error.strerror)

    def take_events(self) -> None:
        """Read the monitor events: count open and refused connections, and close those over the limit."""
        while readable(self._monitor):
            message = recv_monitor_message(self._monitor)
            match message["event"]:
                case zmq.EVENT_ACCEPTED:
                    self._open += 1
                    if self._open > self._connections:
                        self.refused[SURPLUS] += 1
                        descriptors.shut_down(message["value"], self._port)
                case zmq.EVENT_DISCONNECTED:
                    self._open -= 1
                case event:
                    reason = message["value"] if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL else event
                    self.refused[REFUSALS.get(reason, GARBAGE)] += 1

    def close(self) -> None:
        """Send the queued replies, for at most LINGER_MS, and close."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()
        if self._admission:
            self._admission.stop()
        self._context.term()
