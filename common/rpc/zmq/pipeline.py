"""A DEALER socket to one server, for requests that do not wait for earlier replies.

The socket belongs to the event loop of the process: asyncio's, or a facade's own (`facade.server.scheduler`). Each
request carries a number, which the server returns with the reply.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from common.errors import DisconnectedError, PeerError, TimedOutError, UnreachableError
from common.protocol import messages
from common.rpc.loop import Handle, Loop
from common.rpc.zmq import curve
from common.rpc.zmq.sockets import DOWN, HANDSHAKE_REFUSED, UP, endpoint, limited, prepare_client, readable
from common.security.keyring import Keyring

IN_FLIGHT = 64  # default limit on the unanswered requests of one connection
RECONNECT_MS, RECONNECT_MAX_MS = 20, 200  # a restarted server is reached within 0.2 s; at most 50 attempts a second
CONNECT_WAIT_S = 0.25  # longest wait of a request for the first connection
REFUSED_RECONNECT_S = 1.0  # pause before a new connection after the server refused the handshake

_NUMBER = struct.Struct(">I")

Watcher = Callable[[str, bool], None]


class Pipeline:
    """A DEALER socket; must be created and used in one loop.

    Args:
        loop, context: the event loop and the ZeroMQ context of the process.
        address: host:port of the server.
        keyring: the keys of this process and of the server; None: not encrypted.
        watch: called with (address, True) when the connection is established, with (address, False) when it is lost.
        reconnect: called with the address REFUSED_RECONNECT_S after the server refused the handshake.
        in_flight: limit on unanswered requests; one more is refused at once.

    Attributes:
        handshake_refused: True after the server refused it: libzmq does not reconnect, so a new Pipeline is needed.
        up: True while there is a connection; None until the first attempt to connect has ended.

    Raises:
        UnreachableError: the address is invalid, or there are too many sockets.
    """

    def __init__(
        self,
        loop: Loop,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        keyring: Keyring | None,
        *,
        watch: Watcher,
        reconnect: Callable[[str], None],
        in_flight: int,
    ) -> None:
        self._address = address
        self._watch = watch
        self._reconnect = reconnect
        self._in_flight = in_flight
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._unsent: dict[int, bytes] = {}
        self._loop = loop
        self._created_s = time.monotonic()
        self.server_key = keyring.key_of(address) if keyring else None
        self.handshake_refused = False
        self.up: bool | None = None
        try:
            with contextlib.ExitStack() as undo:
                self._socket = limited(context.socket(zmq.DEALER), messages.REPLY_BYTES, queued=in_flight)
                undo.callback(self._socket.close, linger=0)
                prepare_client(self._socket, (RECONNECT_MS, RECONNECT_MAX_MS))
                if keyring and self.server_key:
                    curve.encrypt_client(self._socket, keyring, self.server_key)
                self._monitor = self._socket.get_monitor_socket(UP | DOWN)
                undo.callback(self._monitor.close, linger=0)
                undo.callback(self._socket.disable_monitor)
                self._socket.connect(endpoint(self._socket, address))
                undo.pop_all()
        except zmq.ZMQError as error:
            raise UnreachableError(address, f"no connection can be made: {error.strerror}") from error
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in (self._socket, self._monitor)]
        self._receive_scheduled = False
        for descriptor, read in zip(self._descriptors, (self._receive, self._take_events), strict=True):
            self._loop.add_reader(descriptor, read)
        self._loop.call_soon(self._take_events)

    def send(self, frame: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        """Send a frame, at once or when the first connection is established, and return the reply as a future.

        Frames are sent in the order of the calls. The future raises UnreachableError if the frame was not sent, and
        DisconnectedError or TimedOutError if it was.

        Raises:
            UnreachableError: there is no connection, or too many requests are unanswered; nothing was sent.
        """
        if self.up is False:
            raise UnreachableError(self._address, "no connection")
        if len(self._waiting) >= self._in_flight:
            raise UnreachableError(self._address, f"{self._in_flight} requests are unanswered")
        self._numbers = (self._numbers + 1) % 2**32
        number = self._numbers
        if self.up:
            self._transmit(number, frame)
        else:
            self._unsent[number] = frame
            self._loop.call_later(min(CONNECT_WAIT_S, timeout_s), self._fail_unsent, number)
        self._waiting[number] = reply = self._loop.create_future()
        timed_out = TimedOutError(self._address, f"no reply in {timeout_s:.3g} s")
        timer = self._loop.call_later(timeout_s, self._fail, number, timed_out)
        reply.add_done_callback(lambda _: self._forget(number, timer))
        return reply

    def _transmit(self, number: int, frame: bytes) -> None:
        try:
            self._socket.send_multipart([_NUMBER.pack(number), b"", frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise UnreachableError(self._address, "no connection accepts a request") from error
        finally:
            self._schedule_receive()

    def _transmit_unsent(self) -> None:
        """Send the requests that waited for the first connection."""
        for number, frame in tuple(self._unsent.items()):
            try:
                self._transmit(number, frame)
            except UnreachableError as error:
                self._fail(number, error)
        self._unsent.clear()

    def _fail_unsent(self, number: int) -> None:
        """Fail a request that still waits for the first connection."""
        if self._unsent.pop(number, None) is not None:
            self._fail(number, UnreachableError(self._address, "no connection"))

    def _fail(self, number: int, error: PeerError) -> None:
        reply = self._waiting.get(number)
        if reply and not reply.done():
            reply.set_exception(error)

    def _schedule_receive(self) -> None:
        """Receive in the next iteration of the loop: the descriptor is edge-triggered, a send may clear its edge."""
        if not self._receive_scheduled:
            self._receive_scheduled = True
            self._loop.call_soon(self._receive)

    def _forget(self, number: int, timer: Handle) -> None:
        timer.cancel()
        self._waiting.pop(number, None)
        self._unsent.pop(number, None)

    def close(self) -> None:
        """Close the socket; unanswered requests fail with DisconnectedError."""
        self._fail_all(DisconnectedError(self._address, "the connection was closed"))
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    @property
    def outdated(self) -> bool:
        """True if libzmq will not reconnect, and the pause before a new connection is over."""
        return self.handshake_refused and time.monotonic() - self._created_s > REFUSED_RECONNECT_S

    def _receive(self) -> None:
        """Receive the replies that have arrived, and complete their futures."""
        self._receive_scheduled = False
        while not self._socket.closed and readable(self._socket):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 3 and len(frames[0]) == _NUMBER.size:  # noqa: PLR2004 (number, delimiter, frame)
                reply = self._waiting.get(_NUMBER.unpack(frames[0])[0])
                if reply and not reply.done():
                    reply.set_result(frames[2])

    def _take_events(self) -> None:
        """Read the monitor events; receive replies first, because they arrived before the connection was lost."""
        self._receive()
        while not self._monitor.closed and readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            self.handshake_refused = self.handshake_refused or event in HANDSHAKE_REFUSED
            self._update_state(event == UP)

    def _update_state(self, up: bool) -> None:
        """Note that the connection is established or lost: send or fail the requests, and call `watch`."""
        was_up, self.up = self.up, up
        if self.handshake_refused:
            self._loop.call_later(REFUSED_RECONNECT_S, self._reconnect, self._address)
        if up:
            self._transmit_unsent()
        else:
            self._fail_all(DisconnectedError(self._address, "the connection broke before the reply"))
        if up or was_up is not False:
            self._watch(self._address, up)

    def _fail_all(self, error: PeerError) -> None:
        """Fail all requests: those that were sent with `error`, the others with UnreachableError."""
        for number in list(self._unsent):
            self._fail_unsent(number)
        for number in list(self._waiting):
            self._fail(number, error)
