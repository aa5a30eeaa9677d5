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

from common import codec, curve, origin, rpc, wire
from common.codec import Reply, Request
from common.errors import (
    DisconnectedError,
    FailedError,
    InvalidMessageError,
    PeerError,
    TimedOutError,
    UnreachableError,
)
from common.keyring import Keyring
from common.loops import Handle, Loop

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
                self._socket = rpc.limited(context.socket(zmq.DEALER), wire.REPLY_BYTES, queued=in_flight)
                undo.callback(self._socket.close, linger=0)
                rpc.prepare_client(self._socket, (RECONNECT_MS, RECONNECT_MAX_MS))
                if keyring and self.server_key:
                    curve.encrypt_client(self._socket, keyring, self.server_key)
                self._monitor = self._socket.get_monitor_socket(rpc.UP | rpc.DOWN)
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
        while not self._socket.closed and rpc.readable(self._socket):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 3 and len(frames[0]) == _NUMBER.size:  # noqa: PLR2004 (number, delimiter, frame)
                reply = self._waiting.get(_NUMBER.unpack(frames[0])[0])
                if reply and not reply.done():
                    reply.set_result(frames[2])

    def _take_events(self) -> None:
        """Take what has become of the connection; replies first, for they came before it broke."""
        self._take()
        while not self._monitor.closed and rpc.readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            self.given_up = self.given_up or event in rpc.GIVEN_UP
            self._change(event == rpc.UP)

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


class PipelinedTransport:
    """One Pipeline for each address; for one loop.

    Args:
        keyring: whose keys are used, and by which servers are known; None: in clear, with whoever answers.
        loop: that of the process; None: asyncio's, which runs.
        in_flight: most requests to one address that wait for their replies.
    """

    def __init__(self, keyring: Keyring | None = None, loop: Loop | None = None, *, in_flight: int = IN_FLIGHT) -> None:
        self._keyring = keyring
        self._in_flight = in_flight
        self._loop = loop or asyncio.get_running_loop()
        self._context = rpc.new_context()
        self._pipelines: dict[str, Pipeline] = {}
        self._watchers: dict[str, Watcher] = {}

    def watch(self, address: str, watcher: Watcher) -> None:
        """Connect to an address, and tell whenever the connection is there or broke."""
        self._watchers[address] = watcher
        with contextlib.suppress(PeerError):
            self._to(address)

    def is_up(self, address: str) -> bool:
        """True if there is a connection to the address."""
        return address in self._pipelines and bool(self._pipelines[address].up)

    async def call(self, address: str, request: Request, *, timeout_s: float) -> Reply:
        """The reply, also when it is a Failure.

        Raises:
            UnreachableError: nothing was sent.
            DisconnectedError, TimedOutError, FailedError: it was sent, and there is no valid reply.
        """
        return decoded(address, await self.send_when_connected(address, request, timeout_s=timeout_s))

    def send_when_connected(self, address: str, request: Request, *, timeout_s: float) -> "asyncio.Future[bytes]":
        """The same as `send` for the current request of a client, but it waits for the first connection."""
        return self._to(address).send(codec.encode(request, origin.current()), timeout_s)

    def send(self, address: str, request: Request, *, timeout_s: float) -> "asyncio.Future[bytes]":
        """The frame of the reply to come; requests to one address leave in the order of the calls.

        Raises:
            UnreachableError: there is no connection, nothing was sent.
        """
        pipeline = self._to(address)
        if not pipeline.up:
            raise UnreachableError(address, "no connection")
        return pipeline.send(codec.encode(request), timeout_s)

    def close(self) -> None:
        """Close all sockets."""
        for pipeline in self._pipelines.values():
            pipeline.close()
        self._pipelines.clear()
        self._context.term()

    def _to(self, address: str) -> Pipeline:
        key = self._keyring.key_of(address) if self._keyring else None
        if self._keyring and key is None:
            raise UnreachableError(address, "its public key is not known here")
        pipeline = self._pipelines.get(address)
        if pipeline and (pipeline.outdated or pipeline.server_key != key):
            self._pipelines.pop(address).close()
            pipeline = None
        if pipeline is None:
            watcher = self._watchers.get(address, lambda _address, _up: None)
            pipeline = Pipeline(
                self._loop,
                self._context,
                address,
                self._keyring,
                watch=watcher,
                renew=self._renew,
                in_flight=self._in_flight,
            )
            self._pipelines[address] = pipeline
        return pipeline

    def _renew(self, address: str) -> None:
        """Try again where a server refused the handshake: libzmq does not."""
        if address in self._pipelines and address in self._watchers:
            with contextlib.suppress(PeerError):
                self._to(address)


def decoded(address: str, frame: bytes) -> Reply:
    """The reply in a frame; raises FailedError for one that is none."""
    try:
        return codec.decode_reply(frame)
    except InvalidMessageError as error:
        raise FailedError(address, f"answered with an invalid frame: {error}") from error
