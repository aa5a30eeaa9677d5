"""What a process answers with: each request its one reply, and a limit on everything."""

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

IN_FLIGHT = 1_024  # requests that a server works on at once: two facades with 512 each
DRAIN_S = 5.0  # for what is in flight when a server is told to stop
DRAIN_PAUSE_S = 0.01  # between two checks whether all is answered
DRAIN_FRAMES = 64  # read at one go, before other tasks of the event loop get their turn
LAST_REPLIES_S = 0.1  # before a server closes: libzmq drops a reply that arrives together with the end of a connection
LOOK_S = 1.0  # between two looks at the connections, beside those at their news
TOLD_S = 10.0  # between two lines about connections that were refused


class Server:
    """A listener in an asyncio loop: exactly one reply to each request, from a task of its own or from `direct`.

    Args:
        address: host:port to bind.
        handler: answers one valid request; what it raises becomes a Failure.
        keyring: who may ask, and speak for whom; None: everybody, for anybody.
        direct: answers requests of its kinds instead of `handler`.
        in_flight, peer_in_flight: most requests at once, of all and of one connection; one more is answered OVERLOADED
            at once.
        connections: most at once; one more is not taken.

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
        self._of_peer: Counter[bytes] = Counter()
        self._unanswered = 0
        self._to_drain = False
        self._stopping = False

    @property
    def refused(self) -> Mapping[str, int]:
        """Connections that were refused, by the reason."""
        return self._listener.refused

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set, then finish what is in flight, for at most DRAIN_S, and close."""
        loop, (requests, news) = asyncio.get_running_loop(), self._listener.descriptors
        loop.add_reader(requests, self._drain)
        loop.add_reader(news, self._listener.take_events)
        looking = asyncio.create_task(self._look())
        self._drain()
        try:
            await stop.wait()
        finally:
            looking.cancel()
            for descriptor in (requests, news):
                loop.remove_reader(descriptor)
            self._stopping = True
            ends_s = loop.time() + DRAIN_S
            while self._unanswered and loop.time() < ends_s:
                await asyncio.sleep(DRAIN_PAUSE_S)
            await asyncio.sleep(LAST_REPLIES_S)
            self._listener.close()

    async def _look(self) -> None:
        """Say in a line what was refused, at most each TOLD_S: whoever knocks must not fill the log."""
        told, next_s = self._listener.refused.copy(), 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            self._listener.take_events()
            now, now_s = self._listener.refused.copy(), asyncio.get_running_loop().time()
            if now != told and now_s >= next_s:
                more = {reason: count - told[reason] for reason, count in now.items() if count != told[reason]}
                log.warning("connections refused", address=self._address, **more)
                told, next_s = now, now_s + TOLD_S

    def _drain(self) -> None:
        """Take what has arrived."""
        self._to_drain = False
        for _ in range(DRAIN_FRAMES):
            if self._stopping or (heard := self._listener.receive()) is None:
                return
            self._accept(heard)
        self._drain_soon()

    def _drain_soon(self) -> None:
        """Once, when what was taken before has had its turn; also after each send: the descriptor is edge-triggered."""
        if not self._to_drain:
            self._to_drain = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _accept(self, heard: IncomingRequest) -> None:
        peer = heard.envelope[0]
        if self._unanswered >= self._in_flight:
            self._refuse(heard, Code.OVERLOADED, f"{self._in_flight} requests are in flight")
        elif self._of_peer[peer] >= self._peer_in_flight:
            self._refuse(heard, Code.OVERLOADED, f"{self._peer_in_flight} requests of yours are in flight")
        elif heard.caller == "":
            self._refuse(heard, Code.FORBIDDEN, "your key is known here no more")
        else:
            self._of_peer[peer] += 1
            self._unanswered += 1
            self._begin(heard)

    def _begin(self, heard: IncomingRequest) -> None:
        try:
            request, source = codec.decode_request(heard.body[0] if len(heard.body) == 1 else b"")
        except InvalidMessageError as error:
            self._reply(heard, failure(Code.INVALID, str(error)))
            return
        if heard.caller is not None and (refused := _forbidden(heard.caller, request)):
            self._reply(heard, refused)
        elif isinstance(request, self._direct.kinds):
            self._take(heard, request)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(heard, request, source))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self, heard: IncomingRequest, request: Request) -> None:
        try:
            self._direct.take(request, lambda reply: self._reply(heard, reply))
        except Exception:
            self._reply(heard, defect())

    async def _answer(self, heard: IncomingRequest, request: Request, source: RequestContext | None) -> None:
        self._reply(heard, await answer_request(self._handler, request, source))

    def _reply(self, heard: IncomingRequest, reply: Reply) -> None:
        self._done(heard.envelope[0])
        self._listener.send(heard.envelope, codec.encode(reply))
        self._drain_soon()

    def _done(self, peer: bytes) -> None:
        self._unanswered -= 1
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]

    def _refuse(self, heard: IncomingRequest, code: Code, reason: str) -> None:
        self._listener.send(heard.envelope, codec.encode(Failure(code=code, reason=reason)))


def _forbidden(caller: str, request: Request) -> Failure | None:
    """The refusal of a request that names another sender than the caller; None for any other request."""
    if isinstance(request, Register | Deregister):
        sender = request.address
    elif isinstance(request, Join | Heartbeat | Replicate | Renew | Fence | Admit | Bootstrap):
        sender = request.node
    else:
        return None
    if sender == caller:
        return None
    return Failure(code=Code.FORBIDDEN, reason=f"the key of {caller} does not speak for {sender}")
