"""The side that answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import zmq

from common import codec, wire
from common.codec import Reply, Request
from common.errors import FatalError, InvalidMessageError, ThreefoldError
from common.rpc.sockets import limited, readable
from common.wire import Code, Failure

log = logging.getLogger(__name__)

IN_FLIGHT = 1_024  # requests that a server works on at once: 64 threads of 16 facades
DRAIN_S = 5.0  # for what is in flight when a server is told to stop
DRAIN_FRAMES = 64  # read at one go, before other tasks of the event loop get their turn
LAST_REPLIES_S = 0.1  # before a server closes: libzmq drops a reply that arrives together with the end of a connection
LINGER_MS = 500  # for replies that are still in the socket of a server when it closes

Handler = Callable[[Request], Awaitable[Reply]]


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
        self._socket = limited(self._context.socket(zmq.ROUTER), wire.REQUEST_BYTES)
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
            if self._stopping or not readable(self._socket):
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
            log.warning("reply dropped reason=%s", error.strerror)


async def answer(handler: Handler, frame: bytes) -> Reply:
    """The reply to one frame, whatever is in it and whatever the handler does."""
    try:
        return await handler(codec.decode_request(frame))
    except InvalidMessageError as error:
        return Failure(code=Code.INVALID, reason=str(error)[:1_000])
    except ThreefoldError as error:
        return Failure(code=Code.FAILED, reason=str(error)[:1_000])
    except Exception:
        log.exception("a handler broke")  # a defect of ours: the log has the traceback, the peer does not
        return Failure(code=Code.FAILED, reason="internal error")
