"""Sends the requests of a replica to its peers, and reports the state of their connections to the core."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from common.batches import batched
from common.errors import PeerError, UnreachableError
from common.protocol.codec import Reply
from common.protocol.content import Entry, content_bytes
from common.protocol.messages import PAGE_MESSAGES, Append, Appended, Code, Failure
from common.rpc.pipelined import PipelinedTransport
from common.rpc.transport import decoded
from common.telemetry import request_context
from nodes.replication.core.claims import KeyedAppend
from nodes.replication.core.effects import AppendOutcome, FinishAppend, Send
from nodes.replication.core.machine import Core

FORWARDS = 32  # batches of forwarded appends in flight; the rest of the connections is for records and heartbeats
FORWARD_BYTES = 524_288  # of texts and fields in one of them, which stays below the limit of a frame
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
        self._forwarding: dict[str, list[_Forward]] = {}  # appends of this turn, by the owners of their keys

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
        """Forward an append with an idempotency key to the owner of the key, together with others of this turn.

        Args:
            append: the append.
            token: identifies the append at the runtime.
            owner: host:port of the replica that decides about the key.
            context: the context of the client's request, if there is one.

        Returns:
            How the append ended.
        """
        waiting = self._forwarding.setdefault(owner, [])
        if not waiting:
            self._loop.call_soon(self._forward_all, owner)
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        waiting.append(_Forward(append.entry, context, answer))
        reply, place = await answer
        return _finish(token, owner, reply, place)

    def _forward_all(self, owner: str) -> None:
        """Send the appends that wait for one owner, in as few requests as their sizes allow."""
        waiting = self._forwarding.pop(owner)
        for batch in batched(
            waiting, lambda one: content_bytes(one.entry), max_bytes=FORWARD_BYTES, max_items=PAGE_MESSAGES
        ):
            self._start(self._forward_batch(owner, batch))

    async def _forward_batch(self, owner: str, batch: Sequence["_Forward"]) -> None:
        request = Append(entries=tuple(one.entry for one in batch), forwarded=True)
        reply: Reply | PeerError
        try:
            async with self._forwards:
                with request_context.use(batch[0].context):
                    reply = await self._transport.call(owner, request, timeout_s=FORWARD_S)
        except PeerError as error:
            reply = error
        for place, one in enumerate(batch):
            if not one.answer.done():
                one.answer.set_result((reply, place))


_Answer = tuple[Reply | PeerError, int]  # the answer to a batch, and the place of an append in it


class _Forward(NamedTuple):
    """An append that is forwarded: its message, the context of its client, and the future of its answer."""

    entry: Entry
    context: request_context.RequestContext | None
    answer: "asyncio.Future[_Answer]"


def _finish(token: int, owner: str, reply: Reply | PeerError, place: int) -> FinishAppend:
    """How a forwarded append ended, by the answer to its batch."""
    match reply:
        case Appended(conflicts=conflicts) if place in conflicts:
            return FinishAppend(token, AppendOutcome.CONFLICT)
        case Appended(expired=expired) if place in expired:
            return FinishAppend(token, AppendOutcome.EXPIRED)
        case Appended(stored_as=stored_as, vector=((origin, upto), *_)) if place < len(stored_as):
            return FinishAppend(token, AppendOutcome.STORED, stored_as[place], origin, upto)
        case PeerError(reason=reason):
            outcome = AppendOutcome.REFUSED if isinstance(reply, UnreachableError) else AppendOutcome.UNKNOWN
            return FinishAppend(token, outcome, reason=f"{owner} decides about its key: {reason}")
        case Failure(code=code, reason=reason):
            outcome = AppendOutcome.UNKNOWN if code is Code.FAILED else AppendOutcome.REFUSED
            return FinishAppend(token, outcome, reason=reason)
        case _:
            return FinishAppend(token, AppendOutcome.UNKNOWN, reason=f"{owner} answered with {reply!r:.100}")
