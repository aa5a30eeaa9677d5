"""The server of a process: it sends exactly one reply to each request, and limits requests and connections."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import structlog

from common.errors import InvalidMessageError
from common.protocol import codec
from common.protocol.codec import Reply, Request
from common.protocol.messages import Code, Deregister, Failure, Register, failure
from common.protocol.replication import Admit, Bootstrap, Fence, Heartbeat, Join, Renew, Replicate
from common.rpc.handler import NO_DIRECT_HANDLER, DirectHandler, Handler, IncomingRequest, answer_request, defect
from common.rpc.zmq.listener import CONNECTIONS, Listener
from common.rpc.zmq.sockets import PEER_IN_FLIGHT
from common.security.keyring import Keyring
from common.telemetry.request_context import RequestContext

log = structlog.get_logger()

IN_FLIGHT = 1_024  # concurrent requests of a server; a logging node keeps a quarter of it for replication
DRAIN_S = 5.0  # time to finish the requests in flight when a server stops
DRAIN_PAUSE_S = 0.01  # interval between two checks whether all requests are answered
RECEIVE_FRAMES = 64  # requests received in a row, before other tasks of the event loop run
LAST_REPLIES_S = 0.1  # pause before a server closes: libzmq drops replies that arrive together with a disconnect
CHECK_INTERVAL_S = 1.0  # interval of checks for refused connections, in addition to those when an event arrives
REFUSED_LOG_S = 10.0  # interval between two log lines about refused connections


class Server:
    """Serves requests in an asyncio loop: each gets exactly one reply, from a task of its own or from `direct`.

    Args:
        address: host:port to bind.
        handler: answers one valid request; an exception that it raises becomes a Failure.
        keyring: the keys that are admitted, each for its own address; None: no authentication.
        direct: handles requests of its kinds instead of `handler`.
        in_flight, peer_in_flight: limits on concurrent requests, in total and of one connection; one more is answered
            OVERLOADED at once.
        connections: limit on open connections; one more is closed at once.

    Raises:
        FatalError: the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        handler: Handler,
        keyring: Keyring | None = None,
        *,
        direct: DirectHandler = NO_DIRECT_HANDLER,
        in_flight: int = IN_FLIGHT,
        peer_in_flight: int = PEER_IN_FLIGHT,
        connections: int = CONNECTIONS,
    ) -> None:
        self._address = address
        self._handler = handler
        self._direct = direct
        self._in_flight = in_flight
        self._peer_in_flight = peer_in_flight
        self._listener = Listener(address, keyring, connections=connections, queued=peer_in_flight)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered = 0
        self._unanswered_by_peer: Counter[bytes] = Counter()
        self._receive_scheduled = False
        self._stopping = False

    @property
    def refused(self) -> Mapping[str, int]:
        """The number of refused connections by reason."""
        return self._listener.refused

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish the requests in flight, for at most DRAIN_S, and close."""
        loop, (requests, events) = asyncio.get_running_loop(), self._listener.descriptors
        loop.add_reader(requests, self._receive)
        loop.add_reader(events, self._listener.take_events)
        logging_refused = asyncio.create_task(self._log_refused())
        self._receive()
        try:
            await stop.wait()
        finally:
            logging_refused.cancel()
            for descriptor in (requests, events):
                loop.remove_reader(descriptor)
            self._stopping = True
            ends_s = loop.time() + DRAIN_S
            while self._unanswered and loop.time() < ends_s:
                await asyncio.sleep(DRAIN_PAUSE_S)
            await asyncio.sleep(LAST_REPLIES_S)
            self._listener.close()

    async def _log_refused(self) -> None:
        """Log refused connections, at most one line each REFUSED_LOG_S, so that unknown clients cannot fill the log."""
        logged, next_s = self._listener.refused.copy(), 0.0
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            self._listener.take_events()
            now, now_s = self._listener.refused.copy(), asyncio.get_running_loop().time()
            if now != logged and now_s >= next_s:
                more = {reason: count - logged[reason] for reason, count in now.items() if count != logged[reason]}
                log.warning("connections refused", address=self._address, **more)
                logged, next_s = now, now_s + REFUSED_LOG_S

    def _receive(self) -> None:
        """Receive and accept the requests that have arrived."""
        self._receive_scheduled = False
        for _ in range(RECEIVE_FRAMES):
            if self._stopping or (incoming := self._listener.receive()) is None:
                return
            self._accept(incoming)
        self._schedule_receive()

    def _schedule_receive(self) -> None:
        """Receive in the next iteration of the loop; needed after each send: the descriptor is edge-triggered."""
        if not self._receive_scheduled:
            self._receive_scheduled = True
            asyncio.get_running_loop().call_soon(self._receive)

    def _accept(self, incoming: IncomingRequest) -> None:
        peer = incoming.envelope[0]
        if self._unanswered >= self._in_flight:
            self._refuse(incoming, Code.OVERLOADED, f"{self._in_flight} requests are in flight")
        elif self._unanswered_by_peer[peer] >= self._peer_in_flight:
            self._refuse(incoming, Code.OVERLOADED, f"{self._peer_in_flight} requests of yours are in flight")
        elif incoming.caller == "":
            self._refuse(incoming, Code.FORBIDDEN, "your public key is no longer known here")
        else:
            self._unanswered_by_peer[peer] += 1
            self._unanswered += 1
            self._dispatch(incoming)

    def _dispatch(self, incoming: IncomingRequest) -> None:
        try:
            request, source = codec.decode_request(incoming.body[0] if len(incoming.body) == 1 else b"")
        except InvalidMessageError as error:
            self._reply(incoming, failure(Code.INVALID, str(error)))
            return
        if incoming.caller is not None and (refused := _forbidden(incoming.caller, request)):
            self._reply(incoming, refused)
        elif isinstance(request, self._direct.kinds):
            self._handle_directly(incoming, request)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(incoming, request, source))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _handle_directly(self, incoming: IncomingRequest, request: Request) -> None:
        try:
            self._direct.take(request, lambda reply: self._reply(incoming, reply))
        except Exception:
            self._reply(incoming, defect())

    async def _answer(self, incoming: IncomingRequest, request: Request, source: RequestContext | None) -> None:
        self._reply(incoming, await answer_request(self._handler, request, source))

    def _reply(self, incoming: IncomingRequest, reply: Reply) -> None:
        self._done(incoming.envelope[0])
        self._listener.send(incoming.envelope, codec.encode(reply))
        self._schedule_receive()

    def _done(self, peer: bytes) -> None:
        self._unanswered -= 1
        self._unanswered_by_peer[peer] -= 1
        if not self._unanswered_by_peer[peer]:
            del self._unanswered_by_peer[peer]

    def _refuse(self, incoming: IncomingRequest, code: Code, reason: str) -> None:
        self._listener.send(incoming.envelope, codec.encode(Failure(code=code, reason=reason)))


def _forbidden(caller: str, request: Request) -> Failure | None:
    """The refusal of a request that names a sender other than the caller; None if the request is permitted."""
    if isinstance(request, Register | Deregister):
        sender = request.address
    elif isinstance(request, Join | Heartbeat | Replicate | Renew | Fence | Admit | Bootstrap):
        sender = request.node
    else:
        return None
    if sender == caller:
        return None
    return Failure(code=Code.FORBIDDEN, reason=f"the key of {caller} does not speak for {sender}")
