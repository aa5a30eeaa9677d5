"""Requests over ZeroMQ without waiting for the one before: how the processes of the nodes call each other.

Each address has one DEALER socket in the loop of the process. A request carries a number, by which its reply is found.
A facade has a loop of its own (`facade.server.scheduler`), with the part of asyncio's interface that is used here.
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
from common.rpc.zmq.sockets import DOWN, GIVEN_UP, UP, limited, prepare_client, readable
from common.security.keyring import Keyring

IN_FLIGHT = 64  # requests of one connection that wait for their replies, if nobody wants more; one more is refused
RECONNECT_MS, RECONNECT_MAX_MS = 20, 200
CONNECT_WAIT_S = 0.25  # that a request waits for the first connection
RENEW_S = 1.0  # after which a connection whose handshake was refused is made anew

_NUMBER = struct.Struct(">I")

Watcher = Callable[[str, bool], None]


class Pipeline:
    """One DEALER socket; made and used in one loop.

    Args:
        loop, context: of the process.
        address: host:port of the server.
        keyring: whose keys are used; None: in clear.
        watch: told (address, True) when the connection is there, and (address, False) when it broke.
        renew: called with the address some time after the server refused the handshake.
        in_flight: most requests that wait for their replies; one more is refused at once.
    """

    def __init__(
        self,
        loop: Loop,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        keyring: Keyring | None,
        *,
        watch: Watcher,
        renew: Callable[[str], None],
        in_flight: int,
    ) -> None:
        self._address = address
        self._watch = watch
        self._renew = renew
        self._in_flight = in_flight
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._unsent: dict[int, bytes] = {}
        self._loop = loop
        self._made_s = time.monotonic()
        self.server_key = keyring.key_of(address) if keyring else None
        self.given_up = False
        self.up: bool | None = None  # None: the first connection is still being made
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
                self._socket.connect(f"tcp://{address}")
                undo.pop_all()
        except zmq.ZMQError as error:
            raise UnreachableError(address, f"no connection can be made: {error.strerror}") from error
        self._descriptors = [int(socket.getsockopt(zmq.FD)) for socket in (self._socket, self._monitor)]
        self._to_take = False
        for descriptor, take in zip(self._descriptors, (self._take, self._take_events), strict=True):
            self._loop.add_reader(descriptor, take)
        self._loop.call_soon(self._take_events)

    def send(self, frame: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        """The reply to come. Frames leave in the order of the calls: now, or when the first connection is made.

        Raises:
            UnreachableError: nothing was sent. The reply raises the same, DisconnectedError or TimedOutError.
        """
        if self.up is False:
            raise UnreachableError(self._address, "no connection")
        if len(self._waiting) >= self._in_flight:
            raise UnreachableError(self._address, f"{self._in_flight} requests wait for their replies already")
        self._numbers = (self._numbers + 1) % 2**32
        number = self._numbers
        if self.up:
            self._transmit(number, frame)
        else:
            self._unsent[number] = frame
            self._loop.call_later(min(CONNECT_WAIT_S, timeout_s), self._give_up, number)
        self._waiting[number] = reply = self._loop.create_future()
        late = TimedOutError(self._address, f"no reply in {timeout_s:.3g} s")
        timer = self._loop.call_later(timeout_s, self._fail, number, late)
        reply.add_done_callback(lambda _: self._forget(number, timer))
        return reply

    def _transmit(self, number: int, frame: bytes) -> None:
        try:
            self._socket.send_multipart([_NUMBER.pack(number), b"", frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise UnreachableError(self._address, "no connection takes a request") from error
        finally:
            self._take_soon()

    def _transmit_unsent(self) -> None:
        """The first connection is there."""
        for number, frame in tuple(self._unsent.items()):
            try:
                self._transmit(number, frame)
            except UnreachableError as error:
                self._fail(number, error)
        self._unsent.clear()

    def _give_up(self, number: int) -> None:
        """The first connection takes too long."""
        if self._unsent.pop(number, None) is not None:
            self._fail(number, UnreachableError(self._address, "no connection"))

    def _fail(self, number: int, error: PeerError) -> None:
        reply = self._waiting.get(number)
        if reply and not reply.done():
            reply.set_exception(error)

    def _take_soon(self) -> None:
        """Look for replies in the next turn: the descriptor is edge-triggered, and a send may take its edge away."""
        if not self._to_take:
            self._to_take = True
            self._loop.call_soon(self._take)

    def _forget(self, number: int, timer: Handle) -> None:
        timer.cancel()
        self._waiting.pop(number, None)
        self._unsent.pop(number, None)

    def close(self) -> None:
        """Drop what is under way."""
        self._end_all(DisconnectedError(self._address, "the connection was closed"))
        for descriptor in self._descriptors:
            self._loop.remove_reader(descriptor)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    @property
    def outdated(self) -> bool:
        """True if libzmq will not try again, and it is time for a new connection."""
        return self.given_up and time.monotonic() - self._made_s > RENEW_S

    def _take(self) -> None:
        """Take the replies that have come."""
        self._to_take = False
        while not self._socket.closed and readable(self._socket):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 3 and len(frames[0]) == _NUMBER.size:  # noqa: PLR2004 (number, delimiter, frame)
                reply = self._waiting.get(_NUMBER.unpack(frames[0])[0])
                if reply and not reply.done():
                    reply.set_result(frames[2])

    def _take_events(self) -> None:
        """Take what has become of the connection; replies first, for they came before it broke."""
        self._take()
        while not self._monitor.closed and readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            self.given_up = self.given_up or event in GIVEN_UP
            self._change(event == UP)

    def _change(self, up: bool) -> None:
        was, self.up = self.up, up
        if self.given_up:
            self._loop.call_later(RENEW_S, self._renew, self._address)
        if up:
            self._transmit_unsent()
        else:
            self._end_all(DisconnectedError(self._address, "the connection broke before the reply"))
        if up or was is not False:
            self._watch(self._address, up)

    def _end_all(self, error: PeerError) -> None:
        for number in list(self._unsent):
            self._give_up(number)
        for number in list(self._waiting):
            self._fail(number, error)
