"""The Hazelcast map of recent messages: a projection of the journals.

Correctness never depends on what the map answers. A message is put when it is accepted, with a timeout of PUT_S. When
the map does not answer, or its members change, the first listed replica puts the recent messages again. Hazelcast
itself bounds the map by age and by heap (member.yaml).
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
from common.protocol.content import Entry
from nodes.hazelcast import put_all
from nodes.hazelcast.text import Text

log = structlog.get_logger()

MAP = "messages-map"
PUT_S = 0.1  # timeout of a put of new messages; 0.5 ms as a rule
OPERATION_S = 0.9  # timeout of any other operation
CONNECT_S = 30.0  # timeout of connecting at the start, and of reconnecting later; then this node gives up
CHUNK_BYTES = 1_048_576  # limit of one put: a member must hold all puts in flight, and eviction does not count them
CHUNK_MESSAGES = 1_000  # limit of one put
PUTS = 6  # limit of puts in flight; messages beyond it are left to the next repair
PROBE_S = 0.25  # between two checks of the list of members, and of a map that did not answer
QUIET_S = 3.0  # time without a change of members before the recent messages are put again
SIZE_S = 10.0  # between two counts of the map: each asks all partitions, and facades ask every second
OLD_MS = 60_000  # a message that is older when it is accepted is an import, and is not put into the map

T = TypeVar("T")


class Projection:
    """The map as one node fills it; created by `connect`.

    Args:
        client: a client of the members.
        messages: the map.
        observed: called with the duration of each successful put, in seconds.
        send: puts texts into the map; see `put_all.send`.

    Attributes:
        lost: set when no member could be reached for CONNECT_S.
        missed, puts_in_flight: messages that were not put when they were accepted; puts that have not ended.
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
        self._client = client
        self._map = messages
        self._observed = observed
        self._answers = True
        self._needs_repair = True  # the map may lack recent messages
        self.missed = self.puts_in_flight = 0
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
        """Connect to a running cluster; raises FatalError when no member can be reached within `connect_s`."""
        lost = asyncio.Event()
        settings = _settings(cluster_name, members, lost) | {"cluster_connect_timeout": connect_s}
        try:
            async with asyncio.timeout(connect_s + OPERATION_S):
                client = await HazelcastClient.create_and_start(**settings)
                read_text_only(client)
                return cls(client, await client.get_map(MAP), lost, observed)
        except (HazelcastError, OSError) as error:  # OSError: also the TimeoutError of the deadline
            raise FatalError(
                f"no Hazelcast member of {cluster_name!r} at {', '.join(members)}: {_first_line(error)}"
            ) from error

    def send(self, entries: Sequence[Entry], now_ms: int) -> "asyncio.Future[Any] | None":
        """Send messages to the map, at most CHUNK_MESSAGES with CHUNK_BYTES, but none that is older than OLD_MS.

        Returns: a future that is done when the map has them, and cancelled after PUT_S; None if nothing was sent.
        """
        oldest = ids.last_id(now_ms - OLD_MS)
        recent = [entry for entry in entries if entry.id > oldest]
        if not recent:
            return None
        if not self._answers or self.puts_in_flight >= PUTS:
            self._miss(len(recent))
            return None
        answer = self._begin_put(recent, PUT_S)
        answer.add_done_callback(partial(self._note_put, len(recent), asyncio.get_running_loop().time()))
        return answer

    def _begin_put(self, entries: Sequence[Entry], within_s: float) -> "asyncio.Future[Any]":
        self.puts_in_flight += 1
        answer = self._send(self._map, {key_of(entry.id): Text(entry.msg) for entry in entries})
        late = asyncio.get_running_loop().call_later(within_s, answer.cancel)

        def ended(_answer: object) -> None:
            late.cancel()
            self.puts_in_flight -= 1

        answer.add_done_callback(ended)
        return answer

    def _note_put(self, messages: int, began_s: float, answer: "asyncio.Future[Any]") -> None:
        """Note whether a put was done in time, even if nobody awaits it; if not, a repair puts the messages again."""
        if not (answer.cancelled() or answer.exception()):
            self._observed(asyncio.get_running_loop().time() - began_s)
            return
        reason = f"over {PUT_S} s" if answer.cancelled() else _first_line(cast(BaseException, answer.exception()))
        log.warning("the map did not take messages in time", reason=reason)
        self._answers = False
        self._miss(messages)

    def _miss(self, count: int) -> None:
        self.missed += count
        self._needs_repair = True

    @asynccontextmanager
    async def repairing(
        self, repairs: Callable[[], bool], recent: Callable[[], AsyncIterator[Entry]]
    ) -> AsyncIterator[None]:
        """While the block runs, put the recent messages again whenever the map may lack some.

        `repairs` returns True on the one replica that does this; `recent` yields the messages, the newest first.
        """
        task = asyncio.create_task(self._run_repairs(repairs, recent))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run_repairs(self, repairs: Callable[[], bool], recent: Callable[[], AsyncIterator[Entry]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PROBE_S)
            members = tuple(sorted(member.uuid for member in self._view()))
            if members != self._members:
                self._members, self._changed_s, self._needs_repair = members, loop.time(), True
            try:
                if not self._answers:
                    async with asyncio.timeout(OPERATION_S):
                        await _with_store_error(self._map.size())  # asks all partitions
                    self._answers = True
                if self._needs_repair and loop.time() - self._changed_s > QUIET_S:
                    self._needs_repair = False
                    if repairs():
                        await self.repair(recent)
            except (StoreError, TimeoutError):
                self._needs_repair = True

    async def repair(self, recent: Callable[[], AsyncIterator[Entry]]) -> None:
        """Put the recent messages in chunks while they are read: together they may not fit into memory."""
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
            log.info("the recent messages were put into the map again", messages=count)

    async def _put_chunk(self, entries: Sequence[Entry]) -> int:
        await asyncio.wait([answer := self._begin_put(entries, OPERATION_S)])
        if answer.cancelled() or answer.exception():
            raise StoreError("the map did not take the recent messages")
        return len(entries)

    # Inspection

    def member_count(self) -> int:
        """The number of members that this node sees."""
        return len(self._raw())

    def members(self) -> tuple[HazelcastMember, ...]:
        """The members that this node sees, each with the number of partitions that it owns."""
        partitions = self._client.partition_service
        owned = Counter(map(partitions.get_partition_owner, range(partitions.get_partition_count())))
        pairs = zip(self._view(), self._raw(), strict=True)
        return tuple(one._replace(partitions=owned[member.uuid]) for one, member in pairs)

    def _raw(self) -> list[Any]:
        return list(self._client.cluster_service.get_members())

    def _view(self) -> list[HazelcastMember]:
        return [HazelcastMember(str(one.uuid), f"{one.address.host}:{one.address.port}", 0) for one in self._raw()]

    async def entries(self) -> int:
        """The number of messages in the map, counted within the last SIZE_S; -1 before the first count."""
        now_s = asyncio.get_running_loop().time()
        if self._answers and now_s - self._sized_s >= SIZE_S:
            self._sized_s = now_s
            try:
                async with asyncio.timeout(PUT_S):
                    self._size = int(await _with_store_error(self._map.size()))
            except (StoreError, TimeoutError):
                self._sized_s = float("-inf")  # the next call counts again
        return self._size

    async def close(self) -> None:
        """Disconnect from the cluster."""
        try:
            async with asyncio.timeout(OPERATION_S):
                await self._client.shutdown()
        except (HazelcastError, OSError) as error:
            log.warning("the Hazelcast client did not close", reason=_first_line(error))


def read_text_only(client: HazelcastClient) -> None:
    """Restrict a client to reading null and text; any other value raises HazelcastSerializationError.

    By default the client unpickles values, also within lists, so anybody who can connect to a member could run code
    here. Uses private attributes of hazelcast-python-client 5.7; tests/cluster/hazelcast/test_map.py checks them.
    """
    registry = client._serialization_service._registry
    null, text = 0, 11
    registry._constant_type_ids = {kind: registry._constant_type_ids[kind] for kind in (null, text)}
    registry._id_dict = {}


def quiet_abandoned_calls(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler of an event loop: logs an abandoned Hazelcast call that fails later at level debug only."""
    error = context.get("exception")
    if isinstance(error, HazelcastError):
        log.debug("an abandoned Hazelcast call failed", reason=_first_line(error))
    else:
        loop.default_exception_handler(context)


def key_of(message_id: str) -> Text:
    """The key of a message. Ids of the same 16 ms (44 of 48 time bits) share a partition: a batch is one operation."""
    return Text(message_id, message_id[:8] + message_id[9:12])


def _settings(cluster_name: str, members: Sequence[str], lost: asyncio.Event) -> dict[str, Any]:
    return {  # times in seconds
        "cluster_name": cluster_name,
        "cluster_members": list(members),
        "connection_timeout": 1.0,
        "heartbeat_interval": 1.0,
        "heartbeat_timeout": 3.0,
        "invocation_retry_pause": 0.03,
        "invocation_timeout": 5.0,
        "redo_operation": True,  # safe: repeating a put changes nothing
        "fail_on_indeterminate_operation_state": True,  # a backup that did not answer is an error, not a success
        "operation_backup_timeout": 0.5,
        "statistics_enabled": False,
        "lifecycle_listeners": [_listener(lost)],
    }


def _listener(lost: asyncio.Event) -> Callable[[str], None]:
    def changed(state: str) -> None:  # must not raise: an exception here would break the client's connection
        log.info("the Hazelcast client changed its state", state=state.lower())
        if state == LifecycleState.SHUTDOWN:
            lost.set()

    return changed


async def _with_store_error(call: Awaitable[T]) -> T:
    """Await a call of the client; raises StoreError for each error of the client."""
    try:
        return await call
    except (HazelcastError, OSError, ExceptionGroup) as error:
        raise StoreError(f"Hazelcast failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
