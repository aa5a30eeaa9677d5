"""Replies to appends: refusals of ids from the future and of messages that were not stored, and replies by keys."""

from collections.abc import Iterable, Sequence

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from common.protocol.messages import Appended, Code, Failure, failure
from common.protocol.vectors import VectorEntry
from nodes.replication.core.effects import AppendOutcome, FinishAppend


def ahead(entries: Sequence[Entry], now_ms: int, address: str) -> Failure | None:
    """The refusal of ids whose time is over ids.AHEAD_MS ahead of the node's clock, None if there are none.

    Such a message would stay the newest one until the clock reaches its time.
    """
    highest = max((entry.id for entry in entries), default="")
    if not highest or (ahead_ms := ids.time_ms(highest) - now_ms) <= ids.AHEAD_MS:
        return None
    return Failure(
        code=Code.AHEAD,
        reason=f"the time of id {highest} is {ahead_ms // 1_000} s ahead of the clock of {address}, "
        f"over the limit of {ids.AHEAD_MS // 1_000} s: set the clocks, or import with UUIDv7 ids",
    )


def not_stored(finishes: Iterable[FinishAppend]) -> Failure | None:
    """The refusal of a request of which a part was not stored, None if all of it was stored, except conflicts.

    Raises:
        StoreError: some of its messages may be stored.
    """
    refused: Failure | None = None
    for finish in finishes:
        match finish.outcome:
            case AppendOutcome.STORED | AppendOutcome.CONFLICT:
                pass
            case AppendOutcome.REFUSED:
                refused = failure(Code.STARTING, finish.reason)
            case AppendOutcome.UNKNOWN:
                raise StoreError(finish.reason)
    return refused


def by_keys(address: str, entries: Sequence[Entry], finishes: Sequence[FinishAppend]) -> tuple[Appended, list[Entry]]:
    """The reply to an append of which some messages have idempotency keys.

    Args:
        address: host:port of the node that replies.
        entries: the messages of the request.
        finishes: how the append of each message with a key ended, in their order, and then that of all others.

    Returns:
        The reply, and the messages that are stored, each under the id of the first message with its key.
    """
    of_keys = iter(finishes)
    stored_as: list[str] = []
    stored: list[Entry] = []
    conflicts: list[int] = []
    for place, entry in enumerate(entries):
        finish = next(of_keys) if entry.key else None
        stored_as.append(finish.message_id if finish and finish.message_id else entry.id)
        if finish and finish.outcome is AppendOutcome.CONFLICT:
            conflicts.append(place)
        else:
            stored.append(entry._replace(id=stored_as[-1]))
    versions: dict[int, int] = {}
    for one in finishes:
        if one.outcome is AppendOutcome.STORED:
            versions[one.origin] = max(one.upto, versions.get(one.origin, 0))
    vector = tuple(VectorEntry(*version) for version in versions.items())
    return Appended(node=address, stored_as=tuple(stored_as), conflicts=tuple(conflicts), vector=vector), stored
