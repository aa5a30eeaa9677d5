"""Requests over ZeroMQ without waiting for the one before: how the processes of the nodes call each other.

Each address has one DEALER socket in the loop of the process. A request carries a number, by which its reply is found.
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

IN_FLIGHT = 64  # requests of one connection that wait for their replies; one more is refused at once
RECONNECT_MS, RECONNECT_MAX_MS = 20, 200
CONNECT_WAIT_S = 0.25  # that a request waits for the first connection
RENEW_S = 1.0  # after which a connection whose handshake was refused is made anew
PROBE_S = 0.5  # for a host to take or refuse a connection

_NUMBER = struct.Struct(">I")

Watcher = Callable[[str, bool], None]


class Pipeline:
    """One DEALER socket; made and used in one loop.

    Args:
        context: of the process.
        address: host:port of the server.
        keyring: whose keys are used; None: in clear.
        watch: told (address, True) when the connection is there, and (address, False) when it broke.
        renew: called with the address some time after the server refused the handshake.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        keyring: Keyring | None,
        watch: Watcher,
        renew: Callable[[str], None],
    ) -> None:
        self._address = address
        self._watch = watch
        self._renew = renew
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._loop = asyncio.get_running_loop()
        self._made_s = time.monotonic()
        self.server_key = keyring.key_of(address) if keyring else None
        self.given_up = False
        self.up: bool | None = None  # None: the first connection is still being made
        self._changed = asyncio.Event()
        try:
            with contextlib.ExitStack() as undo:
                self._socket = rpc.limited(context.socket(zmq.DEALER), wire.REPLY_BYTES, queued=IN_FLIGHT)
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

    async def call(self, frame: bytes, timeout_s: float) -> bytes:
        """The reply to a frame; raises UnreachableError, DisconnectedError or TimedOutError."""
        if self.up is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(CONNECT_WAIT_S, timeout_s))
        if not self.up:
            raise UnreachableError(self._address, "no connection")
        return await self.send(frame, timeout_s)

    def send(self, frame: bytes, timeout_s: float) -> "asyncio.Future[bytes]":
        """The reply to come; the frame has left, in the order of the calls, when this returns."""
        if len(self._waiting) >= IN_FLIGHT:
            raise UnreachableError(self._address, f"{IN_FLIGHT} requests wait for their replies already")
        self._numbers = (self._numbers + 1) % 2**32
        number = self._numbers
        try:
            self._socket.send_multipart([_NUMBER.pack(number), b"", frame], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise UnreachableError(self._address, "no connection takes a request") from error
        finally:
            self._take_soon()
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[number] = reply
        timer = self._loop.call_later(timeout_s, self._time_out, number, timeout_s)
        reply.add_done_callback(lambda _: self._forget(number, timer))
        return reply

    def _take_soon(self) -> None:
        """Look for replies in the next turn: the descriptor is edge-triggered, and a send may take its edge away."""
        if not self._to_take:
            self._to_take = True
            self._loop.call_soon(self._take)

    def _forget(self, number: int, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._waiting.pop(number, None)

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
        self._changed.set()
        if self.given_up:
            self._loop.call_later(RENEW_S, self._renew, self._address)
        if not up:
            self._end_all(DisconnectedError(self._address, "the connection broke before the reply"))
        if up or was is not False:
            self._watch(self._address, up)

    def _end_all(self, error: PeerError) -> None:
        for reply in list(self._waiting.values()):
            if not reply.done():
                reply.set_exception(error)

    def _time_out(self, number: int, timeout_s: float) -> None:
        reply = self._waiting.get(number)
        if reply and not reply.done():
            reply.set_exception(TimedOutError(self._address, f"no reply in {timeout_s:.3g} s"))


class PipelinedTransport:
    """One Pipeline for each address; for one loop.

    Args:
        keyring: whose keys are used, and by which servers are known; None: in clear, with whoever answers.
    """

    def __init__(self, keyring: Keyring | None = None) -> None:
        self._keyring = keyring
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
        frame = await self._to(address).call(codec.encode(request, origin.current()), timeout_s)
        return decoded(address, frame)

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
            pipeline = Pipeline(self._context, address, self._keyring, watcher, self._renew)
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


async def refuses(host: str, port: int) -> bool:
    """True if the host answers that nobody listens at the port: the process there has ended."""
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
