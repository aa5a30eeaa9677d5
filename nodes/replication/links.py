"""Sends the requests of a replica to its peers, and reports the state of their connections to the core."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from common.errors import PeerError, UnreachableError
from common.protocol.codec import Reply
from common.protocol.messages import Append, Appended, Code, Failure
from common.rpc.pipelined import PipelinedTransport
from common.rpc.transport import decoded
from common.telemetry import request_context
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import AppendOutcome, FinishAppend, Send
from nodes.replication.core.machine import Core

FORWARDS = 32  # forwarded appends in flight; limited to leave room for records and heartbeats on the same connections
REQUEST_S = 1.0  # timeout for a peer's answer
FORWARD_S = 0.8  # timeout for a forwarded append; below the node's own limit (STEP_S), so that the reply has a reason


class Links:
    """The connections of one replica to its peers.

    Args:
        core: the core of the replica; it receives the answers.
        transport: sends requests.
        wake: called after each event.
        start: runs a coroutine in the background.
    """

    def __init__(
        self,
        core: Core,
        transport: PipelinedTransport,
        wake: Callable[[], None],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._core = core
        self._transport = transport
        self._wake = wake
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._watched: set[str] = set()
        self._forwards = asyncio.Semaphore(FORWARDS)

    def send(self, effect: Send) -> None:
        """Send a request to a peer, and pass its answer, or None for none, to the core."""
        if effect.address not in self._watched:
            self._watched.add(effect.address)
            self._transport.watch(effect.address, self._connection)
        try:
            reply = self._transport.send(effect.address, effect.message, timeout_s=REQUEST_S)
        except PeerError:
            self._loop.call_soon(self._answered, effect, None)
            return
        reply.add_done_callback(lambda done: self._answered(effect, done))

    def _answered(self, effect: Send, done: "asyncio.Future[bytes] | None") -> None:
        reply: Reply | None = None
        if done is not None and not done.cancelled() and done.exception() is None:
            with contextlib.suppress(PeerError):
                reply = decoded(effect.address, done.result())
        self._core.answered(effect.address, effect.number, effect.message, reply, self._loop.time())
        self._wake()

    def _connection(self, address: str, up: bool) -> None:
        self._core.connection(address, self._loop.time(), up=up)
        if not up:
            self._start(self._probe(address))
        self._wake()

    async def _probe(self, address: str) -> None:
        """Report to the core if the peer's host refuses a connection: then the process there has ended."""
        if await self._transport.refuses(address) and not self._transport.is_up(address):
            self._core.connection(address, self._loop.time(), up=False, refused=True)

    async def forward(
        self, append: KeyedAppend, token: int, owner: str, context: request_context.RequestContext | None
    ) -> FinishAppend:
        """Forward an append with an idempotency key to the owner of the key.

        Args:
            append: the append.
            token: identifies the append at the runtime.
            owner: host:port of the replica that decides about the key.
            context: the context of the client's request, if there is one.

        Returns:
            How the append ended.
        """
        request = Append(entries=(append.entry,), forwarded=True)
        try:
            async with self._forwards:
                with request_context.use(context):
                    reply = await self._transport.call(owner, request, timeout_s=FORWARD_S)
        except UnreachableError as error:
            return FinishAppend(token, AppendOutcome.REFUSED, reason=f"{owner} decides about its key: {error.reason}")
        except PeerError as error:
            return FinishAppend(token, AppendOutcome.UNKNOWN, reason=f"{owner} decides about its key: {error.reason}")
        match reply:
            case Appended(conflicts=(_,)):
                return FinishAppend(token, AppendOutcome.CONFLICT)
            case Appended(stored_as=(message_id,), vector=((origin, upto),)):
                return FinishAppend(token, AppendOutcome.STORED, message_id, origin, upto)
            case Failure(code=code, reason=reason):
                outcome = AppendOutcome.UNKNOWN if code is Code.FAILED else AppendOutcome.REFUSED
                return FinishAppend(token, outcome, reason=reason)
            case _:
                return FinishAppend(token, AppendOutcome.UNKNOWN, reason=f"{owner} answered with {reply!r:.100}")
