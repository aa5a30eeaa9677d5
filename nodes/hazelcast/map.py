"""The Hazelcast map of recent messages: a view of the journals.

Nothing depends on what the map answers. A message is put when it is accepted, and that is awaited for PUT_S. When the
map does not answer, or its members change, the first listed replica puts the recent messages again. Hazelcast itself
bounds the map, by age and by heap (member.yaml).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import HazelcastError
from hazelcast.lifecycle import LifecycleState

from common import ids
from common.errors import FatalError, StoreError
from common.protocol.admin import HazelcastMember
from common.protocol.messages import Entry
from nodes.hazelcast import put_all
from nodes.hazelcast.text import Text

log = structlog.get_logger()

MAP = "messages-map"
PUT_S = 0.1  # for the map to take a message: 0.5 ms as a rule
OPERATION_S = 0.9  # for any other step
CONNECT_S = 30.0  # to reach a cluster at the start, and again later; then this node gives up
CHUNK_BYTES = 1_048_576  # in one put: eviction does not see what is on its way, and a member has to hold all of that
CHUNK_MESSAGES = 1_000
PUTS = 6  # at once; while as many are under way, messages are left to the next repair
PROBE_S = 0.25  # between two looks at a map that did not answer, and at the members
QUIET_S = 3.0  # without a change of members before the recent messages are put again
SIZE_S = 10.0  # between two counts of the map: each asks all partitions, and facades ask each second
OLD_MS = 60_000  # what is so old when it comes is an import, and stays out of the map

T = TypeVar("T")


class Projection:
    """The map, as one node fills it; made by `connect`.

    Args:
        client: of the members.
        messages: the map.
        observed: told how long each put took, in seconds.
        send: puts texts; see `putting.send`.

    Attributes:
        lost: given; set when no member could be reached for CONNECT_S.
    """

    def __init__(
        self,
        client: HazelcastClient,
        messages: "Map[Text, Text]",
        lost: asyncio.Event,
        observed: Callable[[float], object],
        send: "Callable[[Map[Text, Text], dict[Text, Text]], asyncio.Future[Any]]" = put_all.send,
    ) -> None:
        self.lost = lost
        self._send = send
        self.missed = 0
        self._client = client
        self._map = messages
        self._observed = observed
        self._answers = True
        self._lacking = True  # the map may lack recent messages
        self._puts = 0
        self._size = -1
        self._sized_s = float("-inf")
        self._members: tuple[str, ...] = ()
        self._changed_s = asyncio.get_running_loop().time()

    @classmethod
    async def connect(
        cls,
        cluster_name: str,
        members: Sequence[str],
        *,
        connect_s: float = CONNECT_S,
        observed: Callable[[float], object] = lambda _seconds: None,
    ) -> "Projection":
        """The map of a running cluster; raises FatalError when no member can be reached within `connect_s`."""
        lost = asyncio.Event()
        settings = _settings(cluster_name, members, lost) | {"cluster_connect_timeout": connect_s}
        try:
            async with asyncio.timeout(connect_s + OPERATION_S):
                client = await HazelcastClient.create_and_start(**settings)
                read_text_alone(client)
                return cls(client, await client.get_map(MAP), lost, observed)
        except (HazelcastError, OSError) as error:  # OSError: also the TimeoutError of the deadline
            raise FatalError(
                f"no Hazelcast member of {cluster_name!r} at {', '.join(members)}: {_first_line(error)}"
            ) from error

    def send(self, entries: Sequence[Entry]) -> "asyncio.Future[Any] | None":
        """Send messages to the map, at most CHUNK_MESSAGES with CHUNK_BYTES.

        Returns: a future that ends when the map has them, and is cancelled after PUT_S; None if nothing was sent.
        """
        oldest = ids.last_id(ids.now_ms() - OLD_MS)
        recent = [entry for entry in entries if entry.id > oldest]
        if not recent:
            return None
        if not self._answers or self._puts >= PUTS:
            self._miss(len(recent))
            return None
        answer = self._begin_put(recent, PUT_S)
        answer.add_done_callback(partial(self._note_put, len(recent), asyncio.get_running_loop().time()))
        return answer

    def _begin_put(self, entries: Sequence[Entry], within_s: float) -> "asyncio.Future[Any]":
        self._puts += 1
        answer = self._send(self._map, {key_of(entry.id): Text(entry.msg) for entry in entries})
        late = asyncio.get_running_loop().call_later(within_s, answer.cancel)

        def ended(_answer: object) -> None:
            late.cancel()
            self._puts -= 1

        answer.add_done_callback(ended)
        return answer

    def _note_put(self, messages: int, began_s: float, answer: "asyncio.Future[Any]") -> None:
        """Note whether the map took messages in time, also when nobody waits for it; the others are put again later."""
        if not (answer.cancelled() or answer.exception()):
            self._observed(asyncio.get_running_loop().time() - began_s)
            return
        reason = f"over {PUT_S} s" if answer.cancelled() else _first_line(cast(BaseException, answer.exception()))
        log.warning("the map did not take messages in time", reason=reason)
        self._answers = False
        self._miss(messages)

    def _miss(self, count: int) -> None:
        self.missed += count
        self._lacking = True

    @asynccontextmanager
    async def kept(
        self, repairs: Callable[[], bool], recent: Callable[[], AsyncIterator[Entry]]
    ) -> AsyncIterator[None]:
        """While the block runs, put the recent messages again whenever the map may lack some.

        `repairs` is true for the one replica that does it, `recent` are the messages, the newest first.
        """
        task = asyncio.create_task(self._keep(repairs, recent))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep(self, repairs: Callable[[], bool], recent: Callable[[], AsyncIterator[Entry]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PROBE_S)
            members = tuple(sorted(member.uuid for member in self._view()))
            if members != self._members:
                self._members, self._changed_s, self._lacking = members, loop.time(), True
            try:
                if not self._answers:
                    async with asyncio.timeout(OPERATION_S):
                        await _mapped(self._map.size())  # asks all partitions
                    self._answers = True
                if self._lacking and loop.time() - self._changed_s > QUIET_S:
                    self._lacking = False
                    if repairs():
                        await self._repair(recent)
            except (StoreError, TimeoutError):
                self._lacking = True

    async def _repair(self, recent: Callable[[], AsyncIterator[Entry]]) -> None:
        """Put the recent messages chunk by chunk while they are read: together they may not fit into memory."""
        chunk: list[Entry] = []
        count = size = 0
        async for entry in recent():
            chunk.append(entry)
            size += len(entry.msg)
            if size >= CHUNK_BYTES or len(chunk) == CHUNK_MESSAGES:
                count += await self._put_chunk(chunk)
                chunk, size = [], 0
        if chunk:
            count += await self._put_chunk(chunk)
        if count:
            log.info("the map was given the recent messages again", messages=count)

    async def _put_chunk(self, entries: Sequence[Entry]) -> int:
        answer = self._begin_put(entries, OPERATION_S)
        await asyncio.wait([answer])
        if answer.cancelled() or answer.exception():
            raise StoreError("the map did not take the recent messages")
        return len(entries)

    # How it is

    def member_count(self) -> int:
        """How many members this node sees."""
        return len(self._raw())

    def members(self) -> tuple[HazelcastMember, ...]:
        """The members that this node sees, each with the partitions that it owns."""
        partitions = self._client.partition_service
        owned = Counter(map(partitions.get_partition_owner, range(partitions.get_partition_count())))
        return tuple(
            one._replace(partitions=owned[member.uuid]) for one, member in zip(self._view(), self._raw(), strict=True)
        )

    def _raw(self) -> list[Any]:
        return list(self._client.cluster_service.get_members())

    def _view(self) -> list[HazelcastMember]:
        return [HazelcastMember(str(one.uuid), f"{one.address.host}:{one.address.port}", 0) for one in self._raw()]

    async def entries(self) -> int:
        """How many messages the map had within the last SIZE_S; -1 before it has said so."""
        now_s = asyncio.get_running_loop().time()
        if self._answers and now_s - self._sized_s >= SIZE_S:
            self._sized_s = now_s
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(PUT_S):
                    self._size = int(await _mapped(self._map.size()))
        return self._size

    async def close(self) -> None:
        """Leave the cluster."""
        try:
            async with asyncio.timeout(OPERATION_S):
                await self._client.shutdown()
        except (HazelcastError, OSError) as error:
            log.warning("the Hazelcast client did not close", reason=_first_line(error))


def read_text_alone(client: HazelcastClient) -> None:
    """Let a client read nothing but null and text; everything else raises HazelcastSerializationError.

    By itself it unpickles what it finds, also within lists: whoever reaches the port of a member could run code here.
    These are private attributes of hazelcast-python-client 5.7; tests/unit/nodes/hazelcast/test_map.py holds them.
    """
    registry = client._serialization_service._registry
    null, text = 0, 11
    registry._constant_type_ids = {kind: registry._constant_type_ids[kind] for kind in (null, text)}
    registry._id_dict = {}


def quiet_abandoned_calls(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `set_exception_handler`: a call that was given up and fails later is told in a line of debugging only."""
    error = context.get("exception")
    if isinstance(error, HazelcastError):
        log.debug("a Hazelcast call that was given up failed", reason=_first_line(error))
    else:
        loop.default_exception_handler(context)


