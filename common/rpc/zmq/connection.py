"""A REQ socket to one server, for blocking calls."""

import contextlib
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from common.errors import DisconnectedError, FailedError, TimedOutError, UnreachableError
from common.protocol import messages
from common.rpc.transport import left_ms
from common.rpc.zmq import curve
from common.rpc.zmq.sockets import DOWN, HANDSHAKE_REFUSED, UP, endpoint, limited, prepare_client, readable
from common.security.keyring import Keyring

CONNECT_WAIT_S = 0.25  # wait for the first connection; on a LAN it takes less than 5 ms


class Connection:
    """A REQ socket and its monitor, which reports at once that the connection is lost. Not thread-safe.

    Args:
        context: the context of the process.
        address: host:port of the server.
        reconnect_ms: the first and the longest interval between two attempts to connect.
        keyring: the keys of this process; None: not encrypted.
        server_key: the public key of the server; None without a keyring.

    Attributes:
        used_s: when the last call began, on the monotonic clock.
        handshake_refused: True after the server refused it: libzmq does not reconnect, so a new Connection is needed.

    Raises:
        UnreachableError: the address is invalid, or there are too many sockets.
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
        self.handshake_refused = False
        self._up: bool | None = None  # None: the first connection is still being made
        try:
            with contextlib.ExitStack() as undo:
                self._socket = limited(context.socket(zmq.REQ), messages.REPLY_BYTES)
                undo.callback(self._socket.close, linger=0)
                prepare_client(self._socket, reconnect_ms)
                self._socket.setsockopt(zmq.REQ_RELAXED, 1)  # a request may follow one without a reply ...
                self._socket.setsockopt(zmq.REQ_CORRELATE, 1)  # ... whose late reply is dropped
                if keyring and server_key:
                    curve.encrypt_client(self._socket, keyring, server_key)
                self._monitor = self._socket.get_monitor_socket(UP | DOWN)
                undo.callback(self._monitor.close, linger=0)
                self._socket.connect(endpoint(self._socket, address))
                undo.pop_all()
        except zmq.ZMQError as error:
            raise UnreachableError(address, f"no connection can be made: {error.strerror}") from error
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def call(self, frame: bytes, timeout_s: float) -> bytes:
        """Send a request frame and return the frame of the reply.

        Raises:
            UnreachableError: nothing was sent.
            DisconnectedError, TimedOutError, FailedError: it was sent, and there is no valid reply.
        """
        self.used_s = time.monotonic()
        ends_s = self.used_s + timeout_s
        self.take_events()
        connected_ends_s = min(ends_s, time.monotonic() + CONNECT_WAIT_S)
        while self._up is None and self._monitor.poll(left_ms(connected_ends_s)):
            self.take_events()
        if not self._up:
            raise UnreachableError(self._address, "no connection")
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again as error:
            raise UnreachableError(self._address, "no connection accepts a request") from error
        return self._await_reply(ends_s, timeout_s)

    def close(self) -> None:
        """Close the socket without waiting; a request without a reply is dropped."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close()

    def _await_reply(self, ends_s: float, timeout_s: float) -> bytes:
        while ready := dict(self._poller.poll(left_ms(ends_s))):
            lost = self._monitor in ready and self.take_events()
            if (frame := self._receive()) is not None:
                return frame
            if lost:
                raise DisconnectedError(self._address, "the connection broke before the reply")
        raise TimedOutError(self._address, f"no reply in {timeout_s:.3g} s")

    def _receive(self) -> bytes | None:
        """The frame of the reply if it has arrived, else None; libzmq drops replies to earlier requests."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        if len(frames) != 1:
            raise FailedError(self._address, f"answered with {len(frames)} frames instead of one")
        return frames[0]

    def take_events(self) -> bool:
        """Read the monitor events; True if the connection was lost since the last call, even if there is a new one."""
        lost = False
        while readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            self._up = event == UP
            lost = lost or not self._up
            self.handshake_refused = self.handshake_refused or event in HANDSHAKE_REFUSED
        return lost
