"""Messages in a Hazelcast Distributed Map: the only module that imports hazelcast.

Settings that are not explained here were measured on three real members: ../docs/design.md says how.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import structlog
from hazelcast.asyncio import HazelcastClient, Map
from hazelcast.errors import HazelcastError
from hazelcast.lifecycle import LifecycleState
from hazelcast.predicate import Predicate, and_, greater, less, less_or_equal, paging

from common import ids
from common.errors import FatalError, StoreError
from common.inspection import Member
from common.wire import MESSAGE_BYTES, PAGE_MESSAGES, UUID, Entry
from nodes.lately import Lately
from nodes.store import KEY_S, Claim, Figures

log = structlog.get_logger()

MAP, KEYS_MAP = "messages-map", "idempotency-keys"
OPERATION_S = (
    0.9  # for one step of a store; below the facade's attempt timeout (1 s), so that the node says what is wrong
)
CONNECT_S = 30.0  # to reach a cluster, at the start and again later; then this node gives up
WINDOW_MS = 64  # of the first window of a page: about one page of messages at full load
WINDOW_MESSAGES = 128  # that a window read from its end may have in any case
WINDOW_GROWTH = 16  # an empty window costs 0.6 ms; a year of silence is 9 windows

_MESSAGE_ID = re.compile(UUID)

T = TypeVar("T")


class Key(str):
    """The key of a message: ids of the same 16 ms are in one partition, so a batch is one operation, and not many.

    The client asks for the partition key of what it serializes; members, and who queries them, see plain text.
    """

    __slots__ = ()

    def get_partition_key(self) -> str:
        """The first 44 of the 48 bits of the time."""
        return self[:8] + self[9:12]


class HazelcastStore:
    """A Store on the map `messages-map`, key = message id, value = text; made by `connect`."""

    def __init__(
        self, client: HazelcastClient, messages: "Map[str, str]", keys: "Map[str, str]", lost: asyncio.Event
    ) -> None:
        self._client = client
        self._map = messages
        self._keys = keys
        self._entries = Lately(self._size, -1)
        self.lost = lost  # set when the cluster was out of reach for CONNECT_S: this store is of no use any more

    @classmethod
    async def connect(
        cls, cluster_name: str, members: Sequence[str], *, connect_s: float = CONNECT_S
    ) -> "HazelcastStore":
        """A store on a running cluster; raises FatalError when no member can be reached within `connect_s`."""
        lost = asyncio.Event()
        settings = _settings(cluster_name, members, lost) | {"cluster_connect_timeout": connect_s}
        try:
            async with asyncio.timeout(connect_s + OPERATION_S):
                client = await HazelcastClient.create_and_start(**settings)
                return cls(client, await client.get_map(MAP), await client.get_map(KEYS_MAP), lost)
        except (HazelcastError, OSError) as error:  # OSError: also the TimeoutError of the deadline
            raise FatalError(
                f"no Hazelcast member of {cluster_name!r} at {', '.join(members)}: {_first_line(error)}"
            ) from error

    async def append(self, message_id: str, text: str, key: str | None = None) -> None:
        """See Store; stored means: in memory at the owner and at all its synchronous backups."""
        del key  # claimed before
        await _within(_put_once(self._map, Key(message_id), text))

    async def append_all(self, entries: Sequence[Entry]) -> None:
        """See Store; put_all, because what is there already has the same text."""
        await _within(self._map.put_all({Key(entry.id): entry.msg for entry in entries}))

    async def claim(self, key: str, message_id: str, text_digest: str) -> Claim:
        """See Store."""
        found = await _within(_put_once(self._keys, key, f"{message_id} {text_digest}", ttl_s=KEY_S))
        return Claim(*found.split(" "))

    async def read(self, after: str, limit: int, *, before: str = "", newest_first: bool = False) -> list[Entry]:
        """See Store. Costs what the page costs, not what is stored, but for the first page, which sorts everything."""
        reading = (
            self._read_down(after, before, limit) if newest_first else self._up(self._window, after, before, limit)
        )
        return await _within(reading)

    async def ids(self, after: str, limit: int) -> list[str]:
        """See Half."""
        return await _within(self._up(self._ids_in, after, "", limit))

    async def expire(self, until: str) -> int:
        """See Store; a map does not tell how many."""
        await _within(self._map.remove_all(less_or_equal("__key", until)))
        return 0

    def view(self) -> tuple[str, ...]:
        """See Store."""
        return tuple(str(member.uuid) for member in self._client.cluster_service.get_members())

    async def figures(self) -> Figures:
        """See Store."""
        partitions = self._client.partition_service
        owned = Counter(map(partitions.get_partition_owner, range(partitions.get_partition_count())))
        members = tuple(
            Member(str(member.uuid), f"{member.address.host}:{member.address.port}", owned[member.uuid])
            for member in self._client.cluster_service.get_members()
        )
        return Figures(engine="hazelcast", members=members, entries=await self._entries.value())

    async def _size(self) -> int:
        """How many messages the map has: asks all partitions."""
        return int(await _within(self._map.size()))

    async def _up(
        self, window: Callable[[str, str, int], Awaitable[list[T]]], after: str, before: str, limit: int
    ) -> list[T]:
        found: list[T] = []
        for above, below in windows(after, before, now_ms=ids.now_ms()):
            if len(found) < limit:
                found += await window(above, below, limit - len(found))
        return found

    async def _read_down(self, after: str, before: str, limit: int) -> list[Entry]:
        """A predicate bounds what comes back only from the other end: so a window is read whole, or in halves."""
        found: list[Entry] = []
        now_ms = ids.now_ms()
        most = min(max(2 * limit, WINDOW_MESSAGES), PAGE_MESSAGES)
        following = list(windows_down(after, before, now_ms=now_ms))[::-1]
        while following and len(found) < limit:
            above, below = following.pop()
            window = await self._window(above, below, most)
            if len(window) == most:
                if middle_ms := _middle_ms(above, below, now_ms):
                    following += [(above, ids.first_id(middle_ms)), (ids.last_id(middle_ms - 1), below)]
                    continue
                while page := await self._window(window[-1].id, below, PAGE_MESSAGES):
                    window += page  # of one millisecond, or of a clock that is ahead
            found += reversed(window)
        return found[:limit]

    async def _window(self, above: str, below: str, limit: int) -> list[Entry]:
        """The first messages in a range of ids."""
        return [Entry(*row) for row in await _first(self._map.entry_set, above, below, limit)]

    async def _ids_in(self, above: str, below: str, limit: int) -> list[str]:
        return [row[0] for row in await _first(self._keys_alone, above, below, limit)]

    async def _keys_alone(self, predicate: Predicate) -> list[tuple[str]]:
        return [(key,) for key in await self._map.key_set(predicate)]

    async def close(self) -> None:
        """Leave the cluster."""
        try:
            async with asyncio.timeout(OPERATION_S):
                await self._client.shutdown()
        except (HazelcastError, OSError) as error:
            log.warning("the Hazelcast client did not close", reason=_first_line(error))


def windows(after: str, before: str, *, now_ms: int) -> Iterator[tuple[str, str]]:
    """Ranges of ids (above, below) that together cover what is asked for, each WINDOW_GROWTH times the one before.

    Without a `before` the last one has no end (""), so that ids of a facade whose clock is ahead are in it. Before the
    first message ("") no time is known, so there is only that one.
    """
    end_ms = min(now_ms, ids.time_ms(before)) if before else now_ms
    width_ms = WINDOW_MS
    while after and (until_ms := ids.time_ms(after) + width_ms) < end_ms:
        yield after, ids.first_id(until_ms)
        after = ids.last_id(until_ms - 1)
        width_ms *= WINDOW_GROWTH
    yield after, before


def windows_down(after: str, before: str, *, now_ms: int) -> Iterator[tuple[str, str]]:
    """The same from the newest on."""
    end_ms = min(now_ms, ids.time_ms(before)) if before else now_ms
    begin_ms = ids.time_ms(after) if after else 0
    width_ms = WINDOW_MS
    while (from_ms := end_ms - width_ms) > begin_ms:
        yield ids.last_id(from_ms - 1), before
        before, end_ms = ids.first_id(from_ms), from_ms
        width_ms *= WINDOW_GROWTH
    yield after, before


def _middle_ms(above: str, below: str, now_ms: int) -> int | None:
    """A millisecond at which a range of ids can be parted, so that each half is smaller; None when there is none."""
    begin_ms, end_ms = ids.time_ms(above) if above else 0, ids.time_ms(below) if below else now_ms
    middle_ms = (begin_ms + end_ms + 1) // 2
    return middle_ms if begin_ms + 1 < middle_ms < end_ms else None


def quiet_abandoned_calls(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler for the event loop: one line for what the client's abandoned tasks raise, no traceback."""
    error = context.get("exception")
    if isinstance(error, (HazelcastError, OSError)):
        log.debug("a call that nobody waits for failed", reason=_first_line(error))
    else:
        loop.default_exception_handler(context)