def key_of(message_id: str) -> Text:
    """Ids of the same 16 ms (44 of the 48 bits of their time) are in one partition: a batch is one operation."""
    return Text(message_id, message_id[:8] + message_id[9:12])


def _settings(cluster_name: str, members: Sequence[str], lost: asyncio.Event) -> dict[str, Any]:
    return {
        "cluster_name": cluster_name,
        "cluster_members": list(members),
        "connection_timeout": 1.0,
        "heartbeat_interval": 1.0,
        "heartbeat_timeout": 3.0,
        "invocation_retry_pause": 0.03,
        "invocation_timeout": 5.0,
        "redo_operation": True,  # safe: a put that is made twice changes nothing
        "fail_on_indeterminate_operation_state": True,  # a backup that did not answer is an error, not a success
        "operation_backup_timeout": 0.5,
        "statistics_enabled": False,
        "lifecycle_listeners": [_listener(lost)],
    }


def _listener(lost: asyncio.Event) -> Callable[[str], None]:
    def changed(state: str) -> None:  # must not raise: an exception here would break the client's connection
        log.info("the Hazelcast client has another state", state=state.lower())
        if state == LifecycleState.SHUTDOWN:
            lost.set()

    return changed


async def _mapped(call: Awaitable[T]) -> T:
    """What a call returns; raises StoreError for what the client raises."""
    try:
        return await call
    except (HazelcastError, OSError, ExceptionGroup) as error:
        raise StoreError(f"Hazelcast failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
