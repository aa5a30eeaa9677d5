"""A REQ socket to one server, for a caller that blocks."""

import contextlib
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from common.errors import DisconnectedError, FailedError, TimedOutError, UnreachableError
from common.protocol import messages
from common.rpc.transport import left_ms
from common.rpc.zmq import curve
from common.rpc.zmq.sockets import DOWN, GIVEN_UP, UP, limited, prepare_client, readable
from common.security.keyring import Keyring

CONNECT_WAIT_S = 0.25  # for a first connection; on a LAN it takes below 5 ms


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
                self._socket = limited(context.socket(zmq.REQ), messages.REPLY_BYTES)
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