def _settings(cluster_name: str, members: Sequence[str], lost: asyncio.Event) -> dict[str, Any]:
    return {
        "cluster_name": cluster_name,
        "cluster_members": list(members),
        "connection_timeout": 1.0,
        "heartbeat_interval": 0.5,
        "heartbeat_timeout": 2.0,
        "invocation_retry_pause": 0.03,
        "invocation_timeout": 5.0,
        "redo_operation": True,  # safe: every operation of ours is idempotent
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


async def _put_once(entries: "Map[str, str]", key: str, value: str, *, ttl_s: float | None = None) -> str:
    """The value of the key, which is the given one if there was none before."""
    stored = await entries.put_if_absent(key, value, ttl_s)
    if stored is None:
        return value
    # It was there, maybe from an attempt whose backups failed, and finding it makes no backup: write it anew.
    await entries.replace_if_same(key, stored, stored)
    return stored


async def _first(
    ask: Callable[[Predicate], Awaitable[Sequence[tuple[Any, ...]]]], above: str, below: str, limit: int
) -> list[tuple[Any, ...]]:
    """The first rows of messages in a range of ids."""
    found: list[tuple[Any, ...]] = []
    full = True
    while full and len(found) < limit:
        wanted = limit - len(found)
        rows = sorted(await ask(paging(_range(above, below), wanted)))
        found += [row for row in rows if _ours(*row)]
        full = len(rows) == wanted  # then there may be more in this range, when some were not ours
        above = rows[-1][0] if rows else above
    return found


def _ours(key: object, value: object = "") -> bool:
    """Whether an entry of the map is a message: any Hazelcast client may have put something else there."""
    if isinstance(key, str) and isinstance(value, str) and _MESSAGE_ID.fullmatch(key) and len(value) <= MESSAGE_BYTES:
        return True
    log.warning("an entry of the map is no message and is left out", key=str(key)[:100])
    return False


def _range(above: str, below: str) -> Predicate:
    low = greater("__key", above)
    return and_(low, less("__key", below)) if below else low


async def _within(call: Awaitable[T]) -> T:
    """What the call returns, within OPERATION_S; `invocation_timeout` alone does not bound a stuck call."""
    try:
        async with asyncio.timeout(OPERATION_S):
            return await call
    except TimeoutError as error:
        raise StoreError(f"Hazelcast did not answer in {OPERATION_S} s") from error
    except (HazelcastError, OSError) as error:
        raise StoreError(f"Hazelcast failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:300]
