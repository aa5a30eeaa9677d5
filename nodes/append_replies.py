"""Replies to appends: refusals of ids from the future and of messages that were not stored, and replies by keys."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from common import ids
from common.errors import StoreError
from common.protocol.content import Entry
from common.protocol.messages import Append, Appended, Code, Failure, failure
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
    """The refusal of a request of which nothing was stored, None if all of it was stored, except conflicts.

    Raises:
        StoreError: some of its messages are stored, or may be, but not all of them.
    """
    reasons = {finish.outcome: finish.reason for finish in finishes}
    if AppendOutcome.UNKNOWN in reasons:
        raise StoreError(reasons[AppendOutcome.UNKNOWN])
    if AppendOutcome.REFUSED not in reasons:
        return None
    if AppendOutcome.STORED in reasons:
        raise StoreError(f"a part of the batch is stored: {reasons[AppendOutcome.REFUSED]}")
    return failure(Code.STARTING, reasons[AppendOutcome.REFUSED])


def only(request: Append, kept: Sequence[int]) -> Append:
    """The request with the messages at some places only."""
    contexts = tuple(request.contexts[place] for place in kept) if request.contexts else ()
    return structs.replace(request, entries=tuple(request.entries[place] for place in kept), contexts=contexts)


def with_expired(appended: Appended, entries: Sequence[Entry], kept: Sequence[int]) -> Appended:
    """The reply to a whole request of which only the messages at some places were stored; the others are expired.

    Args:
        appended: the reply about the kept messages.
        entries: the messages of the request.
        kept: the places of the messages that were kept.
    """
    stored_as = [entry.id for entry in entries]
    for place, message_id in zip(kept, appended.stored_as, strict=False):
        stored_as[place] = message_id
    return structs.replace(
        appended,
        stored_as=tuple(stored_as) if appended.stored_as else (),
        conflicts=tuple(kept[place] for place in appended.conflicts),
        expired=tuple(sorted({*range(len(entries))} - {*kept} | {kept[place] for place in appended.expired})),
    )


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
    expired: list[int] = []
    for place, entry in enumerate(entries):
        finish = next(of_keys) if entry.key else None
        stored_as.append(finish.message_id if finish and finish.message_id else entry.id)
        if finish and finish.outcome is AppendOutcome.CONFLICT:
            conflicts.append(place)
        elif finish and finish.outcome is AppendOutcome.EXPIRED:
            expired.append(place)
        else:
            stored.append(entry._replace(id=stored_as[-1]))
    versions: dict[int, int] = {}
    for one in finishes:
        if one.outcome is AppendOutcome.STORED:
            versions[one.origin] = max(one.upto, versions.get(one.origin, 0))
    vector = tuple(VectorEntry(*version) for version in versions.items())
    appended = Appended(
        node=address,
        stored_as=tuple(stored_as),
        conflicts=tuple(conflicts),
        expired=tuple(expired),
        vector=vector,
    )
    return appended, stored
